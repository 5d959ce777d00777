/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timeouts of the transmission phase.  The clients of a core are looked at now and then, so that an
 * operation costs no timer of its own, only a note of when it was.
 */
#ifndef FRONTENDS_NBD_WATCH_H
#define FRONTENDS_NBD_WATCH_H

struct core;
struct nbd_core;
struct nbd_client;

void nbd_watch_init(struct nbd_core *own);

/* A client of this core has come, or enters TRANSMIT. */
void nbd_watch_start(struct nbd_client *client);

/* A client of this core has gone. */
void nbd_watch_end(struct nbd_core *own, struct core *core);

#endif
