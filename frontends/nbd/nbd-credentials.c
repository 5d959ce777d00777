/* SPDX-License-Identifier: Apache-2.0 */
/* Loading of certificates and keys. */
#include "frontends/nbd/nbd-credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "frontends/nbd/nbd-server.h"

/* The document: 1.2 is a must, later ones are wanted, older ones are not. */
#define PRIORITY     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"

#define PATH_BYTES   4200

static int fail(char *why, size_t why_bytes, const char *path, const char *reason)
{
    snprintf(why, why_bytes, "TLS: %s: %s", path, reason);
    return -EINVAL;
}

/* Where a file of the directory is.  False: it cannot be read; `why` says so, if it is REQUIRED. */
static bool find(const char *directory, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", directory, name);
    return access(path, R_OK) == 0;
}

static int load_authority(struct nbd_credentials *credentials, const char *directory, char *why,
                          size_t why_bytes)
{
    char path[PATH_BYTES];
    int error;

    if (!find(directory, "ca-cert.pem", path))
        return credentials->verify_clients ? fail(why, why_bytes, path, "cannot be read") : 0;
    error = gnutls_certificate_set_x509_trust_file(credentials->certificates, path,
                                                   GNUTLS_X509_FMT_PEM);
    if (error <= 0)
        return fail(why, why_bytes, path,
                    error < 0 ? gnutls_strerror(error) : "there is no certificate in it");
    if (!find(directory, "ca-crl.pem", path))
        return 0;
    error =
        gnutls_certificate_set_x509_crl_file(credentials->certificates, path, GNUTLS_X509_FMT_PEM);
    return error < 0 ? fail(why, why_bytes, path, gnutls_strerror(error)) : 0;
}

static int load_certificates(struct nbd_credentials *credentials, const char *directory, char *why,
                             size_t why_bytes)
{
    char path[PATH_BYTES], key[PATH_BYTES];
    int error;

    if (gnutls_certificate_allocate_credentials(&credentials->certificates) < 0)
        return fail(why, why_bytes, directory, "out of memory");
    if (!find(directory, "server-cert.pem", path))
        return fail(why, why_bytes, path, "cannot be read");
    if (!find(directory, "server-key.pem", key))
        return fail(why, why_bytes, key, "cannot be read");
    error = gnutls_certificate_set_x509_key_file(credentials->certificates, path, key,
                                                 GNUTLS_X509_FMT_PEM);
    if (error < 0)
        return fail(why, why_bytes, path, gnutls_strerror(error));
    return load_authority(credentials, directory, why, why_bytes);
}

static int load_keys(struct nbd_credentials *credentials, const char *path, char *why,
                     size_t why_bytes)
{
    int error;

    if (gnutls_psk_allocate_server_credentials(&credentials->keys) < 0)
        return fail(why, why_bytes, path, "out of memory");
    if (access(path, R_OK) != 0)
        return fail(why, why_bytes, path, "cannot be read");
    error = gnutls_psk_set_server_credentials_file(credentials->keys, path);
    return error < 0 ? fail(why, why_bytes, path, gnutls_strerror(error)) : 0;
}

int nbd_credentials_load(struct nbd_credentials **loaded, const struct nbd_tls_config *config,
                         char *why, size_t why_bytes)
{
    struct nbd_credentials *credentials = calloc(1, sizeof(*credentials));
    int error = 0;

    if (credentials == NULL)
        return fail(why, why_bytes, "certificates", "out of memory");
    atomic_init(&credentials->holders, 1);
    credentials->verify_clients = config->verify_clients;
    if (config->certificates[0] != '\0')
        error = load_certificates(credentials, config->certificates, why, why_bytes);
    if (!error && config->psk[0] != '\0')
        error = load_keys(credentials, config->psk, why, why_bytes);
    if (!error &&
        gnutls_priority_init(&credentials->priority,
                             credentials->keys != NULL ? PRIORITY_PSK : PRIORITY, NULL) < 0)
        error = fail(why, why_bytes, "priorities", "are not known to this GnuTLS");
    if (error) {
        nbd_credentials_release(credentials);
        return error;
    }
    *loaded = credentials;
    return 0;
}

struct nbd_credentials *nbd_credentials_hold(struct nbd_credentials *credentials)
{
    if (credentials != NULL)
        atomic_fetch_add(&credentials->holders, 1);
    return credentials;
}

void nbd_credentials_release(struct nbd_credentials *credentials)
{
    if (credentials == NULL || atomic_fetch_sub(&credentials->holders, 1) > 1)
        return;
    if (credentials->certificates != NULL)
        gnutls_certificate_free_credentials(credentials->certificates);
    if (credentials->keys != NULL)
        gnutls_psk_free_server_credentials(credentials->keys);
    if (credentials->priority != NULL)
        gnutls_priority_deinit(credentials->priority);
    free(credentials);
}
