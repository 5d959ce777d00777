/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes that come and go while the cache runs. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/cache-private.h"

#define LOOK_NS     1000000l
#define PATIENCE_NS (10 * NS_PER_S) /* beyond the backing store's own timeout */

/* Under change_lock. */
static int check_flash(struct cache *cache, char *why, size_t why_bytes)
{
    if (atomic_load(&cache->flash_state) == CACHE_FLASH_OK)
        return 0;
    snprintf(why, why_bytes,
             "the flash is not in use, so it cannot be told; make it work again and restart first");
    return -EIO;
}

/* What the superblock says of volumes, to be put back when it cannot be written. */
struct records {
    struct superblock_volume list[VOLUMES_MAX];
};

static struct records *records_save(struct cache *cache)
{
    struct records *records = malloc(sizeof(*records));

    if (records != NULL)
        memcpy(records->list, cache->superblock.block->volumes, sizeof(records->list));
    return records;
}

/* Ids that were given stay given. */
static void records_restore(struct cache *cache, const struct records *records)
{
    memcpy(cache->superblock.block->volumes, records->list, sizeof(records->list));
}

/* ---- coming --------------------------------------------------------------------------------- */

static int match(struct cache *cache, struct cache_volume *own, char *why, size_t why_bytes)
{
    int error = cache_volume_match(cache, own, why, why_bytes);

    if (!error && own->plan.verdict != ATTACH_NEW && own->plan.verdict != ATTACH_NORMAL) {
        snprintf(why, why_bytes,
                 "volume \"%s\": it was used without this flash; restart the daemon, which brings "
                 "the two together",
                 own->volume.name);
        error = -ESTALE;
    }
    if (!error)
        error = cache_attach_volume(own, why, why_bytes);
    return error;
}

/* From here on shards take its requests. */
static int introduce(struct cache *cache, struct cache_volume *own)
{
    struct volume_policy policy;

    cache_volume_add(cache, own);
    policy = cache_volume_policy(cache, own->record);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        shard_volume_set(runner->shard, own->volume.id, &policy);
        pthread_mutex_unlock(&runner->lock);
        shard_runner_kick(runner);
    }
    return cache_volume_measure(cache, own);
}

/* Under the superblock's lock. */
static int superblock_write(struct cache *cache, char *why, size_t why_bytes)
{
    int error = superblock_io_commit(&cache->superblock);

    if (cache->superblock.flush_failed)
        cache_loss_declare(cache);
    if (error)
        snprintf(why, why_bytes, "%s: cannot write the superblock: %s", cache->flash_path,
                 strerror(-error));
    return error;
}

/* Durable first, in the state directory, then in both superblocks (I25). */
static int make_known(struct cache *cache, struct cache_volume **list, unsigned count, char *why,
                      size_t why_bytes)
{
    struct records *records;
    int error = 0;

    pthread_mutex_lock(&cache->superblock.lock);
    records = records_save(cache);
    if (records == NULL) {
        snprintf(why, why_bytes, "out of memory");
        error = -ENOMEM;
    }
    for (unsigned i = 0; i < count && !error; i++)
        error = match(cache, list[i], why, why_bytes);
    if (!error)
        error = superblock_write(cache, why, why_bytes);
    if (error && records != NULL)
        records_restore(cache, records);
    pthread_mutex_unlock(&cache->superblock.lock);
    free(records);
    return error;
}

static bool is_ordered(const struct cache_volume *own)
{
    return own->volume.destage == DESTAGE_ORDERED;
}

