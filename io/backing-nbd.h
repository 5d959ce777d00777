/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the NBD backing store.  Everything here runs on the owner core, but for opening and
 * closing, when no core runs.
 *
 *      other core --message--> pending --> connection's in_flight --> completed --> done
 *                                 ^              |
 *                                 |  connection  | lost
 *                                 +--- reads ----+---- writes, flushes --> doubt --> -EIO
 *
 * A connection:  CLOSED --timer--> CONNECTING --> READY --lost--> DYING --polls ended--> CLOSED
 */
#ifndef IO_BACKING_NBD_H
#define IO_BACKING_NBD_H

#include <libnbd.h>
#include <pthread.h>

#include "io/backing-private.h"

#define BACKING_CONNECTIONS_MAX 4u

struct backing_nbd;

enum backing_connection_state {
    CONNECTION_CLOSED,
    CONNECTION_CONNECTING,
    CONNECTION_READY,
    CONNECTION_DYING, /* a poll of its socket is still with the kernel */
};

struct backing_connection {
    struct backing_nbd *nbd;
    enum backing_connection_state state;
    struct nbd_handle *handle;
    struct core_op poll_in, poll_out;
    bool in_armed, out_armed;
    bool can_fua;
    uint64_t connecting_since_ns;
    struct list in_flight; /* struct backing_io, the oldest first */
    unsigned in_flight_count;
    struct list completed; /* by libnbd's callbacks, in which nothing else may be done */
};

struct backing_nbd {
    struct backing backing;
    struct core *core; /* the owner; NULL until the first request came */
    struct backing_connection connections[BACKING_CONNECTIONS_MAX];
    unsigned connection_count;
    uint32_t stride_bytes; /* longest read or write */
    bool can_zero;

    struct list pending; /* not sent yet */
    struct list doubt;   /* writes and flushes whose connection was lost */
    bool closing;        /* no connection is made any more */
    bool ghosts; /* writes in doubt were given up: nothing is sent before the next connection */
    struct core_deferred work;
    struct core_timer reconnect, watchdog;
    uint64_t backoff_ns;

    /* Writes that the server answered, and those a flush covered.  A server that went away may have
     * lost the difference; the next flush says so. */
    uint64_t writes_done, writes_flushed;
    bool writes_lost;

    /* For backing_state, on any thread. */
    pthread_mutex_t state_lock;
    unsigned ready_count;
    uint64_t lost_since_ns; /* when the last connection was lost; 0: never */
    bool failing;           /* the last request that ended did so with an error */
    char last_error[160];
};

/* backing-nbd.c: what connections tell it. */
void backing_nbd_requeue(struct backing_nbd *nbd, struct backing_io *io); /* lost, unanswered */
void backing_nbd_connected(struct backing_nbd *nbd);
void backing_nbd_lost(struct backing_nbd *nbd);

/* backing-connection.c */
void backing_connection_init(struct backing_connection *connection, struct backing_nbd *nbd);

/* Connects and waits for it, before the cores run. */
int backing_connection_open(struct backing_connection *connection, const char *uri,
                            uint64_t timeout_ns, char *why, size_t why_bytes);
void backing_connection_close(struct backing_connection *connection);

/* CLOSED -> CONNECTING. */
void backing_connection_start(struct backing_connection *connection);

/* After anything that may have changed what the library waits for. */
void backing_connection_update(struct backing_connection *connection);

/* Gives it up; what is in flight goes to backing_nbd_requeue. */
void backing_connection_lose(struct backing_connection *connection, const char *reason);

#endif
