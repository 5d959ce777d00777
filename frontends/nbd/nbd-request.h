/* SPDX-License-Identifier: Apache-2.0 */
/* A request of the transmission phase: parsing and validation, pure. */
#ifndef FRONTENDS_NBD_REQUEST_H
#define FRONTENDS_NBD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "frontends/nbd/nbd-protocol.h"

/* A payload up to this length is received and dropped when it cannot be accepted; a longer one ends
 * the connection.  (Clients of the libnbd family send up to 64 MiB without asking.) */
#define NBD_PAYLOAD_BYTES_MAX (64u << 20)

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t offset;
    uint64_t length;
    unsigned char cookie[8]; /* as it came; goes back unchanged */
    uint8_t contexts;        /* BLOCK_STATUS: enum nbd_context, those that it asks for */
};

/* What the validity of a request depends on. */
struct nbd_rules {
    uint64_t bytes; /* size of the export */
    bool read_only;
    uint8_t style;    /* enum nbd_style: negotiated */
    uint8_t contexts; /* enum nbd_context: the same */
};

/* Why a request is refused. */
struct nbd_refusal {
    uint32_t error;   /* enum nbd_error; 0: not refused */
    const char *text; /* for the client's user; static */
};

/* Reads the NBD_REQUEST_BYTES at `wire`.  False: not a request, the stream is out of step. */
bool nbd_request_parse(const unsigned char *wire, struct nbd_request *request);

/* The same with the NBD_EXTENDED_REQUEST_BYTES of an extended request. */
bool nbd_request_parse_extended(const unsigned char *wire, struct nbd_request *request);

/* Bytes that follow the header on the wire, whether the request is valid or not. */
static inline uint64_t nbd_request_payload_bytes(const struct nbd_request *request,
                                                 const struct nbd_rules *rules)
{
    bool payload = rules->style == NBD_STYLE_EXTENDED
                       ? (request->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0
                       : request->type == NBD_CMD_WRITE;

    return payload ? request->length : 0;
}

/* Is it a BLOCK_STATUS whose payload, of at most NBD_STATUS_PAYLOAD_BYTES_MAX, says which contexts
 * it asks for? */
#define NBD_STATUS_PAYLOAD_BYTES_MAX 16u
bool nbd_request_status_selects(const struct nbd_request *request, const struct nbd_rules *rules);

/* Reads this payload: afterwards the request looks as if it had none.  False: it is not valid. */
bool nbd_request_status_payload(struct nbd_request *request, const struct nbd_rules *rules,
                                const unsigned char *payload);

/* Errors are those that the document asks for.  DISC is never refused. */
struct nbd_refusal nbd_request_check(const struct nbd_request *request,
                                     const struct nbd_rules *rules);

#endif
