/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding of NBD replies, simple and structured. */
#include "frontends/nbd/nbd-reply.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-request.h"

static unsigned simple(unsigned char *head, const struct nbd_request *request, uint32_t error)
{
    be32_store(head, NBD_SIMPLE_REPLY_MAGIC);
    be32_store(head + 4, error);
    memcpy(head + 8, request->cookie, sizeof(request->cookie));
    return NBD_SIMPLE_REPLY_BYTES;
}

unsigned nbd_reply_chunk(unsigned char *head, const struct nbd_request *request,
                         enum nbd_style style, enum nbd_reply_type type, uint64_t bytes)
{
    be16_store(head + 4, 0);
    be16_store(head + 6, (uint16_t)type);
    memcpy(head + 8, request->cookie, sizeof(request->cookie));
    if (style == NBD_STYLE_EXTENDED) {
        be32_store(head, NBD_EXTENDED_REPLY_MAGIC);
        be64_store(head + 16, request->offset);
        be64_store(head + 24, bytes);
        return NBD_EXTENDED_REPLY_BYTES;
    }
    be32_store(head, NBD_STRUCTURED_REPLY_MAGIC);
    be32_store(head + 16, (uint32_t)bytes);
    return NBD_STRUCTURED_REPLY_BYTES;
}

void nbd_reply_done(unsigned char *head)
{
    be16_store(head + 4, NBD_REPLY_FLAG_DONE);
}

unsigned nbd_reply_data(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint64_t offset, uint64_t bytes)
{
    unsigned head_bytes =
        nbd_reply_chunk(head, request, style, NBD_REPLY_TYPE_OFFSET_DATA, 8 + bytes);

    be64_store(head + head_bytes, offset);
    return head_bytes + 8;
}

unsigned nbd_reply_hole(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint64_t offset, uint32_t bytes)
{
    unsigned head_bytes = nbd_reply_chunk(head, request, style, NBD_REPLY_TYPE_OFFSET_HOLE, 12);

    be64_store(head + head_bytes, offset);
    be32_store(head + head_bytes + 8, bytes);
    return head_bytes + 12;
}

/* What all error chunks begin with; `more` bytes follow. */
static unsigned error_chunk(unsigned char *head, const struct nbd_request *request,
                            enum nbd_style style, enum nbd_reply_type type, uint32_t error,
                            const char *text, unsigned more)
{
    size_t text_bytes = text != NULL ? strnlen(text, NBD_REPLY_TEXT_BYTES_MAX) : 0;
    unsigned bytes = nbd_reply_chunk(head, request, style, type, 6 + text_bytes + more);

    nbd_reply_done(head);
    be32_store(head + bytes, error);
    be16_store(head + bytes + 4, (uint16_t)text_bytes);
    if (text_bytes != 0)
        memcpy(head + bytes + 6, text, text_bytes);
    return bytes + 6 + (unsigned)text_bytes;
}

unsigned nbd_reply_head(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint32_t error, const char *text)
{
    unsigned bytes;

    /* A simple reply does for any success without a payload, and it is shorter. */
    if (style == NBD_STYLE_SIMPLE ||
        (style == NBD_STYLE_STRUCTURED && error == NBD_SUCCESS && request->type != NBD_CMD_READ))
        return simple(head, request, error);
    if (error != NBD_SUCCESS)
        return error_chunk(head, request, style, NBD_REPLY_TYPE_ERROR, error, text, 0);
    /* A data chunk may not be empty. */
    if (request->type != NBD_CMD_READ || request->length == 0)
        bytes = nbd_reply_chunk(head, request, style, NBD_REPLY_TYPE_NONE, 0);
    else
        bytes = nbd_reply_data(head, request, style, request->offset, request->length);
    nbd_reply_done(head);
    return bytes;
}

unsigned nbd_reply_head_at(unsigned char *head, const struct nbd_request *request,
                           enum nbd_style style, uint32_t error, const char *text, uint64_t offset)
{
    unsigned bytes;

    if (style == NBD_STYLE_SIMPLE)
        return simple(head, request, error);
    bytes = error_chunk(head, request, style, NBD_REPLY_TYPE_ERROR_OFFSET, error, text, 8);
    be64_store(head + bytes, offset);
    return bytes + 8;
}

const char *nbd_reply_text(uint32_t error)
{
    switch (error) {
    case NBD_EPERM: return "not permitted";
    case NBD_EIO: return "input/output error";
    case NBD_ENOMEM: return "the server is out of memory";
    case NBD_ENOSPC: return "no space left";
    case NBD_ENOTSUP: return "not faster than writing";
    case NBD_ESHUTDOWN: return "the server is stopping";
    default: return NULL;
    }
}

uint32_t nbd_reply_error(int error)
{
    switch (-error) {
    case 0: return NBD_SUCCESS;
    case EPERM:
    case EACCES:
    case EROFS: return NBD_EPERM;
    case ENOMEM: return NBD_ENOMEM;
    case EINVAL: return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return NBD_ENOSPC;
    case EOPNOTSUPP: return NBD_ENOTSUP;
    case ESHUTDOWN: return NBD_ESHUTDOWN;
    default: return NBD_EIO;
    }
}
