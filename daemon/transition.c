/* SPDX-License-Identifier: Apache-2.0 */
/* Transitions of a volume's mode. */
#include "daemon/transition.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/stuck.h"

#define LOOK_NS (NS_PER_S / 10)
#define PATIENCE \
    10 /* looks, of those before the ones that count what is owed among what is dirty */

struct transition {
    struct volume *volume; /* NULL: the place is free */
    uint8_t from;
    uint64_t begun_ns, begun_bytes, left_bytes, number;
    unsigned looks, zeros;
};

struct transitions {
    struct cache *cache;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool ending;
    uint64_t numbers;
    unsigned count;
    struct transition list[VOLUMES_MAX];
};

const char *transition_mode_name(uint8_t mode)
{
    static const char *const names[] = {"write-back", "write-through", "write-around",
                                        "pass-through"};

    return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

/* Under the lock. */
static struct transition *find(struct transitions *transitions, const struct volume *volume)
{
    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        if (transitions->list[i].volume == volume)
            return &transitions->list[i];
    }
    return NULL;
}

/* ---- looking -------------------------------------------------------------------------------- */

/* What was acknowledged without the backing store.  A volume that is written all the time has
 * something dirty at any time, and for a moment only: that is not waited for. */
static uint64_t owed_bytes(struct cache *cache, const struct transition *at)
{
    uint64_t dirty = cache_dirty_blocks(cache, at->volume->id);
    uint64_t lost = cache_lost_blocks(cache, at->volume->id);

    if (dirty == lost || at->looks % PATIENCE != PATIENCE - 1 ||
        at->volume->mode != MODE_WRITE_THROUGH)
        return dirty << BLOCK_SHIFT;
    return (cache_owed_blocks(cache, at->volume->id) + lost) << BLOCK_SHIFT;
}

/* One look at one of them, without the lock, as it takes the shards' locks; then what came of it,
 * unless it was changed meanwhile. */
static void look(struct transitions *transitions, const struct transition *seen)
{
    uint64_t left = owed_bytes(transitions->cache, seen);
    struct transition *at;

    cache_destage_all(transitions->cache, seen->volume->id);
    pthread_mutex_lock(&transitions->lock);
    at = find(transitions, seen->volume);
    if (at != NULL && at->number == seen->number) {
        at->looks++;
        at->left_bytes = left;
        at->zeros = left == 0 ? at->zeros + 1 : at->looks % PATIENCE == 0 ? 0 : at->zeros;
        if (left > at->begun_bytes)
            at->begun_bytes = left;
        if (left == 0 &&
            (at->zeros > 1 || cache_dirty_blocks(transitions->cache, at->volume->id) == 0)) {
            log_notice("the mode is in force", LOG_STR("volume", at->volume->name),
                       LOG_STR("mode", transition_mode_name(at->volume->mode)),
                       LOG_UINT("destaged_bytes", at->begun_bytes),
                       LOG_UINT("ms", (clock_ns() - at->begun_ns) / 1000000u));
            *at = (struct transition){.volume = NULL};
            transitions->count--;
        }
    }
    pthread_mutex_unlock(&transitions->lock);
}

static void *run(void *opaque)
{
    struct transitions *transitions = opaque;

    pthread_setname_np(pthread_self(), "transitions");
    pthread_mutex_lock(&transitions->lock);
    while (!transitions->ending) {
        struct timespec due = clock_timespec(clock_ns() + LOOK_NS);

        if (transitions->count == 0) {
            pthread_cond_wait(&transitions->changed, &transitions->lock);
            continue;
        }
        for (unsigned i = 0; i < VOLUMES_MAX && !transitions->ending; i++) {
            struct transition seen = transitions->list[i];

            if (seen.volume == NULL)
                continue;
            pthread_mutex_unlock(&transitions->lock);
            look(transitions, &seen);
            pthread_mutex_lock(&transitions->lock);
        }
        while (!transitions->ending &&
               pthread_cond_timedwait(&transitions->changed, &transitions->lock, &due) == 0)
            ;
    }
    pthread_mutex_unlock(&transitions->lock);
    return NULL;
}

/* ---- from outside --------------------------------------------------------------------------- */

