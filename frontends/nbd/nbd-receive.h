/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving, checking and submitting the requests of one connection. */
#ifndef FRONTENDS_NBD_RECEIVE_H
#define FRONTENDS_NBD_RECEIVE_H

struct nbd_client;

/* The connection enters TRANSMIT; what is in its input was received with the handshake. */
void nbd_receive_start(struct nbd_client *client);

/* Slots became free: goes on if it had stalled for want of them. */
void nbd_receive_resume(struct nbd_client *client);

/* The connection takes no more requests: gives up the one whose payload is not complete, as soon as
 * no receive is under way. */
void nbd_receive_end(struct nbd_client *client);

#endif
