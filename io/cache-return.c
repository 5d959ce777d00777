/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty data that leave a flash for good: of one that was away and is back, and of one that can only be
 * read (docs/attachment.md). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "io/attachment.h"
#include "io/cache-private.h"

#define DRAIN_LOOK_MS         20
#define DRAIN_TELL_SECONDS    5
#define DRAIN_PATIENT_SECONDS 60 /* without any progress, plus the backing store's time-out */
#define DRAIN_READ_SECONDS    5  /* the same, when the flash fails to read all that is left */

static bool returns(const struct cache_volume *volume)
{
    return volume->plan.verdict == ATTACH_RETURNS;
}

/* Its dirty data go to the backing store before it is served, if it is. */
static bool is_drained(const struct cache_volume *volume)
{
    return returns(volume) || (volume->cache->drains && volume->plan.verdict == ATTACH_NORMAL);
}

/* Marks what is on flash as the list says.  -ESTALE: some is not. */
static int keep_listed(struct cache_volume *volume, char *why, size_t why_bytes)
{
    struct cache *cache = volume->cache;
    const struct attachment *file = &volume->file;
    struct dirty_block *gone = calloc(file->dirty_count + 1, sizeof(*gone));
    uint64_t gone_count = 0;
    char blocks[256];

    if (gone == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < file->dirty_count; i++) {
        struct dirty_block block = file->dirty[i];
        struct shard_runner *runner = cache_runner_of(cache, volume->volume.id, block.block);

        block.volume = volume->volume.id;
        pthread_mutex_lock(&runner->lock);
        if (!shard_attach_keep(runner->shard, &block))
            gone[gone_count++] = block;
        pthread_mutex_unlock(&runner->lock);
    }
    attachment_describe(gone, gone_count, blocks, sizeof(blocks));
    free(gone);
    if (gone_count == 0)
        return 0;
    if (volume->force & ATTACH_DISCARD) {
        log_warning("given up, as --discard-dirty asks: blocks that were dirty on this flash, and "
                    "are not there any more as they were",
                    LOG_STR("volume", volume->volume.name), LOG_STR("blocks", blocks));
        return 0;
    }
    snprintf(why, why_bytes,
             "volume \"%s\": the flash is back, but has lost what was dirty on it: %s.  Give these "
             "blocks up with --discard-dirty %s, or serve the volume without flash: "
             "--without-flash",
             volume->volume.name, blocks, volume->volume.name);
    return -ESTALE;
}

static void drop_rest(struct cache_volume *volume)
{
    struct cache *cache = volume->cache;

    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_attach_drop(cache->runners[i].shard, volume->volume.id);
        pthread_mutex_unlock(&cache->runners[i].lock);
    }
}

static uint64_t left_to_drain(struct cache *cache, bool *readable)
{
    uint64_t left = 0, unreadable = 0;

    for (unsigned i = 0; i < cache->volume_count; i++) {
        uint16_t id = cache->volumes[i]->volume.id;

        if (!is_drained(cache->volumes[i]))
            continue;
        left += cache_dirty_blocks(cache, id) - cache_lost_blocks(cache, id);
        unreadable += cache_unreadable_blocks(cache, id);
    }
    *readable = left > unreadable;
    return left;
}

static uint64_t patience_of(struct cache *cache, bool readable)
{
    uint64_t patience_ms = DRAIN_PATIENT_SECONDS * 1000u;

    if (cache->drains && !readable)
        return DRAIN_READ_SECONDS * 1000u;
    for (unsigned i = 0; i < cache->volume_count; i++) {
        uint64_t timeout_ms = cache->volumes[i]->volume.backing_timeout_ns / 1000000u;

        if (timeout_ms + DRAIN_PATIENT_SECONDS * 1000u > patience_ms)
            patience_ms = timeout_ms + DRAIN_PATIENT_SECONDS * 1000u;
    }
    return patience_ms;
}

/* What is dirty, or what the list kept of it, goes to the backing stores; nothing is written to flash
 * meanwhile. */
static int drain(struct cache *cache, const char *what, char *why, size_t why_bytes)
{
    const struct timespec pause = {.tv_nsec = DRAIN_LOOK_MS * 1000000l};
    uint64_t looks = 0, idle_ms = 0, left;
    bool readable;

    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_attach_drain(cache->runners[i].shard);
        pthread_mutex_unlock(&cache->runners[i].lock);
    }
    for (left = left_to_drain(cache, &readable); left > 0;) {
        uint64_t before = left;

        if (looks++ % (DRAIN_TELL_SECONDS * 1000u / DRAIN_LOOK_MS) == 0)
            log_notice(what, LOG_UINT("bytes_left", left << BLOCK_SHIFT));
        cache_destage_all(cache, VOLUME_ALL);
        nanosleep(&pause, NULL);
        left = left_to_drain(cache, &readable);
        idle_ms = left < before ? 0 : idle_ms + DRAIN_LOOK_MS;
        if (idle_ms > patience_of(cache, readable)) {
            snprintf(why, why_bytes,
                     "the flash is back, but %llu bytes of dirty data on it cannot be read, or "
                     "not be written to the backing store; start again when that works",
                     (unsigned long long)(left << BLOCK_SHIFT));
            return -EIO;
        }
    }
    return 0;
}

