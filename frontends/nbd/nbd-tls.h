/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS on a connection: GnuTLS between two buffers.  The ring receives and sends what is encrypted,
 * and nothing here waits.
 *
 *     socket --receive--> cipher in --GnuTLS--> nbd_tls_receive's memory
 *     socket <--send---- cipher out <--GnuTLS-- nbd_tls_send's vectors
 *
 * One receive and one send may be asked for at a time, as on the socket itself.  They end with
 * op->done(), later, with a result like that of the socket's operations.
 */
#ifndef FRONTENDS_NBD_TLS_H
#define FRONTENDS_NBD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "io/core.h"

struct nbd_client;
struct nbd_credentials;
struct nbd_tls;

/* NULL: no memory. */
struct nbd_tls *nbd_tls_create(struct nbd_client *client, struct nbd_credentials *credentials);

/* It is not busy. */
void nbd_tls_free(struct nbd_tls *tls);

/* `input` was received already.  Ends with 0 or a negative errno; then nbd_tls_why says why. */
void nbd_tls_handshake(struct nbd_tls *tls, const unsigned char *input, size_t bytes,
                       struct core_op *op);
const char *nbd_tls_why(const struct nbd_tls *tls);

/* `all`: ends only when all of it has come, or nothing more will. */
void nbd_tls_receive(struct nbd_tls *tls, struct core_op *op, void *data, size_t bytes, bool all);

/* The vectors stay the caller's, unchanged until the end. */
void nbd_tls_send(struct nbd_tls *tls, struct core_op *op, const struct iovec *vectors,
                  unsigned count);

/* Ends the receive that was asked for. */
void nbd_tls_cancel_receive(struct nbd_tls *tls);

/* Says goodbye, once; nothing is asked for any more.  The client's settle() is queued when that has
 * gone. */
void nbd_tls_end(struct nbd_tls *tls);

/* Is anything of it under way? */
bool nbd_tls_is_busy(const struct nbd_tls *tls);

#endif
