/* SPDX-License-Identifier: Apache-2.0 */
/* Visits to all cores, from a thread that is none. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "io/core-private.h"

struct visits {
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned left;
};

struct visit {
    struct core_message message;
    struct visits *visits;
    void (*work)(struct core *core, void *opaque);
    void *opaque;
};

static void arrive(struct core *core, struct core_message *message)
{
    struct visit *visit = container_of(message, struct visit, message);
    struct visits *visits = visit->visits;

    if (visit->work != NULL)
        visit->work(core, visit->opaque);
    pthread_mutex_lock(&visits->lock);
    if (--visits->left == 0)
        pthread_cond_signal(&visits->done);
    pthread_mutex_unlock(&visits->lock);
}

int cores_visit(void (*work)(struct core *core, void *opaque), void *opaque)
{
    struct visits visits = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    struct visit *list = calloc(core_count() + 1, sizeof(*list));

    assert(core_self() == NULL);
    if (list == NULL)
        return -ENOMEM;
    visits.left = core_count();
    for (unsigned i = 0; i < core_count(); i++) {
        list[i] = (struct visit){
            .message.handle = arrive, .visits = &visits, .work = work, .opaque = opaque};
        core_message_send(core_at(i), &list[i].message);
    }
    pthread_mutex_lock(&visits.lock);
    while (visits.left > 0)
        pthread_cond_wait(&visits.done, &visits.lock);
    pthread_mutex_unlock(&visits.lock);
    pthread_cond_destroy(&visits.done);
    pthread_mutex_destroy(&visits.lock);
    free(list);
    return 0;
}
