/* SPDX-License-Identifier: Apache-2.0 */
/* What the server shows and asks for in TLS handshakes: certificates and pre-shared keys. */
#ifndef FRONTENDS_NBD_CREDENTIALS_H
#define FRONTENDS_NBD_CREDENTIALS_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct nbd_tls_config;

struct nbd_credentials {
    gnutls_certificate_credentials_t certificates; /* NULL: none */
    gnutls_psk_server_credentials_t keys;          /* NULL: none */
    gnutls_priority_t priority;
    bool verify_clients;
    atomic_uint holders; /* the server, and each connection that came while they were its own */
};

/*
 * Reads what the configuration names.  In the directory of certificates: server-cert.pem and
 * server-key.pem; ca-cert.pem, against which certificates of clients are verified; ca-crl.pem
 * (OPTIONAL), those that are revoked.  Negative errno, and `why` a sentence that names the file.  The
 * caller holds what is loaded.
 */
int nbd_credentials_load(struct nbd_credentials **credentials, const struct nbd_tls_config *config,
                         char *why, size_t why_bytes);

/* Any thread; NULL is allowed. */
struct nbd_credentials *nbd_credentials_hold(struct nbd_credentials *credentials);
void nbd_credentials_release(struct nbd_credentials *credentials);

#endif
