/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flash fails while volumes are in use: docs/attachment.md.  What blocks is done on a thread of
 * its own, which sleeps until then.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/attachment.h"
#include "io/cache-private.h"

#define LOOK_MS  10
#define RETRY_MS 1000 /* of what the state directory did not take */

void cache_loss_declare(struct cache *cache)
{
    int expected = CACHE_FLASH_OK;

    if (!atomic_compare_exchange_strong(&cache->flash_state, &expected, CACHE_FLASH_FAILED))
        return;
    pthread_mutex_lock(&cache->lock);
    pthread_cond_broadcast(&cache->changed);
    pthread_mutex_unlock(&cache->lock);
}

/* Sleeps; true: the cache stops. */
static bool stops_within(struct cache *cache, uint64_t ms)
{
    struct timespec end = clock_timespec(clock_ns() + ms * UINT64_C(1000000));
    bool stops;
    int error = 0;

    pthread_mutex_lock(&cache->lock);
    while (!cache->loss_stop && error == 0)
        error = pthread_cond_timedwait(&cache->changed, &cache->lock, &end);
    stops = cache->loss_stop;
    pthread_mutex_unlock(&cache->lock);
    return stops;
}

static bool wait_for_loss(struct cache *cache)
{
    bool lost;

    pthread_mutex_lock(&cache->lock);
    while (!cache->loss_stop && atomic_load(&cache->flash_state) != CACHE_FLASH_FAILED)
        pthread_cond_wait(&cache->changed, &cache->lock);
    lost = !cache->loss_stop;
    pthread_mutex_unlock(&cache->lock);
    return lost;
}

static void tell_shards(struct cache *cache)
{
    pthread_mutex_lock(&cache->superblock.lock);
    cache->superblock.lost = true;
    pthread_mutex_unlock(&cache->superblock.lock);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_flash_lost(cache->runners[i].shard);
        pthread_mutex_unlock(&cache->runners[i].lock);
        shard_runner_kick(&cache->runners[i]);
    }
}

static bool settled(struct cache *cache)
{
    for (unsigned i = 0; i < cache->shard_count; i++) {
        bool settled;

        pthread_mutex_lock(&cache->runners[i].lock);
        settled = shard_flash_settled(cache->runners[i].shard);
        pthread_mutex_unlock(&cache->runners[i].lock);
        if (!settled)
            return false;
    }
    return true;
}

static void pass_through(struct cache_volume *volume)
{
    struct cache *cache = volume->cache;
    char blocks[256];

    atomic_store(&volume->volume.detached, true);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_pass_through(cache->runners[i].shard, volume->volume.id);
        pthread_mutex_unlock(&cache->runners[i].lock);
        shard_runner_kick(&cache->runners[i]);
    }
    attachment_describe(volume->file.dirty, volume->file.dirty_count, blocks, sizeof(blocks));
    log_error("the volume goes on in pass-through, without flash; requests that touch blocks which "
              "only the flash has fail",
              LOG_STR("volume", volume->volume.name), LOG_STR("only_on_flash", blocks));
}

/* Hazard 16: epoch and list are durable before the first write goes past the flash. */
static bool detach(struct cache_volume *volume, struct dirty_block *list, uint64_t count)
{
    struct dirty_block *from = cache_dirty_of(list, &count, volume->volume.id);
    struct dirty_block *copy = calloc(count + 1, sizeof(*copy));
    char why[PATH_MAX + 128] = "out of memory";

    if (copy != NULL) {
        memcpy(copy, from, count * sizeof(*copy));
        if (cache_attach_store(volume, ATTACHMENT_DETACHED, volume->record->attachment_epoch + 1,
                               copy, count, why, sizeof(why)) == 0) {
            pass_through(volume);
            return true;
        }
    }
    log_error("which blocks are dirty on the lost flash cannot be noted: writes of the volume wait "
              "for that",
              LOG_STR("volume", volume->volume.name), LOG_STR("reason", why));
    return false;
}

/* How many could not be. */
static unsigned detach_those_left(struct cache *cache, struct dirty_block *list, uint64_t count)
{
    unsigned left = 0;

    pthread_mutex_lock(&cache->change_lock);
    for (unsigned i = 0; i < cache->volume_count; i++) {
        struct cache_volume *own = cache->volumes[i];

        if (!atomic_load(&own->volume.detached) && (list == NULL || !detach(own, list, count)))
            left++;
    }
    if (left == 0)
        atomic_store(&cache->flash_state, CACHE_FLASH_DETACHED);
    pthread_mutex_unlock(&cache->change_lock);
    return left;
}

/* Volumes whose files cannot be written are tried again. */
static void detach_all(struct cache *cache)
{
    uint64_t count = 0;
    struct dirty_block *list = NULL;

    do {
        if (list == NULL)
            list = cache_dirty_list(cache, &count);
    } while (detach_those_left(cache, list, count) > 0 && !stops_within(cache, RETRY_MS));
    free(list);
}

static void *run(void *argument)
{
    struct cache *cache = argument;

    if (!wait_for_loss(cache))
        return NULL;
    log_error("the flash device failed: volumes go on without it; replace it, or make it work "
              "again, and restart; what is dirty on it is kept there",
              LOG_STR("flash", cache->flash_path));
    tell_shards(cache);
    while (!settled(cache))
        if (stops_within(cache, LOOK_MS))
            return NULL;
    /* Without a place for it that lasts, nothing may be written past the flash. */
    if (cache->state_dir != NULL)
        detach_all(cache);
    return NULL;
}

int cache_loss_start(struct cache *cache)
{
    int error;

    cache->loss_stop = false;
    if (atomic_load(&cache->flash_state) == CACHE_FLASH_MISSING)
        return 0;
    error = -pthread_create(&cache->loss_thread, NULL, run, cache);
    cache->loss_started = error == 0;
    return error;
}

void cache_loss_stop(struct cache *cache)
{
    if (!cache->loss_started)
        return;
    pthread_mutex_lock(&cache->lock);
    cache->loss_stop = true;
    pthread_cond_broadcast(&cache->changed);
    pthread_mutex_unlock(&cache->lock);
    pthread_join(cache->loss_thread, NULL);
    cache->loss_started = false;
}