void transition_begin(struct transitions *transitions, struct volume *volume, uint8_t from)
{
    uint64_t dirty = cache_dirty_blocks(transitions->cache, volume->id) << BLOCK_SHIFT;
    struct transition *at;

    pthread_mutex_lock(&transitions->lock);
    at = find(transitions, volume);
    if (at != NULL) {
        from = at->from; /* nothing else was ever in force */
        *at = (struct transition){.volume = NULL};
        transitions->count--;
    }
    if (from != volume->mode && volume->mode != MODE_WRITE_BACK && dirty > 0) {
        at = find(transitions, NULL);
        *at = (struct transition){.volume = volume,
                                  .from = from,
                                  .begun_ns = clock_ns(),
                                  .begun_bytes = dirty,
                                  .left_bytes = dirty,
                                  .number = ++transitions->numbers};
        transitions->count++;
        pthread_cond_signal(&transitions->changed);
    }
    pthread_mutex_unlock(&transitions->lock);
}

void transition_forget(struct transitions *transitions, const struct volume *volume)
{
    struct transition *at;

    pthread_mutex_lock(&transitions->lock);
    at = find(transitions, volume);
    if (at != NULL) {
        *at = (struct transition){.volume = NULL};
        transitions->count--;
    }
    pthread_mutex_unlock(&transitions->lock);
}

uint8_t transition_mode(struct transitions *transitions, const struct volume *volume)
{
    const struct transition *at;
    uint8_t mode = volume->mode;

    pthread_mutex_lock(&transitions->lock);
    at = find(transitions, volume);
    if (at != NULL)
        mode = at->from;
    pthread_mutex_unlock(&transitions->lock);
    return mode;
}

json_t *transition_json(struct transitions *transitions, const struct volume *volume)
{
    const struct transition *at;
    struct transition seen;
    double seconds, done;

    pthread_mutex_lock(&transitions->lock);
    at = find(transitions, volume);
    seen = at != NULL ? *at : (struct transition){.volume = NULL};
    pthread_mutex_unlock(&transitions->lock);
    if (seen.volume == NULL)
        return json_null();
    seconds = (double)(clock_ns() - seen.begun_ns) / (double)NS_PER_S;
    done = (double)(seen.begun_bytes - seen.left_bytes);
    return json_pack(
        "{s:s, s:s, s:f, s:I, s:I, s:o, s:o, s:f}", "from", transition_mode_name(seen.from), "to",
        transition_mode_name(volume->mode), "seconds", seconds, "left_bytes",
        (json_int_t)seen.left_bytes, "begun_bytes", (json_int_t)seen.begun_bytes, "seconds_left",
        done > 0 ? json_real((double)seen.left_bytes * seconds / done) : json_null(), "reason",
        stuck_json(transitions->cache, volume), "patience_seconds", stuck_patience(volume));
}

/* ---- life ----------------------------------------------------------------------------------- */

static void transitions_free(struct transitions *transitions)
{
    pthread_cond_destroy(&transitions->changed);
    pthread_mutex_destroy(&transitions->lock);
    free(transitions);
}

int transitions_begin(struct transitions **begun, struct cache *cache)
{
    struct transitions *transitions = calloc(1, sizeof(*transitions));
    int error;

    if (transitions == NULL)
        return -ENOMEM;
    transitions->cache = cache;
    clock_condition_init(&transitions->changed);
    pthread_mutex_init(&transitions->lock, NULL);
    error = -pthread_create(&transitions->thread, NULL, run, transitions);
    if (error) {
        transitions_free(transitions);
        return error;
    }
    for (unsigned i = 0; i < volume_count(cache); i++)
        transition_begin(transitions, volume_at(cache, i), MODE_WRITE_BACK);
    *begun = transitions;
    return 0;
}

void transitions_end(struct transitions *transitions)
{
    if (transitions == NULL)
        return;
    pthread_mutex_lock(&transitions->lock);
    transitions->ending = true;
    pthread_cond_signal(&transitions->changed);
    pthread_mutex_unlock(&transitions->lock);
    pthread_join(transitions->thread, NULL);
    transitions_free(transitions);
}
