/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server: listeners, connections by core, start and stop. */
#include "frontends/nbd/nbd-server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-credentials.h"
#include "frontends/nbd/nbd-server-private.h"
#include "frontends/nbd/nbd-watch.h"
#include "io/request.h"

#define CONNECTIONS_MAX      1024u
#define REQUESTS_MAX         128u
#define BYTES_MAX            (UINT64_C(64) << 20)
#define HANDSHAKE_TIMEOUT_NS UINT64_C(10000000000)

#define STALL_TIMEOUT_NS     UINT64_C(60000000000)

/* How long a stop waits for clients to take their replies. */
#define STOP_SECONDS 5

/* ---- references ------------------------------------------------------------------------- */

void nbd_server_hold(struct nbd_server *server)
{
    atomic_fetch_add(&server->references, 1);
}

void nbd_server_drop(struct nbd_server *server)
{
    /* Under the lock, so that the waiter cannot free it between the count and the signal. */
    pthread_mutex_lock(&server->lock);
    if (atomic_fetch_sub(&server->references, 1) == 1)
        pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

void nbd_server_listener_ended(struct nbd_listener *listener)
{
    struct nbd_server *server = listener->server;

    pthread_mutex_lock(&server->lock);
    listener->ended = true;
    atomic_fetch_sub(&server->references, 1);
    pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

/* True: no references are left.  False: it took longer than that. */
static bool wait_idle(struct nbd_server *server, time_t seconds)
{
    struct timespec limit = clock_timespec(clock_ns() + (uint64_t)seconds * NS_PER_S);
    int error = 0;
    bool idle;

    pthread_mutex_lock(&server->lock);
    while (atomic_load(&server->references) != 0 && error == 0)
        error = pthread_cond_timedwait(&server->idle, &server->lock, &limit);
    idle = atomic_load(&server->references) == 0;
    pthread_mutex_unlock(&server->lock);
    return idle;
}

/* ---- on the cores ----------------------------------------------------------------------- */

/* Core 0. */
static void start_listeners(struct core *core, struct core_message *message)
{
    struct nbd_server *server = container_of(message, struct nbd_core, start)->server;

    for (unsigned i = 0; i < server->listener_count; i++)
        nbd_listener_start(server->listeners[i], core, server);
    if (server->single_fd >= 0) {
        nbd_server_accepted(server, server->single_fd);
        server->single_fd = -1;
    }
    nbd_server_drop(server);
}

static void stop_core(struct core *core, struct core_message *message)
{
    struct nbd_core *own = container_of(message, struct nbd_core, stop);
    struct nbd_server *server = own->server;

    own->stopping = true;
    if (core_index(core) == 0) {
        for (unsigned i = 0; i < server->listener_count; i++)
            nbd_listener_stop(server->listeners[i], core);
    }
    list_for_each (node, &own->clients)
        nbd_client_stop(container_of(node, struct nbd_client, link));
    nbd_server_drop(server);
}

/* Time is up for those that do not take their replies. */
static void abandon_core(struct core *core, struct core_message *message)
{
    struct nbd_core *own = container_of(message, struct nbd_core, abandon);

    (void)core;
    list_for_each (node, &own->clients)
        nbd_client_break(container_of(node, struct nbd_client, link));
    nbd_server_drop(own->server);
}

void nbd_server_accepted(struct nbd_server *server, int fd)
{
    struct nbd_core *here = &server->cores[0];
    struct core *core;

    if (atomic_load(&server->connections) >= server->limits.connections_max) {
        nbd_count(here, connections_refused);
        log_debug("too many NBD connections");
        close(fd);
        return;
    }
    nbd_count(here, connections_accepted);
    core = core_at(server->next_core++ % server->core_count);
    if (nbd_client_open(&server->cores[core_index(core)], core, fd) != 0) {
        log_warning("no memory for another NBD connection");
        close(fd);
    }
}

/* ---- life ------------------------------------------------------------------------------- */

void nbd_limits_complete(struct nbd_limits *limits)
{
    if (limits->connections_max == 0)
        limits->connections_max = CONNECTIONS_MAX;
    if (limits->requests_max == 0)
        limits->requests_max = REQUESTS_MAX;
    if (limits->bytes_max == 0)
        limits->bytes_max = BYTES_MAX;
    if (limits->handshake_timeout_ns == 0)
        limits->handshake_timeout_ns = HANDSHAKE_TIMEOUT_NS;
    if (limits->idle_timeout_ns == 0)
        limits->idle_timeout_ns = NBD_NEVER;
    if (limits->send_timeout_ns == 0)
        limits->send_timeout_ns = STALL_TIMEOUT_NS;
    if (limits->receive_timeout_ns == 0)
        limits->receive_timeout_ns = STALL_TIMEOUT_NS;
}

static int set_up_core(struct nbd_server *server, struct nbd_core *core)
{
    core->server = server;
    list_init(&core->clients);
    nbd_watch_init(core);
    core->start.handle = start_listeners;
    core->stop.handle = stop_core;
    core->abandon.handle = abandon_core;
    core->scratch = calloc(REQUEST_VECTORS_MAX(REQUEST_BYTES_MAX), sizeof(*core->scratch));
    return core->scratch == NULL ? -ENOMEM : 0;
}

int nbd_server_open(struct nbd_listener **listeners, unsigned *count, const char *const *names,
                    unsigned name_count, char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < name_count; i++) {
        int found = nbd_listener_open(listeners + *count, NBD_LISTENERS_MAX - *count, names[i], why,
                                      why_bytes);

        if (found < 0)
            return found;
        *count += (unsigned)found;
    }
    return 0;
}

int nbd_server_create(struct nbd_server **created, const struct nbd_server_config *config,
                      char *why, size_t why_bytes)
{
    unsigned cores = core_count() > 0 ? core_count() : 1;
    size_t bytes = sizeof(struct nbd_server) + cores * sizeof(struct nbd_core);
    struct nbd_server *server = aligned_alloc(_Alignof(struct nbd_core), bytes);
    int error = 0;

    if (server == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    memset(server, 0, bytes);
    server->cache = config->cache;
    server->limits = config->limits;
    server->tls_mode = config->tls.mode;
    server->single_fd = config->single ? config->single_fd : -1;
    server->single_gone = config->single_gone;
    server->opaque = config->opaque;
    nbd_limits_complete(&server->limits);
    server->core_count = cores;
    pthread_mutex_init(&server->lock, NULL);
    clock_condition_init(&server->idle);
    for (unsigned i = 0; i < cores && !error; i++)
        error = set_up_core(server, &server->cores[i]);
    if (error)
        snprintf(why, why_bytes, "out of memory");
    if (!error && config->tls.mode != NBD_TLS_OFF)
        error = nbd_credentials_load(&server->credentials, &config->tls, why, why_bytes);
    for (unsigned i = 0; i < config->listen_fd_count && !error; i++) {
        error = nbd_listener_adopt(&server->listeners[server->listener_count],
                                   NBD_LISTENERS_MAX - server->listener_count,
                                   config->listen_fds[i], why, why_bytes);
        if (!error)
            server->listener_count++;
    }
    if (!error)
        error = nbd_server_open(server->listeners, &server->listener_count, config->listen,
                                config->listen_count, why, why_bytes);
    if (error) {
        nbd_server_destroy(server);
        return error;
    }
    *created = server;
    return 0;
}

void nbd_server_start(struct nbd_server *server)
{
    assert(!server->started && server->core_count == core_count());
    server->started = true;
    nbd_server_hold(server);
    core_message_send(core_at(0), &server->cores[0].start);
}

void nbd_server_stop(struct nbd_server *server)
{
    if (!server->started)
        return;
    server->started = false;
    /* All are held before the first is sent: the count must not pass through 0. */
    for (unsigned i = 0; i < server->core_count; i++)
        nbd_server_hold(server);
    for (unsigned i = 0; i < server->core_count; i++)
        core_message_send(core_at(i), &server->cores[i].stop);
    if (wait_idle(server, STOP_SECONDS))
        return;
    for (unsigned i = 0; i < server->core_count; i++)
        nbd_server_hold(server);
    for (unsigned i = 0; i < server->core_count; i++)
        core_message_send(core_at(i), &server->cores[i].abandon);
    while (!wait_idle(server, STOP_SECONDS))
        log_warning("waiting for requests of NBD clients that are still under way",
                    LOG_UINT("connections", atomic_load(&server->connections)));
}

struct hang_up {
    struct nbd_server *server;
    const struct volume *volume;
};

static void hang_up(struct core *core, void *opaque)
{
    const struct hang_up *wanted = opaque;

    list_for_each (node, &wanted->server->cores[core_index(core)].clients) {
        struct nbd_client *client = container_of(node, struct nbd_client, link);

        if (client->volume == wanted->volume)
            nbd_client_break(client);
    }
}

void nbd_server_hang_up(struct nbd_server *server, const struct volume *volume)
{
    struct hang_up wanted = {.server = server, .volume = volume};

    cores_visit(hang_up, &wanted);
}

void nbd_server_destroy(struct nbd_server *server)
{
    assert(!server->started && atomic_load(&server->references) == 0);
    for (unsigned i = 0; i < server->listener_count; i++)
        nbd_listener_close(server->listeners[i]);
    if (server->single_fd >= 0)
        close(server->single_fd);
    for (unsigned i = 0; i < server->core_count; i++)
        free(server->cores[i].scratch);
    nbd_credentials_release(server->credentials);
    pthread_cond_destroy(&server->idle);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

/* ---- what it tells ---------------------------------------------------------------------- */

void nbd_server_counters(const struct nbd_server *server, struct nbd_counters *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < server->core_count; i++) {
        const struct nbd_core *core = &server->cores[i];

#define X(name, text) \
    sum->name += atomic_load_explicit(&core->counters[NBD_COUNTER_##name], memory_order_relaxed);
        NBD_COUNTERS(X)
#undef X
    }
    sum->connections_open = atomic_load(&server->connections);
}

struct nbd_limits nbd_server_limits(struct nbd_server *server)
{
    struct nbd_limits limits;

    pthread_mutex_lock(&server->lock);
    limits = server->limits;
    pthread_mutex_unlock(&server->lock);
    return limits;
}

bool nbd_server_address(struct nbd_server *server, unsigned index, char text[NBD_ADDRESS_BYTES])
{
    bool found;

    pthread_mutex_lock(&server->lock);
    found = index < server->listener_count;
    if (found)
        snprintf(text, NBD_ADDRESS_BYTES, "%s", server->listeners[index]->address);
    pthread_mutex_unlock(&server->lock);
    return found;
}