/* Under change_lock. */
static int check_places(struct cache *cache, struct cache_volume *const *list, unsigned count,
                        char *why, size_t why_bytes)
{
    unsigned coming = 0, used = 0;

    if (cache->volume_count + count > VOLUMES_MAX) {
        snprintf(why, why_bytes, "a cache takes at most %u volumes", VOLUMES_MAX);
        return -ENOSPC;
    }
    for (unsigned i = 0; i < count; i++)
        coming += is_ordered(list[i]);
    for (unsigned i = 0; i < cache->volume_count; i++)
        used += is_ordered(cache->volumes[i]);
    if (coming == 0 || used + coming <= cache->ordered_places)
        return 0;
    snprintf(
        why, why_bytes,
        cache->ordered_places == 0
            ? "no volume had ordered destaging when the daemon started, so there is no memory "
              "for it; restart it, or use destage \"sorted\""
            : "there is memory for no more volumes with ordered destaging; restart the daemon, or "
              "use destage \"sorted\"");
    return -EOPNOTSUPP;
}

static int attach_opened(struct cache *cache, struct cache_volume **list, unsigned count, char *why,
                         size_t why_bytes)
{
    int error;

    pthread_mutex_lock(&cache->change_lock);
    error = check_flash(cache, why, why_bytes);
    if (!error)
        error = check_places(cache, list, count, why, why_bytes);
    if (!error)
        error = make_known(cache, list, count, why, why_bytes);
    for (unsigned i = 0; i < count && !error; i++) {
        if (introduce(cache, list[i]) != 0)
            log_warning("no memory to measure the miss ratio curve",
                        LOG_STR("volume", list[i]->volume.name));
    }
    if (!error) {
        while (!cache_volumes_publish(cache))
            nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    for (unsigned i = 0; i < count && !error; i++)
        epoch_begin(list[i]);
    pthread_mutex_unlock(&cache->change_lock);
    return error;
}

int cache_attach(struct cache *cache, const struct cache_volume_config *configs, unsigned count,
                 char *why, size_t why_bytes)
{
    struct cache_volume **list = calloc(count + 1, sizeof(struct cache_volume *));
    unsigned opened = 0;
    int error = list == NULL ? -ENOMEM : 0;

    if (error)
        snprintf(why, why_bytes, "out of memory");
    while (opened < count && !error) {
        error = volume_find(cache, configs[opened].name) != NULL ? -EEXIST : 0;
        if (error)
            snprintf(why, why_bytes, "volume \"%s\" is in service already", configs[opened].name);
        else
            error = cache_volume_create(cache, &configs[opened], &list[opened], why, why_bytes);
        if (!error)
            opened++;
    }
    if (!error)
        error = attach_opened(cache, list, count, why, why_bytes);
    for (unsigned i = 0; i < opened; i++) {
        if (error)
            cache_volume_free(list[i]);
        else
            log_notice("a volume is in service", LOG_STR("volume", list[i]->volume.name),
                       LOG_STR("backing", list[i]->volume.description));
    }
    free(list);
    return error;
}

/* ---- going ---------------------------------------------------------------------------------- */

bool cache_claim(struct volume *volume, unsigned *users)
{
    atomic_store(&volume->leaving, true);
    *users = atomic_load(&volume->users);
    if (*users > 0)
        atomic_store(&volume->leaving, false);
    return *users == 0;
}

void cache_unclaim(struct volume *volume)
{
    atomic_store(&volume->leaving, false);
}

static int check_clean(struct cache *cache, struct cache_volume *const *list, unsigned count,
                       char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t dirty = cache_dirty_blocks(cache, list[i]->volume.id);

        if (dirty == 0)
            continue;
        snprintf(why, why_bytes, "volume \"%s\": %llu bytes of it are dirty", list[i]->volume.name,
                 (unsigned long long)(dirty << BLOCK_SHIFT));
        return -EBUSY;
    }
    return 0;
}

/* No record of them counts any more, whatever others write to the backing stores from now on: their
 * ids are never given again. */