/* A listed block whose data turned out to be rotten while it was read. */
static int check_drained(struct cache_volume *volume, char *why, size_t why_bytes)
{
    uint64_t lost = cache_lost_blocks(volume->cache, volume->volume.id);

    if (lost == 0)
        return 0;
    if (volume->force & ATTACH_DISCARD) {
        log_warning("given up, as --discard-dirty asks: dirty blocks whose data are damaged",
                    LOG_STR("volume", volume->volume.name), LOG_UINT("blocks", lost));
        return 0;
    }
    snprintf(why, why_bytes,
             "volume \"%s\": the flash is back, but %llu dirty blocks on it are damaged.  Give "
             "them up with --discard-dirty %s, or serve the volume without flash: --without-flash",
             volume->volume.name, (unsigned long long)lost, volume->volume.name);
    return -ESTALE;
}

/* From here on no record of an earlier session counts for these volumes (I25). */
static int commit_returned(struct cache *cache, char *why, size_t why_bytes)
{
    struct superblock *block = cache->superblock.block;
    int error;

    pthread_mutex_lock(&cache->superblock.lock);
    for (unsigned i = 0; i < cache->volume_count; i++) {
        struct cache_volume *own = cache->volumes[i];

        if (own->plan.verdict != ATTACH_RETURNS)
            continue;
        own->record->floor_lsn = block->session << LSN_SESSION_SHIFT;
        own->record->attachment_epoch = own->plan.epoch;
    }
    error = superblock_io_commit(&cache->superblock);
    pthread_mutex_unlock(&cache->superblock.lock);
    if (error)
        snprintf(why, why_bytes, "%s: cannot write the superblock: %s", cache->flash_path,
                 strerror(-error));
    return error;
}

/* What is about to be dropped and was dirty, as far as that is news. */
static int tell_dropped(struct cache *cache, char *why, size_t why_bytes)
{
    uint64_t count;
    struct dirty_block *list = cache_dirty_list(cache, &count);

    if (list == NULL && count > 0) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < cache->volume_count; i++) {
        const struct cache_volume *own = cache->volumes[i];
        uint64_t own_count = count;
        struct dirty_block *of = cache_dirty_of(list, &own_count, own->volume.id);
        char blocks[256];

        if (own->plan.verdict != ATTACH_RETURNS || !own->plan.discards)
            continue;
        attachment_describe(of, own_count, blocks, sizeof(blocks));
        log_warning("given up, as --discard-dirty asks: all that this flash has of the volume",
                    LOG_STR("volume", own->volume.name), LOG_STR("dirty", blocks));
    }
    free(list);
    return 0;
}

/* Only what the lists say is left of the volumes whose flash was away. */
static int keep(struct cache *cache, char *why, size_t why_bytes)
{
    int error = tell_dropped(cache, why, why_bytes);

    for (unsigned i = 0; i < cache->volume_count && !error; i++)
        if (returns(cache->volumes[i]) && !cache->volumes[i]->plan.discards)
            error = keep_listed(cache->volumes[i], why, why_bytes);
    for (unsigned i = 0; i < cache->volume_count && !error; i++)
        if (returns(cache->volumes[i]))
            drop_rest(cache->volumes[i]);
    return error;
}

int cache_attach_returned(struct cache *cache, char *why, size_t why_bytes)
{
    int error = keep(cache, why, why_bytes);

    if (!error)
        error = drain(cache, "the flash is back: its dirty data go to the backing store first", why,
                      why_bytes);
    for (unsigned i = 0; i < cache->volume_count && !error; i++)
        if (returns(cache->volumes[i]))
            error = check_drained(cache->volumes[i], why, why_bytes);
    if (error)
        return error;
    for (unsigned i = 0; i < cache->volume_count; i++)
        if (returns(cache->volumes[i]))
            drop_rest(cache->volumes[i]);
    return commit_returned(cache, why, why_bytes);
}

/* ---- a flash that can only be read -------------------------------------------------------- */

/* From here on nothing of the volume on this flash counts but what could not be read. */
static int leave(struct cache_volume *volume, const struct dirty_block *list, uint64_t count,
                 char *why, size_t why_bytes)
{
    struct dirty_block *copy = calloc(count + 1, sizeof(*copy));
    char blocks[256];

    if (copy == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    memcpy(copy, list, count * sizeof(*copy));
    attachment_describe(list, count, blocks, sizeof(blocks));
    if (count > 0)
        log_error("could not be read from the flash, or not be written to the backing store",
                  LOG_STR("volume", volume->volume.name), LOG_STR("blocks", blocks));
    else
        log_notice("the backing store has all of the volume",
                   LOG_STR("volume", volume->volume.name));
    return cache_attach_store(volume, ATTACHMENT_DETACHED, volume->plan.epoch + 1, copy, count, why,
                              why_bytes);
}

int cache_attach_drain(struct cache *cache, char *why, size_t why_bytes)
{
    struct dirty_block *list = NULL;
    uint64_t count = 0, left = 0;
    int error = keep(cache, why, why_bytes);

    if (error)
        return error;
    drain(cache, "dirty data go from the flash to the backing stores", why, why_bytes);
    list = cache_dirty_list(cache, &count);
    if (list == NULL && count > 0) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < cache->volume_count && !error; i++) {
        uint64_t own_count = count;
        struct dirty_block *own = cache_dirty_of(list, &own_count, cache->volumes[i]->volume.id);

        left += own_count;
        if (is_drained(cache->volumes[i]))
            error = leave(cache->volumes[i], own, own_count, why, why_bytes);
    }
    free(list);
    if (error || count == 0)
        return error;
    snprintf(why, why_bytes, "%llu bytes are still only on the flash: %s",
             (unsigned long long)((left > 0 ? left : count) << BLOCK_SHIFT),
             left > 0 ? "they could not be read there, or not be written to the backing store; try "
                        "it again, or go on without them"
                      : "of volumes that the configuration does not name; name them, and run this "
                        "again");
    return -EIO;
}
