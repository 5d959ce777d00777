/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out a connection's handshake: nbd-handshake.c decides, this receives and sends. */
#ifndef FRONTENDS_NBD_GREETER_H
#define FRONTENDS_NBD_GREETER_H

struct nbd_client;

/* Greets the client, and ends in nbd_client_transmit, _drain or _break.  Negative errno: no
 * memory. */
int nbd_greeter_start(struct nbd_client *client);

/* The server stops: ends, within a second. */
void nbd_greeter_stop(struct nbd_client *client);

/* Frees it; nothing it started is under way any more. */
void nbd_greeter_end(struct nbd_client *client);

#endif