static int make_forgotten(struct cache *cache, struct cache_volume *const *list, unsigned count,
                          char *why, size_t why_bytes)
{
    struct records *records;
    int error = 0;

    pthread_mutex_lock(&cache->superblock.lock);
    records = records_save(cache);
    if (records == NULL) {
        snprintf(why, why_bytes, "out of memory");
        error = -ENOMEM;
    }
    for (unsigned i = 0; i < count && !error; i++)
        memset(list[i]->record, 0, sizeof(*list[i]->record));
    if (!error)
        error = superblock_write(cache, why, why_bytes);
    if (error && records != NULL)
        records_restore(cache, records);
    pthread_mutex_unlock(&cache->superblock.lock);
    free(records);
    return error;
}

static void take_out(struct cache *cache, struct cache_volume *own)
{
    const struct volume_policy absent = {.present = false};
    char why[PATH_MAX + 128];
    unsigned place = 0;

    /* Without it the next use with another flash must be forced; nothing else needs it. */
    if (cache_attach_store(own, ATTACHMENT_STOPPED, own->file.epoch, NULL, 0, why, sizeof(why)))
        log_warning("that the volume left cannot be noted", LOG_STR("reason", why));
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        pthread_mutex_lock(&runner->lock);
        shard_mrc_set(runner->shard, own->volume.id, NULL);
        shard_volume_set(runner->shard, own->volume.id, &absent);
        pthread_mutex_unlock(&runner->lock);
    }
    while (cache->volumes[place] != own)
        place++;
    memmove(&cache->volumes[place], &cache->volumes[place + 1],
            (--cache->volume_count - place) * sizeof(cache->volumes[0]));
    list_add_tail(&cache->gone, &own->link);
    own->is_gone = true;
}

/* True: nothing is under way at its backing store. */
static bool wait_idle(struct cache_volume *own)
{
    uint64_t end_ns = clock_ns() + own->volume.backing_timeout_ns + PATIENCE_NS;

    while (atomic_load(&own->ios) > 0) {
        if (clock_ns() > end_ns)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    return true;
}

/* The shards do not know it any more.  What they had asked for before is carried out by cores; twice
 * around all cores, and none of them comes to it again. */
static void put_away(struct cache *cache, struct cache_volume *own)
{
    struct backing *backing = own->volume.backing;
    bool idle = cores_visit(NULL, NULL) == 0 && wait_idle(own);

    cache->by_id[own->volume.id] = NULL;
    idle = idle && cores_visit(NULL, NULL) == 0 && wait_idle(own) && cores_visit(NULL, NULL) == 0;
    if (!idle) {
        log_error("the backing store of a volume that left does not answer; it stays open until "
                  "the daemon ends",
                  LOG_STR("volume", own->volume.name));
        return;
    }
    cache_hold_alone(cache);
    own->volume.backing = NULL;
    free(own->mrc_memory);
    own->mrc_memory = NULL;
    cache_release(cache);
    backing_close(backing);
}

int cache_detach(struct cache *cache, struct volume *const *volumes, unsigned count, char *why,
                 size_t why_bytes)
{
    struct cache_volume **list = calloc(count + 1, sizeof(struct cache_volume *));
    int error;

    if (list == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++)
        list[i] = cache_volume_of(volumes[i]);
    /* Nobody writes to them any more, so this holds when the lock is taken. */
    error = check_clean(cache, list, count, why, why_bytes);
    if (!error) {
        error = cache_flush_backings(cache, list, count);
        if (error)
            snprintf(why, why_bytes, "the backing store failed a flush: %s", strerror(-error));
    }
    pthread_mutex_lock(&cache->change_lock);
    if (!error)
        error = check_flash(cache, why, why_bytes);
    if (!error)
        error = make_forgotten(cache, list, count, why, why_bytes);
    for (unsigned i = 0; i < count && !error; i++)
        take_out(cache, list[i]);
    if (!error) {
        while (!cache_volumes_publish(cache))
            nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    pthread_mutex_unlock(&cache->change_lock);
    for (unsigned i = 0; i < count && !error; i++) {
        put_away(cache, list[i]);
        log_notice("a volume is out of service", LOG_STR("volume", list[i]->volume.name));
    }
    free(list);
    return error;
}
