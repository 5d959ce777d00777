/* SPDX-License-Identifier: Apache-2.0 */
/* What control and metrics ask of a running cache: any thread, each shard under its lock. */
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/cache-private.h"

#define NOTICE_LOG_NS UINT64_C(1000000000)

void cache_status(struct cache *cache, struct shard_status *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];
        struct shard_status one;

        pthread_mutex_lock(&runner->lock);
        shard_status(runner->shard, &one);
        pthread_mutex_unlock(&runner->lock);
        sum->slots_total += one.slots_total;
        sum->slots_used += one.slots_used;
        sum->slots_dirty += one.slots_dirty;
        sum->slots_lost += one.slots_lost;
        sum->slots_pinned += one.slots_pinned;
        sum->slots_pinned_max += one.slots_pinned_max;
        sum->frames_used += one.frames_used;
        sum->frames_total += one.frames_total;
        sum->segments_total += one.segments_total;
        sum->segments_free += one.segments_free;
        sum->segments_retired += one.segments_retired;
        sum->memory_bytes += one.memory_bytes;
        sum->buffer_bytes += one.buffer_bytes;
        sum->recovery_entries += one.recovery_entries;
        sum->stalled_pieces += one.stalled_pieces;
        sum->flash_failed |= one.flash_failed;
    }
}

void cache_counters(struct cache *cache, uint16_t volume, struct counters *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];
        const struct counters *one;

        pthread_mutex_lock(&runner->lock);
        one = shard_counters(runner->shard, volume);
        if (one != NULL) {
#define X(name, text) sum->name += one->name;
            COUNTERS(X)
#undef X
        }
        pthread_mutex_unlock(&runner->lock);
    }
}

void cache_flash_counters(struct cache *cache, struct flash_counters *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];
        const struct flash_counters *one;

        pthread_mutex_lock(&runner->lock);
        one = shard_flash_counters(runner->shard);
#define X(name, text) sum->name += one->name;
        FLASH_COUNTERS(X)
#undef X
        pthread_mutex_unlock(&runner->lock);
    }
}

static uint64_t sum_blocks(struct cache *cache, uint16_t volume,
                           uint64_t (*blocks)(const struct shard *shard, uint16_t volume))
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        sum += blocks(runner->shard, volume);
        pthread_mutex_unlock(&runner->lock);
    }
    return sum;
}

uint64_t cache_dirty_blocks(struct cache *cache, uint16_t volume)
{
    return sum_blocks(cache, volume, shard_dirty_blocks);
}

uint64_t cache_flash_blocks(struct cache *cache, uint16_t volume)
{
    return sum_blocks(cache, volume, shard_flash_blocks);
}

uint64_t cache_pinned_blocks(struct cache *cache, uint16_t volume)
{
    return sum_blocks(cache, volume, shard_pinned_blocks);
}

uint64_t cache_owed_blocks(struct cache *cache, uint16_t volume)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        for (uint32_t cursor = 0; cursor != UINT32_MAX;) {
            pthread_mutex_lock(&runner->lock);
            sum += shard_owed_blocks(runner->shard, volume, &cursor);
            pthread_mutex_unlock(&runner->lock);
        }
    }
    return sum;
}

uint64_t cache_lost_blocks(struct cache *cache, uint16_t volume)
{
    return sum_blocks(cache, volume, shard_lost_blocks);
}

uint64_t cache_unreadable_blocks(struct cache *cache, uint16_t volume)
{
    return sum_blocks(cache, volume, shard_unreadable_blocks);
}

bool cache_backing_fails(struct cache *cache, uint16_t volume)
{
    bool fails = false;

    for (unsigned i = 0; i < cache->shard_count && !fails; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        fails = shard_backing_fails(runner->shard, volume);
        pthread_mutex_unlock(&runner->lock);
    }
    return fails;
}

bool cache_epochs(struct cache *cache, const struct volume *volume, struct cache_epochs *epochs)
{
    const struct cache_volume *own = cache->by_id[volume->id];
    uint64_t oldest_ns = UINT64_MAX, now_ns, broken = 0, lost = 0;

    if (own == NULL || volume->destage != DESTAGE_ORDERED)
        return false;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];
        uint64_t ended_ns;

        pthread_mutex_lock(&runner->lock);
        ended_ns = shard_epoch_ended_ns(runner->shard, volume->id);
        lost += shard_lost_blocks(runner->shard, volume->id);
        if (shard_epoch_broken(runner->shard, volume->id) > broken)
            broken = shard_epoch_broken(runner->shard, volume->id);
        pthread_mutex_unlock(&runner->lock);
        oldest_ns = ended_ns < oldest_ns ? ended_ns : oldest_ns;
    }
    now_ns = clock_ns();
    epochs->age_ns = oldest_ns < now_ns ? now_ns - oldest_ns : 0;
    epochs->consistent = lost == 0 && atomic_load(&own->epochs.oldest) > broken;
    return true;
}

void cache_destage_all(struct cache *cache, uint16_t volume)
{
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        shard_destage_all(runner->shard, volume);
        pthread_mutex_unlock(&runner->lock);
        shard_runner_kick(runner);
    }
}

void cache_mrc(struct cache *cache, uint16_t volume, struct mrc_sum *sum)
{
    unsigned octaves = (unsigned)__builtin_ctz(cache->shard_count);

    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        shard_mrc_add(runner->shard, volume, sum, octaves);
        pthread_mutex_unlock(&runner->lock);
    }
}

const struct superblock *cache_superblock(const struct cache *cache)
{
    return cache->superblock.block;
}

void cache_facts(struct cache *cache, struct cache_facts *facts)
{
    *facts = (struct cache_facts){
        .flash_state = (enum cache_flash_state)atomic_load(&cache->flash_state),
        .recovery_seconds = cache->recovery_seconds,
        .started_clean = cache->started_clean,
        .flash_volatile = cache->flash_volatile,
        .buffers_registered = atomic_load(&cache->buffers_registered),
    };
    for (unsigned i = 0; i < CACHE_NOTICES; i++)
        facts->notices[i] = atomic_load_explicit(&cache->notices[i].count, memory_order_relaxed);
}

void cache_notice(struct cache *cache, uint64_t now_ns, const struct action *action)
{
    static const char *const texts[] = {
#define X(name, text) text,
        NOTICES(X)
#undef X
    };
    struct cache_notice *notice = &cache->notices[action->slot % CACHE_NOTICES];
    const struct cache_volume *volume = cache->by_id[action->volume];
    uint64_t count = atomic_fetch_add(&notice->count, 1) + 1;
    uint64_t last_ns = atomic_load(&notice->logged_ns);

    if (action->slot >= sizeof(texts) / sizeof(texts[0]))
        return;
    if (action->slot == NOTICE_FLASH_FAILED)
        cache_loss_declare(cache);
    /* Each volume's loss is told; after a start only. */
    if ((last_ns != 0 && now_ns - last_ns < NOTICE_LOG_NS && action->slot != NOTICE_RECORDS_LOST) ||
        !atomic_compare_exchange_strong(&notice->logged_ns, &last_ns, now_ns))
        return;
    log_warning(texts[action->slot], LOG_STR("volume", volume != NULL ? volume->volume.name : NULL),
                LOG_UINT("offset", action->offset),
                LOG_UINT("times", count - atomic_exchange(&notice->logged_count, count)));
}
