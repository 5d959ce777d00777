/* SPDX-License-Identifier: Apache-2.0 */
/* The thread for what is due at a time. */
#include "daemon/upkeep.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "daemon/fill-pause.h"
#include "daemon/history.h"

struct upkeep {
    struct service *service;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool kicked, ending;
};

/* Until `due_ns`, or a kick.  False: it ends. */
static bool upkeep_sleep(struct upkeep *upkeep, uint64_t due_ns)
{
    struct timespec due = clock_timespec(due_ns);
    int error = 0;
    bool ending;

    pthread_mutex_lock(&upkeep->lock);
    while (!upkeep->ending && !upkeep->kicked && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&upkeep->changed, &upkeep->lock, &due);
    upkeep->kicked = false;
    ending = upkeep->ending;
    pthread_mutex_unlock(&upkeep->lock);
    return !ending;
}

static void *upkeep_thread(void *opaque)
{
    struct upkeep *upkeep = opaque;
    uint64_t now_ns, pause_ns, sample_ns;

    pthread_setname_np(pthread_self(), "upkeep");
    do {
        now_ns = clock_ns();
        pause_ns = fill_pause_expire(upkeep->service->cache, now_ns);
        sample_ns = history_tick(upkeep->service->history, now_ns);
    } while (upkeep_sleep(upkeep, pause_ns < sample_ns ? pause_ns : sample_ns));
    return NULL;
}

void upkeep_kick(struct upkeep *upkeep)
{
    pthread_mutex_lock(&upkeep->lock);
    upkeep->kicked = true;
    pthread_cond_signal(&upkeep->changed);
    pthread_mutex_unlock(&upkeep->lock);
}

static void upkeep_free(struct upkeep *upkeep)
{
    pthread_cond_destroy(&upkeep->changed);
    pthread_mutex_destroy(&upkeep->lock);
    free(upkeep);
}

int upkeep_begin(struct upkeep **begun, struct service *service)
{
    struct upkeep *upkeep = calloc(1, sizeof(*upkeep));
    int error;

    if (upkeep == NULL)
        return -ENOMEM;
    upkeep->service = service;
    clock_condition_init(&upkeep->changed);
    pthread_mutex_init(&upkeep->lock, NULL);
    error = -pthread_create(&upkeep->thread, NULL, upkeep_thread, upkeep);
    if (error) {
        upkeep_free(upkeep);
        return error;
    }
    *begun = upkeep;
    return 0;
}

void upkeep_end(struct upkeep *upkeep)
{
    if (upkeep == NULL)
        return;
    pthread_mutex_lock(&upkeep->lock);
    upkeep->ending = true;
    pthread_cond_signal(&upkeep->changed);
    pthread_mutex_unlock(&upkeep->lock);
    pthread_join(upkeep->thread, NULL);
    upkeep_free(upkeep);
}
