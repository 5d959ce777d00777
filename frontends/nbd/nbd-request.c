/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and validation of NBD requests. */
#include "frontends/nbd/nbd-request.h"

#include <stddef.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-protocol.h"
#include "io/request.h"

bool nbd_request_parse(const unsigned char *wire, struct nbd_request *request)
{
    if (be32_load(wire) != NBD_REQUEST_MAGIC)
        return false;
    request->flags = be16_load(wire + 4);
    request->type = be16_load(wire + 6);
    memcpy(request->cookie, wire + 8, sizeof(request->cookie));
    request->offset = be64_load(wire + 16);
    request->length = be32_load(wire + 24);
    return true;
}

bool nbd_request_parse_extended(const unsigned char *wire, struct nbd_request *request)
{
    if (be32_load(wire) != NBD_EXTENDED_REQUEST_MAGIC)
        return false;
    request->flags = be16_load(wire + 4);
    request->type = be16_load(wire + 6);
    memcpy(request->cookie, wire + 8, sizeof(request->cookie));
    request->offset = be64_load(wire + 16);
    request->length = be64_load(wire + 24);
    return true;
}

bool nbd_request_status_selects(const struct nbd_request *request, const struct nbd_rules *rules)
{
    return request->type == NBD_CMD_BLOCK_STATUS && rules->style == NBD_STYLE_EXTENDED &&
           rules->contexts != 0 && (request->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0 &&
           request->length <= NBD_STATUS_PAYLOAD_BYTES_MAX;
}

bool nbd_request_status_payload(struct nbd_request *request, const struct nbd_rules *rules,
                                const unsigned char *payload)
{
    uint32_t bytes = (uint32_t)request->length;

    if (bytes < 12 || bytes % 4 != 0)
        return false;
    request->contexts = 0;
    for (uint32_t at = 8; at < bytes; at += 4) {
        uint32_t context = be32_load(payload + at);

        /* One of those that were negotiated, once. */
        if (context == 0 || (context & (context - 1)) != 0 ||
            (context & ~(uint32_t)rules->contexts) || (context & request->contexts))
            return false;
        request->contexts |= (uint8_t)context;
    }
    request->length = be64_load(payload);
    request->flags &= (uint16_t)~NBD_CMD_FLAG_PAYLOAD_LEN;
    return true;
}

static struct nbd_refusal refuse(uint32_t error, const char *text)
{
    return (struct nbd_refusal){.error = error, .text = text};
}

/* What each command takes; a command that is not here is unknown. */
static const struct {
    bool known;
    bool writes;
    bool payload; /* its length is that of a payload, in either direction */
    uint16_t flags;
    uint32_t beyond_error; /* for a range that ends behind the export */
} commands[] = {
    [NBD_CMD_READ] = {true, false, true, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF, NBD_EINVAL},
    [NBD_CMD_WRITE] = {true, true, true, NBD_CMD_FLAG_FUA, NBD_ENOSPC},
    [NBD_CMD_FLUSH] = {true, false, false, NBD_CMD_FLAG_FUA, NBD_EINVAL},
    [NBD_CMD_TRIM] = {true, true, false, NBD_CMD_FLAG_FUA, NBD_EINVAL},
    [NBD_CMD_CACHE] = {true, false, false, NBD_CMD_FLAG_FUA, NBD_EINVAL},
    [NBD_CMD_WRITE_ZEROES] = {true, true, false,
                              NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                              NBD_ENOSPC},
    [NBD_CMD_BLOCK_STATUS] = {true, false, false, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,
                              NBD_EINVAL},
};

struct nbd_refusal nbd_request_check(const struct nbd_request *request,
                                     const struct nbd_rules *rules)
{
    uint16_t type = request->type, allowed;

    if (type == NBD_CMD_DISC)
        return refuse(NBD_SUCCESS, NULL);
    if (type >= sizeof(commands) / sizeof(commands[0]) || !commands[type].known)
        return refuse(NBD_EINVAL, "unknown command");
    allowed = commands[type].flags;
    if (rules->style == NBD_STYLE_SIMPLE)
        allowed &= (uint16_t)~NBD_CMD_FLAG_DF; /* was not offered */
    if (rules->style == NBD_STYLE_EXTENDED && type == NBD_CMD_WRITE) {
        if ((request->flags & NBD_CMD_FLAG_PAYLOAD_LEN) == 0)
            return refuse(NBD_EINVAL, "a write needs a payload");
        allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
    }
    if ((request->flags & ~allowed) != 0)
        return refuse(NBD_EINVAL, "flag not valid for this command");
    if (type == NBD_CMD_BLOCK_STATUS && rules->contexts == 0)
        return refuse(NBD_EINVAL, "no metadata context was selected");
    if (type == NBD_CMD_BLOCK_STATUS && request->length == 0)
        return refuse(NBD_EINVAL, "the status of nothing");
    if (commands[type].writes && rules->read_only)
        return refuse(NBD_EPERM, "the export is read-only");
    if (type == NBD_CMD_FLUSH && (request->offset | request->length) != 0)
        return refuse(NBD_EINVAL, "a flush takes no range");
    if (request->offset > rules->bytes || request->length > rules->bytes - request->offset)
        return refuse(commands[type].beyond_error, "beyond the end of the export");
    if (commands[type].payload && request->length > REQUEST_BYTES_MAX)
        return refuse((request->flags & NBD_CMD_FLAG_DF) != 0 ? NBD_EOVERFLOW : NBD_EINVAL,
                      "longer than the maximum block size");
    return refuse(NBD_SUCCESS, NULL);
}
