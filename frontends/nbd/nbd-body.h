/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a reply that is more than one chunk of data: chunks with their headers, as vectors. */
#ifndef FRONTENDS_NBD_BODY_H
#define FRONTENDS_NBD_BODY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frontends/nbd/nbd-protocol.h"

struct nbd_request;
struct request;

struct nbd_body {
    uint64_t bytes;
    unsigned count;
    struct iovec *vectors;
    unsigned char *heads; /* memory of the chunks' headers and of what else is ours */
    uint32_t heads_bytes;
};

/* With room for so many vectors and for `heads_bytes`; NULL: no memory.  Adding needs room. */
struct nbd_body *nbd_body_make(unsigned vectors, uint32_t heads_bytes);
void nbd_body_add(struct nbd_body *body, void *data, size_t bytes);
void nbd_body_free(struct nbd_body *body);

/*
 * The reply to a READ that succeeded and that has zeros: chunks of data, whose vectors point into
 * the request's payload, and chunks that say how much is zeros.  NULL: one chunk of data does, or
 * there is no memory.  `scratch` has room for all vectors of the request.
 */
struct nbd_body *nbd_body_read(const struct nbd_request *wire, enum nbd_style style,
                               struct request *request, struct iovec *scratch);

#endif
