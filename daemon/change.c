/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of what is in service, one after the other. */
#include "daemon/change.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/membership.h"
#include "daemon/notify.h"
#include "daemon/reload.h"

#define WHY_BYTES 2048

enum state {
    STATE_WAITING,
    STATE_RUNNING,
    STATE_DONE,
    STATE_FAILED
};

struct change {
    uint64_t id; /* 0: there is none */
    struct change_request request;
    struct change_progress progress;
    enum state state;
    char why[WHY_BYTES]; /* FAILED */
};

struct changes {
    struct service *service;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, but for the progress */
    pthread_cond_t changed;
    bool ending;
    uint64_t last_id, next_id;       /* given last; to be carried out next */
    struct change list[CHANGES_MAX]; /* by id */
};

static const char *verb_of(const struct change *change)
{
    static const char *const verbs[] = {"attach", "detach", "reload"};

    return verbs[change->request.kind];
}

/* Under the lock. */
static struct change *find(struct changes *changes, uint64_t id)
{
    struct change *change = &changes->list[id % CHANGES_MAX];

    return id != 0 && change->id == id ? change : NULL;
}

/* ---- carrying out --------------------------------------------------------------------------- */

static int carry_out(struct changes *changes, struct change *change)
{
    struct service *service = changes->service;

    switch (change->request.kind) {
    case CHANGE_ATTACH:
        return membership_attach_named(service, change->request.volume, change->why, WHY_BYTES);
    case CHANGE_DETACH:
        return membership_detach_named(service, &change->request, &change->progress, change->why,
                                       WHY_BYTES);
    default: break;
    }
    notify_reloading();
    return reload(service, &change->progress, change->why, WHY_BYTES);
}

static void *run(void *opaque)
{
    struct changes *changes = opaque;
    struct change *change;
    int error;

    pthread_setname_np(pthread_self(), "changes");
    pthread_mutex_lock(&changes->lock);
    while (!changes->ending) {
        change = find(changes, changes->next_id);
        if (change == NULL) {
            pthread_cond_wait(&changes->changed, &changes->lock);
            continue;
        }
        change->state = STATE_RUNNING;
        pthread_mutex_unlock(&changes->lock);
        error = carry_out(changes, change);
        if (error)
            log_error("nothing was changed", LOG_STR("verb", verb_of(change)),
                      LOG_STR("reason", change->why));
        else
            log_notice("changed", LOG_STR("verb", verb_of(change)),
                       LOG_STR("volume", *change->request.volume ? change->request.volume : NULL));
        if (change->request.kind == CHANGE_RELOAD)
            notify_send("READY=1");
        pthread_mutex_lock(&changes->lock);
        change->state = error ? STATE_FAILED : STATE_DONE;
        changes->next_id++;
    }
    pthread_mutex_unlock(&changes->lock);
    return NULL;
}

/* ---- from outside --------------------------------------------------------------------------- */

uint64_t changes_ask(struct changes *changes, const struct change_request *request)
{
    uint64_t id = 0;

    pthread_mutex_lock(&changes->lock);
    if (changes->last_id + 1 - changes->next_id < CHANGES_MAX / 2 && !changes->ending) {
        struct change *change = &changes->list[(changes->last_id + 1) % CHANGES_MAX];

        id = ++changes->last_id;
        memset(change, 0, sizeof(*change));
        change->id = id;
        change->request = *request;
        pthread_cond_signal(&changes->changed);
    }
    pthread_mutex_unlock(&changes->lock);
    return id;
}

json_t *changes_json(struct changes *changes, uint64_t id)
{
    static const char *const states[] = {"waiting", "running", "done", "failed"};
    struct change *change;
    json_t *json = json_null();

    pthread_mutex_lock(&changes->lock);
    change = find(changes, id);
    if (change != NULL)
        json = json_pack("{s:I, s:s, s:s, s:s, s:o, s:I, s:I}", "id", (json_int_t)id, "verb",
                         verb_of(change), "volume", change->request.volume, "state",
                         states[change->state], "error",
                         change->state == STATE_FAILED ? json_string(change->why) : json_null(),
                         "left_bytes", (json_int_t)change->progress.left_bytes, "begun_bytes",
                         (json_int_t)change->progress.begun_bytes);
    pthread_mutex_unlock(&changes->lock);
    return json;
}

bool changes_cancel(struct changes *changes, const char *volume)
{
    bool found = false;

    pthread_mutex_lock(&changes->lock);
    for (uint64_t id = changes->next_id; id <= changes->last_id; id++) {
        struct change *change = find(changes, id);

        if (change->request.kind != CHANGE_DETACH || strcmp(change->request.volume, volume) != 0)
            continue;
        atomic_store(&change->progress.cancelled, true);
        found = true;
    }
    pthread_mutex_unlock(&changes->lock);
    return found;
}

/* ---- life ----------------------------------------------------------------------------------- */

static void changes_free(struct changes *changes)
{
    pthread_cond_destroy(&changes->changed);
    pthread_mutex_destroy(&changes->lock);
    free(changes);
}

int changes_begin(struct changes **begun, struct service *service)
{
    struct changes *changes = calloc(1, sizeof(*changes));
    int error;

    if (changes == NULL)
        return -ENOMEM;
    changes->service = service;
    changes->next_id = 1;
    pthread_cond_init(&changes->changed, NULL);
    pthread_mutex_init(&changes->lock, NULL);
    error = -pthread_create(&changes->thread, NULL, run, changes);
    if (error) {
        changes_free(changes);
        return error;
    }
    *begun = changes;
    return 0;
}

void changes_end(struct changes *changes)
{
    if (changes == NULL)
        return;
    pthread_mutex_lock(&changes->lock);
    changes->ending = true;
    for (unsigned i = 0; i < CHANGES_MAX; i++)
        atomic_store(&changes->list[i].progress.cancelled, true);
    pthread_cond_signal(&changes->changed);
    pthread_mutex_unlock(&changes->lock);
    pthread_join(changes->thread, NULL);
    changes_free(changes);
}
