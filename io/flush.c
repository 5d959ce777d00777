/* SPDX-License-Identifier: Apache-2.0 */
/* Coalescing of flushes. */
#include "io/flush.h"

static void run(struct core *core, struct core_deferred *deferred)
{
    struct flush_coordinator *coordinator =
        container_of(deferred, struct flush_coordinator, deferred);

    pthread_mutex_lock(&coordinator->lock);
    list_splice_tail(&coordinator->running, &coordinator->waiting);
    pthread_mutex_unlock(&coordinator->lock);
    coordinator->ops->start(core, coordinator);
}

void flush_init(struct flush_coordinator *coordinator, const struct flush_ops *ops)
{
    coordinator->ops = ops;
    pthread_mutex_init(&coordinator->lock, NULL);
    list_init(&coordinator->waiting);
    list_init(&coordinator->running);
    coordinator->busy = false;
    coordinator->failures = 0;
    coordinator->last_error = 0;
    coordinator->deferred = (struct core_deferred){.run = run};
}

void flush_destroy(struct flush_coordinator *coordinator)
{
    pthread_mutex_destroy(&coordinator->lock);
}

/* Starts at the end of the turn, so that all who ask in one turn share one. */
void flush_join(struct core *core, struct flush_coordinator *coordinator,
                struct flush_waiter *waiter)
{
    bool first;

    waiter->core = core;
    pthread_mutex_lock(&coordinator->lock);
    waiter->failures = coordinator->failures;
    list_add_tail(&coordinator->waiting, &waiter->link);
    first = !coordinator->busy;
    coordinator->busy = true;
    pthread_mutex_unlock(&coordinator->lock);
    if (first)
        core_defer(core, &coordinator->deferred);
}

static void told(struct core *core, struct core_message *message)
{
    struct flush_waiter *waiter = container_of(message, struct flush_waiter, message);

    waiter->done(core, waiter, waiter->result);
}

void flush_party_excuse(struct flush_coordinator *coordinator, struct flush_party *party)
{
    pthread_mutex_lock(&coordinator->lock);
    party->failures = coordinator->failures;
    pthread_mutex_unlock(&coordinator->lock);
}

/* Under the lock.  Two rounds: several waiters may be of one party. */
static void set_results(struct flush_coordinator *coordinator, struct list *ended, int result)
{
    list_for_each (node, ended) {
        struct flush_waiter *waiter = container_of(node, struct flush_waiter, link);

        waiter->result = result;
        if (result == 0 &&
            (waiter->failures != coordinator->failures ||
             (waiter->party != NULL && waiter->party->failures != coordinator->failures)))
            waiter->result = coordinator->last_error;
    }
    list_for_each (node, ended) {
        struct flush_waiter *waiter = container_of(node, struct flush_waiter, link);

        if (waiter->party != NULL)
            waiter->party->failures = coordinator->failures;
    }
}

void flush_ended(struct core *core, struct flush_coordinator *coordinator, int result)
{
    struct list ended;

    if (result != 0) {
        pthread_mutex_lock(&coordinator->lock);
        coordinator->failures++;
        coordinator->last_error = result;
        pthread_mutex_unlock(&coordinator->lock);
    }
    coordinator->ops->end(core, coordinator, result);
    list_init(&ended);
    pthread_mutex_lock(&coordinator->lock);
    list_splice_tail(&ended, &coordinator->running);
    set_results(coordinator, &ended, result);
    coordinator->busy = !list_empty(&coordinator->waiting);
    if (coordinator->busy)
        core_defer(core, &coordinator->deferred);
    pthread_mutex_unlock(&coordinator->lock);

    while (!list_empty(&ended)) {
        struct flush_waiter *waiter =
            container_of(list_take_first(&ended), struct flush_waiter, link);

        waiter->message.handle = told;
        if (waiter->core == core)
            waiter->done(core, waiter, waiter->result);
        else
            core_message_send(waiter->core, &waiter->message);
    }
}
