/* SPDX-License-Identifier: Apache-2.0 */
/* A slot: one request of a connection, from its header to the end of its reply. */
#ifndef FRONTENDS_NBD_SLOT_H
#define FRONTENDS_NBD_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "frontends/nbd/nbd-reply.h"
#include "frontends/nbd/nbd-request.h"
#include "io/request.h"

struct nbd_client;
struct nbd_body;

struct nbd_slot {
    struct nbd_client *client;
    struct nbd_slot *next; /* in the list of free ones or in the queue of replies */
    struct nbd_request wire;
    unsigned char *data; /* WRITE: where the payload goes, NULL before there is a buffer, and ... */
    uint32_t filled;     /* how much of it is there */
    uint32_t head_bytes; /* of the reply */
    bool payload;        /* bytes of the request are in the reply, until request_release */
    uint64_t body_bytes; /* of the reply, behind its head */
    struct nbd_body *body; /* where they are; NULL: they are the payload and nothing else */
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];
    struct request request;
};

/* Is there room for this request now, in number and in bytes of payload? */
bool nbd_slot_fits(const struct nbd_client *client, const struct nbd_request *wire);

/* A slot for it; there is room. */
struct nbd_slot *nbd_slot_take(struct nbd_client *client, const struct nbd_request *wire);

/* The reply was sent, or will never be: frees the slot, and releases the request if it has a
 * payload to be read from. */
void nbd_slot_give(struct nbd_slot *slot);

#endif
