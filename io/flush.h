/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flush coordinator per device (C9): whoever needs a flush joins the first one that starts
 * after it asked, so at most one is in flight and one is about to start, whatever the number of
 * clients.
 *
 *      idle --join--> scheduled (end of the turn) --> running --join--> running, one scheduled ...
 */
#ifndef IO_FLUSH_H
#define IO_FLUSH_H

#include <pthread.h>
#include <stdbool.h>

#include "io/backing.h"
#include "io/core.h"

struct flush_waiter {
    /* Set by the caller; called on the core that joined, never before flush_join returned. */
    void (*done)(struct core *core, struct flush_waiter *waiter, int result);

    /* Internal. */
    struct core *core;
    struct core_message message;
    struct list link;
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
    struct core_deferred deferred;
};

void flush_init(struct flush_coordinator *coordinator, const struct flush_ops *ops);
void flush_destroy(struct flush_coordinator *coordinator);

/* On any core. */
void flush_join(struct core *core, struct flush_coordinator *coordinator,
                struct flush_waiter *waiter);

/* For `start`: on the core that started. */
void flush_ended(struct core *core, struct flush_coordinator *coordinator, int result);

#endif
