/* SPDX-License-Identifier: Apache-2.0 */
/* Answering the requests of one connection. */
#ifndef FRONTENDS_NBD_SEND_H
#define FRONTENDS_NBD_SEND_H

#include <stdint.h>

struct nbd_body;
struct nbd_client;
struct nbd_slot;
struct request;

/* The connection enters TRANSMIT. */
void nbd_send_start(struct nbd_client *client);

/* Queues the reply to a request that did not go to the engine.  It leaves at the end of the turn,
 * with all others. */
void nbd_send_answer(struct nbd_slot *slot, uint32_t error, const char *text);

/* The same for a reply that is all body, which it takes over. */
void nbd_send_body(struct nbd_slot *slot, struct nbd_body *body);

/* The engine is done with the request of a slot: queues its reply. */
void nbd_send_done(struct request *request);

/* Sends what is queued, unless a send is under way. */
void nbd_send_flush(struct nbd_client *client);

/* Drops what is queued; no send is under way. */
void nbd_send_drop(struct nbd_client *client);

#endif
