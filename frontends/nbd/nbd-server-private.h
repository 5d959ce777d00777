/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the server, for the files of this front end only. */
#ifndef FRONTENDS_NBD_SERVER_PRIVATE_H
#define FRONTENDS_NBD_SERVER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "common/list.h"
#include "frontends/nbd/nbd-listener.h"
#include "frontends/nbd/nbd-server.h"
#include "io/core.h"

/* Addresses of one server: a name may stand for several. */
#define NBD_LISTENERS_MAX 64u

struct nbd_credentials;

enum nbd_counter {
#define X(name, text) NBD_COUNTER_##name,
    NBD_COUNTERS(X)
#undef X
    NBD_COUNTER_COUNT
};

/* What the server has on one core; touched by that core only, but for the counters. */
struct nbd_core {
    _Alignas(64) struct nbd_server *server;
    struct list clients;
    bool stopping;
    struct core_message start, stop, abandon;
    struct core_op watch; /* nbd-watch.c; under way while there are clients */
    struct __kernel_timespec watch_period;
    bool watching;
    uint64_t watch_period_ns; /* 0: nothing to watch for */
    uint64_t complain_ns;     /* not before: see nbd_client_complain */
    uint64_t complaints_kept_back;
    struct iovec *scratch; /* the vectors of the largest request; used within one function */

    /* Written by the core, read by anyone. */
    _Atomic uint64_t counters[NBD_COUNTER_COUNT];
};

struct nbd_server {
    struct cache *cache;
    struct nbd_limits limits;   /* of connections to come; read on core 0, or under the lock */
    enum nbd_tls_mode tls_mode; /* of connections to come, under the lock; so is: */
    struct nbd_credentials *credentials;               /* NULL: TLS is off */
    struct nbd_listener *listeners[NBD_LISTENERS_MAX]; /* under the lock once it is started */
    unsigned listener_count;
    bool started;
    int single_fd; /* -1: none, or it is a client's now */
    void (*single_gone)(void *opaque);
    void *opaque;
    unsigned next_core; /* of the next connection; core 0 only */
    atomic_uint connections;

    /* Held by nbd_server_start, each connection, each accept under way and each message under way.
     * Whoever waits for 0, or for a listener's end, is woken. */
    atomic_uint references;
    pthread_mutex_t lock;
    pthread_cond_t idle;

    unsigned core_count;
    struct nbd_core cores[];
};

void nbd_server_hold(struct nbd_server *server);
void nbd_server_drop(struct nbd_server *server);

/* The defaults in the place of zeros. */
void nbd_limits_complete(struct nbd_limits *limits);

/* Opens what the names stand for, into `listeners` from *count on, to which it adds.  Negative errno
 * and a sentence; some may be open then. */
int nbd_server_open(struct nbd_listener **listeners, unsigned *count, const char *const *names,
                    unsigned name_count, char *why, size_t why_bytes);

/* It accepts no more, and drops its reference; on core 0. */
void nbd_server_listener_ended(struct nbd_listener *listener);

/* A client came; on core 0.  Takes over the descriptor. */
void nbd_server_accepted(struct nbd_server *server, int fd);

static inline void nbd_count_many(struct nbd_core *core, enum nbd_counter counter, uint64_t n)
{
    _Atomic uint64_t *place = &core->counters[counter];

    /* One writer: no read-modify-write on the bus is needed. */
    atomic_store_explicit(place, atomic_load_explicit(place, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#define nbd_count(core, name)        nbd_count_many((core), NBD_COUNTER_##name, 1)
#define nbd_count_add(core, name, n) nbd_count_many((core), NBD_COUNTER_##name, (n))

#endif
