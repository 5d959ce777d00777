/* SPDX-License-Identifier: Apache-2.0 */
/* Other addresses, limits and TLS for a server that runs. */
#include "frontends/nbd/nbd-change.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "frontends/nbd/nbd-credentials.h"
#include "frontends/nbd/nbd-server-private.h"

struct nbd_change {
    struct core_message message;
    struct nbd_server *server;
    struct nbd_limits limits;
    enum nbd_tls_mode tls_mode;
    struct nbd_credentials *credentials; /* the new ones; from the commit on, the old ones */
    struct nbd_listener *staying[NBD_LISTENERS_MAX], *going[NBD_LISTENERS_MAX];
    struct nbd_listener *coming[NBD_LISTENERS_MAX];
    unsigned staying_count, going_count, coming_count;
    bool done; /* core 0 has carried it out; under the server's lock */
};

static bool is_named(const char *name, const char *const *listen, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(listen[i], name) == 0)
            return true;
    }
    return false;
}

/* What is there: does it stay?  A name may stand for several. */
static void sort(struct nbd_change *change, const char *const *listen, unsigned count)
{
    const struct nbd_server *server = change->server;

    for (unsigned i = 0; i < server->listener_count; i++) {
        struct nbd_listener *listener = server->listeners[i];

        if (listen == NULL || is_named(listener->name, listen, count))
            change->staying[change->staying_count++] = listener;
        else
            change->going[change->going_count++] = listener;
    }
}

static bool stays(const struct nbd_change *change, const char *name)
{
    for (unsigned i = 0; i < change->staying_count; i++) {
        if (strcmp(change->staying[i]->name, name) == 0)
            return true;
    }
    return false;
}

static int open_coming(struct nbd_change *change, const char *const *listen, unsigned count,
                       char *why, size_t why_bytes)
{
    int error = 0;

    for (unsigned i = 0; i < count && !error; i++) {
        if (!stays(change, listen[i]))
            error = nbd_server_open(change->coming, &change->coming_count, &listen[i], 1, why,
                                    why_bytes);
    }
    if (!error && change->staying_count + change->coming_count > NBD_LISTENERS_MAX) {
        snprintf(why, why_bytes, "there are too many addresses to listen on");
        error = -ENOSPC;
    }
    if (error == -EADDRINUSE && change->going_count > 0) {
        size_t used = strlen(why);

        snprintf(why + used, why_bytes - used,
                 "; if it is an address that is to be given up: reload without it first");
    }
    return error;
}

int nbd_change_begin(struct nbd_change **begun, struct nbd_server *server,
                     const char *const *listen, unsigned listen_count,
                     const struct nbd_limits *limits, const struct nbd_tls_config *tls, char *why,
                     size_t why_bytes)
{
    struct nbd_change *change = calloc(1, sizeof(*change));
    int error;

    if (change == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    change->server = server;
    change->limits = *limits;
    nbd_limits_complete(&change->limits);
    sort(change, listen, listen_count);
    change->tls_mode = tls->mode;
    error = open_coming(change, listen, listen != NULL ? listen_count : 0, why, why_bytes);
    if (!error && tls->mode != NBD_TLS_OFF)
        error = nbd_credentials_load(&change->credentials, tls, why, why_bytes);
    if (error) {
        nbd_change_abandon(change);
        return error;
    }
    *begun = change;
    return 0;
}

void nbd_change_abandon(struct nbd_change *change)
{
    if (change == NULL)
        return;
    for (unsigned i = 0; i < change->coming_count; i++)
        nbd_listener_close(change->coming[i]);
    nbd_credentials_release(change->credentials);
    free(change);
}

/* Core 0: what nbd_server_accepted looks at changes here only. */
static void carry_out(struct core *core, struct core_message *message)
{
    struct nbd_change *change = container_of(message, struct nbd_change, message);
    struct nbd_server *server = change->server;
    struct nbd_credentials *old;

    for (unsigned i = 0; i < change->going_count; i++)
        nbd_listener_stop(change->going[i], core);
    for (unsigned i = 0; i < change->coming_count; i++)
        nbd_listener_start(change->coming[i], core, server);
    pthread_mutex_lock(&server->lock);
    server->limits = change->limits;
    server->tls_mode = change->tls_mode;
    old = server->credentials;
    server->credentials = change->credentials;
    change->credentials = old;
    memcpy(server->listeners, change->staying, change->staying_count * sizeof(*change->staying));
    memcpy(server->listeners + change->staying_count, change->coming,
           change->coming_count * sizeof(*change->coming));
    server->listener_count = change->staying_count + change->coming_count;
    change->done = true;
    pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

static bool is_over(const struct nbd_change *change)
{
    for (unsigned i = 0; i < change->going_count; i++) {
        if (!change->going[i]->ended)
            return false;
    }
    return change->done;
}

void nbd_change_commit(struct nbd_change *change)
{
    struct nbd_server *server;

    if (change == NULL)
        return;
    server = change->server;
    change->message.handle = carry_out;
    core_message_send(core_at(0), &change->message);
    pthread_mutex_lock(&server->lock);
    while (!is_over(change))
        pthread_cond_wait(&server->idle, &server->lock);
    pthread_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < change->going_count; i++) {
        log_notice("not listening any more for NBD clients",
                   LOG_STR("address", change->going[i]->address));
        /* The ring may keep the socket for a moment: nobody shall connect to it meanwhile. */
        shutdown(change->going[i]->fd, SHUT_RDWR);
        nbd_listener_close(change->going[i]);
    }
    nbd_credentials_release(change->credentials);
    free(change);
}
