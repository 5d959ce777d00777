/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other addresses, limits and TLS for a server that runs, in two steps:
 *
 *   nbd_change_begin     opens what is new, and reads certificates and keys again; nothing is accepted
 *                        there yet.  It may fail
 *   nbd_change_commit    what is new accepts, what is left out is closed; cannot fail
 *   nbd_change_abandon   instead: as if nothing had been
 *
 * Connections stay as they are, also those that came over an address that is closed, and keep the limits
 * and certificates they came under; connections_max counts for all from the commit on.  One at a time, from a thread that
 * is no core, between nbd_server_start and nbd_server_stop.
 */
#ifndef FRONTENDS_NBD_CHANGE_H
#define FRONTENDS_NBD_CHANGE_H

#include <stddef.h>

#include "frontends/nbd/nbd-server.h"

struct nbd_change;

/* `listen` as in nbd_server_config; NULL: the addresses stay.  A name that is there already keeps
 * its socket.  Negative errno, and `why` a sentence. */
int nbd_change_begin(struct nbd_change **change, struct nbd_server *server,
                     const char *const *listen, unsigned listen_count,
                     const struct nbd_limits *limits, const struct nbd_tls_config *tls, char *why,
                     size_t why_bytes);

/* Both free it; NULL is allowed. */
void nbd_change_commit(struct nbd_change *change);
void nbd_change_abandon(struct nbd_change *change);

#endif
