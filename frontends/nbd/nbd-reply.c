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

/* A reply of one chunk: the last one, too. */
static void chunk(unsigned char *head, const struct nbd_request *request, uint16_t type,
                  uint32_t bytes)
{
    be32_store(head, NBD_STRUCTURED_REPLY_MAGIC);
    be16_store(head + 4, NBD_REPLY_FLAG_DONE);
    be16_store(head + 6, type);
    memcpy(head + 8, request->cookie, sizeof(request->cookie));
    be32_store(head + 16, bytes);
}

unsigned nbd_reply_head(unsigned char *head, const struct nbd_request *request, bool structured,
                        uint32_t error, const char *text)
{
    unsigned char *body = head + NBD_STRUCTURED_REPLY_BYTES;
    size_t text_bytes;

    /* A simple reply does for any success without a payload, and it is shorter. */
    if (!structured || (error == NBD_SUCCESS && request->type != NBD_CMD_READ))
        return simple(head, request, error);
    if (error != NBD_SUCCESS) {
        text_bytes = text != NULL ? strnlen(text, NBD_REPLY_TEXT_BYTES_MAX) : 0;
        chunk(head, request, (uint16_t)NBD_REPLY_TYPE_ERROR, (uint32_t)(6 + text_bytes));
        be32_store(body, error);
        be16_store(body + 4, (uint16_t)text_bytes);
        if (text_bytes != 0)
            memcpy(body + 6, text, text_bytes);
        return (unsigned)(NBD_STRUCTURED_REPLY_BYTES + 6 + text_bytes);
    }
    if (request->length == 0) { /* a data chunk may not be empty */
        chunk(head, request, NBD_REPLY_TYPE_NONE, 0);
        return NBD_STRUCTURED_REPLY_BYTES;
    }
    chunk(head, request, NBD_REPLY_TYPE_OFFSET_DATA, (uint32_t)(8 + request->length));
    be64_store(body, request->offset);
    return NBD_STRUCTURED_REPLY_BYTES + 8;
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
    case ESHUTDOWN: return NBD_ESHUTDOWN;
    default: return NBD_EIO;
    }
}
