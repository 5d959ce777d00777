/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flush coordinator per device (C9): whoever needs a flush joins the first one that starts
 * after it asked, so at most one is in flight and one is about to start, whatever the number of
 * clients.
 *
 *      idle --join--> scheduled (end of the turn) --> running --join--> running, one scheduled ...
 *
 * A flush that failed may have lost what anybody wrote before it, and the device may say so only
 * once: the next flush succeeds, and covers less than it should.  So each party whose writes
 * flushes are to cover is told of every failure, whoever asked for the flush that failed.
 */
#ifndef IO_FLUSH_H
#define IO_FLUSH_H

#include <pthread.h>
#include <stdbool.h>

#include "io/backing.h"
#include "io/core.h"

/* Zeros at first. */
struct flush_party {
    uint64_t failures; /* of the coordinator, that it was told of */
};

struct flush_waiter {
    /* Set by the caller; called on the core that joined, never before flush_join returned. */
    void (*done)(struct core *core, struct flush_waiter *waiter, int result);
    struct flush_party *party; /* for whom; NULL: only the result of this flush counts */

    /* Internal. */
    struct core *core;
    struct core_message message;
    struct list link;
    uint64_t failures; /* when it joined: those that come while it waits are its, too */
    int result;
};

struct flush_coordinator;

struct flush_ops {
    /* REQUIRED: the flush starts; whatever must be noted before it is noted now.  It ends with
     * flush_ended, perhaps before this returns. */
    void (*start)(struct core *core, struct flush_coordinator *coordinator);
    /* REQUIRED: it ended well or not, and nobody was told yet. */
    void (*end)(struct core *core, struct flush_coordinator *coordinator, int result);
};

struct flush_coordinator {
    const struct flush_ops *ops;
    pthread_mutex_t lock; /* of what follows */
    struct list waiting;  /* for the next flush */
    struct list running;  /* for the one that runs */
    bool busy;            /* one runs or is scheduled, on the core that `deferred` is queued on */
    uint64_t failures;    /* flushes that failed, and how the last of them did */
    int last_error;
    struct core_deferred deferred;
};

void flush_init(struct flush_coordinator *coordinator, const struct flush_ops *ops);
void flush_destroy(struct flush_coordinator *coordinator);

/* On any core. */
void flush_join(struct core *core, struct flush_coordinator *coordinator,
                struct flush_waiter *waiter);

/* For `end`: the party had nothing to lose by the flush that failed. */
void flush_party_excuse(struct flush_coordinator *coordinator, struct flush_party *party);

/* For `start`: on the core that started. */
void flush_ended(struct core *core, struct flush_coordinator *coordinator, int result);

#endif
