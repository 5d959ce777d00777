/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of the configuration, matched with those in the superblock. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/uuid.h"
#include "io/attachment.h"
#include "io/backing-identity.h"
#include "io/cache-private.h"
#include "io/request-private.h"

/* ---- the front ends' view ----------------------------------------------------------------- */

struct volume *volume_find(struct cache *cache, const char *name)
{
    const struct volume_table *table = atomic_load(&cache->table);

    for (unsigned i = 0; table != NULL && i < table->count; i++) {
        if (name[0] == '\0' || strcmp(table->list[i]->volume.name, name) == 0)
            return &table->list[i]->volume;
    }
    return NULL;
}

void volume_set_unnamed(struct cache *cache, const char *name)
{
    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++)
        atomic_store(&volume->unnamed, name != NULL && strcmp(volume->name, name) == 0);
}

/* Write-back goes to the backing store itself only for large zeroing; the other modes leave each
 * write in its cache, too, and what happens to be dirty takes the log. */
bool volume_is_volatile(struct volume *volume)
{
    bool flash = cache_volume_of(volume)->cache->flash_volatile;

    return flash || (volume->mode != MODE_WRITE_BACK && backing_info(volume->backing)->has_flush);
}

const uint8_t *volume_uuid(struct volume *volume)
{
    return cache_volume_of(volume)->record->uuid;
}

unsigned volume_count(struct cache *cache)
{
    const struct volume_table *table = atomic_load(&cache->table);

    return table != NULL ? table->count : 0;
}

struct volume *volume_at(struct cache *cache, unsigned index)
{
    const struct volume_table *table = atomic_load(&cache->table);

    return table != NULL && index < table->count ? &table->list[index]->volume : NULL;
}

void cache_hold(struct cache *cache)
{
    pthread_rwlock_rdlock(&cache->held);
}

void cache_hold_alone(struct cache *cache)
{
    pthread_rwlock_wrlock(&cache->held);
}

void cache_release(struct cache *cache)
{
    pthread_rwlock_unlock(&cache->held);
}

/* ---- opening ------------------------------------------------------------------------------ */

/* Each attach takes a number: with one a day this is when a year is left. */
#define FEW_NUMBERS 365u

static int add_record(struct cache *cache, struct cache_volume *volume, char *why, size_t why_bytes)
{
    struct uuid uuid;
    uint32_t left;
    int error = uuid_generate(&uuid);

    if (error) {
        snprintf(why, why_bytes, "cannot make a UUID: %s", strerror(-error));
        return error;
    }
    volume->record =
        superblock_volume_add(cache->superblock.block, volume->volume.name, uuid.bytes);
    left = VOLUME_ID_MAX + 1 - cache->superblock.block->next_volume_id;
    if (volume->record == NULL && left == 0) {
        snprintf(why, why_bytes,
                 "%s: all of its %u numbers for volumes are used up, one by each that comes for "
                 "the first time or after a detach; what is in service stays. For more: "
                 "blkcachectl flush --wait, stop the daemon, blkcachectl format --force",
                 cache->flash_path, VOLUME_ID_MAX);
        return -ENOSPC;
    }
    if (volume->record == NULL) {
        snprintf(why, why_bytes, "%s: it knows %u volumes, and has no place for another one",
                 cache->flash_path, VOLUMES_MAX);
        return -ENOSPC;
    }
    if (left < FEW_NUMBERS)
        log_warning("the flash has few numbers left for volumes: format it again some day",
                    LOG_STR("flash", cache->flash_path), LOG_UINT("left", left));
    return 0;
}

static void say_other_store(const struct cache_volume *volume, enum backing_identity store,
                            char *why, size_t why_bytes)
{
    const char *name = volume->volume.name;

    if (store == BACKING_RENAMED)
        snprintf(why, why_bytes,
                 "volume \"%s\": its backing store has another name than last time, %s: if it is "
                 "the same store, start once with --trust-flash %s; to give up what the flash has "
                 "of it, with --discard-dirty %s",
                 name, volume->volume.description, name, name);
    else
        snprintf(
            why, why_bytes,
            "volume \"%s\": its backing store %s is not the one of last time, but another file "
            "(born at another time) or disk (with another WWID, UUID or serial number) in its "
            "place: put the other one back; or, if it is a true copy, start once with "
            "--trust-flash %s; or, if what it has counts (it was restored from a backup, say), "
            "give up what the flash has of it with --discard-dirty %s",
            name, volume->volume.description, name, name);
}

static int match_record(struct cache *cache, struct cache_volume *volume, char *why,
                        size_t why_bytes)
{
    const struct backing_info *info = backing_info(volume->volume.backing);
    enum backing_identity store = BACKING_SAME;
    bool is_new;
    int error;

    volume->record = superblock_volume_find(cache->superblock.block, volume->volume.name);
    is_new = volume->record == NULL;
    if (is_new) {
        error = add_record(cache, volume, why, why_bytes);
        if (error)
            return error;
    } else if (volume->record->bytes > info->bytes) {
        snprintf(why, why_bytes,
                 "volume \"%s\": its backing store shrank from %llu to %llu bytes, which is not "
                 "supported; give it its old size again",
                 volume->volume.name, (unsigned long long)volume->record->bytes,
                 (unsigned long long)info->bytes);
        return -EINVAL;
    }
    if (!is_new)
        store = backing_identity_compare(volume->record->backing_identity, info->identity,
                                         volume->volume.description);
    if (store != BACKING_SAME && volume->force == 0) {
        say_other_store(volume, store, why, why_bytes);
        return -EINVAL;
    }
    error = cache_attach_check(cache, volume, is_new, why, why_bytes);
    if (error)
        return error;
    if (store != BACKING_SAME && !(volume->force & ATTACH_TRUST))
        cache_attach_discard(volume);
    memcpy(volume->record->backing_identity, info->identity, 16);
    volume->record->bytes = info->bytes;
    volume->record->mode = volume->volume.mode;
    volume->volume.id = volume->record->id;
    volume->volume.bytes = info->bytes;
    return 0;
}

static int check_backing(const struct cache_volume_config *config, const struct backing_info *info,
                         char *why, size_t why_bytes)
{
    if (info->bytes == 0) {
        snprintf(why, why_bytes, "volume \"%s\": its backing store %s is empty", config->name,
                 config->backing);
        return -EINVAL;
    }
    if (info->bytes > VOLUME_BLOCKS_MAX << BLOCK_SHIFT) {
        snprintf(why, why_bytes, "volume \"%s\": its backing store %s is too large", config->name,
                 config->backing);
        return -EFBIG;
    }
    return 0;
}

static struct ranges pins_of_bytes(const struct ranges *bytes)
{
    struct ranges pins = *bytes;

    for (uint32_t i = 0; i < pins.count; i++) {
        struct range *range = &pins.list[i];

        range->first >>= BLOCK_SHIFT;
        range->end = range->end == UINT64_MAX ? UINT64_MAX : range->end >> BLOCK_SHIFT;
    }
    return pins;
}

/* Whether the flash may have dirty data of a volume. */
static bool may_owe(const struct cache *cache, const char *name)
{
    struct attachment file;
    char ignored[PATH_MAX + 256];
    bool owes = true;

    if (superblock_volume_find(cache->superblock.block, name) == NULL)
        return false;
    if (cache->state_dir != NULL &&
        attachment_load(cache->state_dir, name, &file, ignored, sizeof(ignored)) == 0) {
        owes = file.state != ATTACHMENT_STOPPED || file.dirty_count > 0;
        free(file.dirty);
    }
    return owes;
}

/* A volume that its clients may only read is opened for writing as long as it is owed something. */
static int open_backing(const struct cache *cache, const struct cache_volume_config *config,
                        struct backing **backing, char *why, size_t why_bytes)
{
    int error = -EROFS;

    if (!config->read_only || may_owe(cache, config->name))
        error = backing_open(backing, config->backing, false, config->backing_timeout_ns, why,
                             why_bytes);
    if (error && config->read_only)
        error = backing_open(backing, config->backing, true, config->backing_timeout_ns, why,
                             why_bytes);
    return error;
}

int cache_volume_create(struct cache *cache, const struct cache_volume_config *config,
                        struct cache_volume **created, char *why, size_t why_bytes)
{
    struct cache_volume *own = calloc(1, sizeof(*own));
    struct volume *volume;
    char reason[512];
    int error;

    if (own != NULL)
        own->figures = request_volume_create(cache->core_count);
    if (own == NULL || own->figures == NULL) {
        free(own);
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    volume = &own->volume;
    own->cache = cache;
    cache_volume_flush_init(own);
    epoch_init(&own->epochs);
    snprintf(volume->name, sizeof(volume->name), "%s", config->name);
    snprintf(volume->description, sizeof(volume->description), "%s", config->backing);
    volume->mode = config->mode;
    volume->destage = config->destage;
    volume->read_only = config->read_only;
    volume->nbd = config->nbd;
    volume->ublk = config->ublk;
    volume->sequential_cutoff_bytes = config->sequential_cutoff_bytes;
    volume->backing_timeout_ns = config->backing_timeout_ns;
    volume->dirty_max_percent = config->dirty_max_percent;
    volume->share_min_percent = config->share_min_percent;
    volume->share_max_percent = config->share_max_percent;
    own->pins = pins_of_bytes(&config->pins);
    own->force =
        (config->discard_dirty ? ATTACH_DISCARD : 0u) | (config->trust_flash ? ATTACH_TRUST : 0u);
    atomic_init(&volume->epoch, 1);

    error = open_backing(cache, config, &volume->backing, reason, sizeof(reason));
    if (error)
        snprintf(why, why_bytes, "volume \"%s\": %s", config->name, reason);
    else
        error = check_backing(config, backing_info(volume->backing), why, why_bytes);
    if (error) {
        cache_volume_free(own);
        return error;
    }
    *created = own;
    return 0;
}

int cache_volume_match(struct cache *cache, struct cache_volume *own, char *why, size_t why_bytes)
{
    struct volume *volume = &own->volume;
    int error = match_record(cache, own, why, why_bytes);

    if (error)
        return error;
    if (cache->by_id[volume->id] != NULL) {
        snprintf(why, why_bytes, "volume \"%s\" is configured twice", volume->name);
        return -EINVAL;
    }
    backing_set_owner(volume->backing, volume->id % cache->core_count);
    /* What the last session left unflushed there (hazard 13), perhaps one without this flash. */
    own->backing_debt = !cache->started_clean || own->plan.verdict != ATTACH_NORMAL;
    atomic_init(&volume->backing_writes, own->backing_debt ? 1 : 0);
    return 0;
}

void cache_volume_add(struct cache *cache, struct cache_volume *own)
{
    cache->by_id[own->volume.id] = own;
    cache->volumes[cache->volume_count++] = own;
}

bool cache_volumes_publish(struct cache *cache)
{
    size_t bytes = cache->volume_count * sizeof(cache->volumes[0]);
    struct volume_table *table = malloc(sizeof(*table) + bytes);

    if (table == NULL)
        return false;
    table->older = cache->table;
    table->count = cache->volume_count;
    memcpy(table->list, cache->volumes, bytes);
    cache->table = table;
    return true;
}

int cache_volumes_open(struct cache *cache, const struct cache_config *config, char *why,
                       size_t why_bytes)
{
    struct cache_volume *own;
    int error = 0;

    for (unsigned i = 0; i < config->volume_count && !error; i++) {
        error = cache_volume_create(cache, &config->volumes[i], &own, why, why_bytes);
        if (error)
            break;
        error = cache_volume_match(cache, own, why, why_bytes);
        if (error)
            cache_volume_free(own);
        else
            cache_volume_add(cache, own);
    }
    if (!error && !cache_volumes_publish(cache)) {
        snprintf(why, why_bytes, "out of memory");
        error = -ENOMEM;
    }
    for (unsigned i = 0; i < config->volume_count && !error; i++) {
        if (!config->volumes[i].nbd)
            continue;
        volume_set_unnamed(cache, config->volumes[i].name);
        break;
    }
    return error;
}

void cache_volume_free(struct cache_volume *own)
{
    backing_close(own->volume.backing);
    flush_destroy(&own->flush);
    epoch_destroy(&own->epochs);
    free(own->figures);
    free(own->mrc_memory);
    free(own->file.dirty);
    free(own);
}

void cache_volumes_close(struct cache *cache)
{
    struct volume_table *table = cache->table, *older;

    for (unsigned i = 0; i < cache->volume_count; i++)
        cache_volume_free(cache->volumes[i]);
    while (!list_empty(&cache->gone))
        cache_volume_free(container_of(list_take_first(&cache->gone), struct cache_volume, link));
    for (; table != NULL; table = older) {
        older = table->older;
        free(table);
    }
    cache->table = NULL;
    cache->volume_count = 0;
}

/* ---- what shards are told ----------------------------------------------------------------- */

/* A volume that is not configured keeps its records for the time being: they may be dirty. */
struct volume_policy cache_volume_policy(const struct cache *cache,
                                         const struct superblock_volume *record)
{
    const struct cache_volume *own = cache->by_id[record->id];

    return (struct volume_policy){
        .present = true,
        .mode = own != NULL ? own->volume.mode : MODE_WRITE_BACK,
        .destage = own != NULL && cache->flash.fd >= 0 ? own->volume.destage : DESTAGE_SORTED,
        .backing_debt = own != NULL ? own->backing_debt : !cache->started_clean,
        .returns = own != NULL && own->plan.verdict == ATTACH_RETURNS,
        .blocks = (record->bytes + BLOCK_BYTES - 1) >> BLOCK_SHIFT,
        .floor_lsn = record->floor_lsn,
        .dirty_max_percent = own != NULL ? own->volume.dirty_max_percent : 0,
        .share_min_percent = own != NULL ? own->volume.share_min_percent : 0,
        .share_max_percent = own != NULL ? own->volume.share_max_percent : 0,
        .pins = own != NULL ? own->pins : (struct ranges){0},
        .stall_timeout_ns = own != NULL ? own->volume.backing_timeout_ns : 0,
    };
}

void cache_volume_policies(struct cache *cache, struct shard *shard)
{
    const struct superblock *block = cache->superblock.block;

    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        const struct superblock_volume *record = &block->volumes[i];
        struct volume_policy policy;

        if (record->state != VOLUME_ACTIVE)
            continue;
        policy = cache_volume_policy(cache, record);
        shard_volume_set(shard, record->id, &policy);
    }
}

void cache_volume_set(struct cache *cache, struct volume *volume,
                      const struct volume_settings *settings)
{
    struct cache_volume *own = cache_volume_of(volume);
    struct volume_policy policy;

    pthread_mutex_lock(&cache->change_lock);
    if (own->is_gone) {
        pthread_mutex_unlock(&cache->change_lock);
        return;
    }
    volume->mode = settings->mode;
    volume->dirty_max_percent = settings->dirty_max_percent;
    volume->share_min_percent = settings->share_min_percent;
    volume->share_max_percent = settings->share_max_percent;
    own->pins = pins_of_bytes(&settings->pins);
    volume->sequential_cutoff_bytes = settings->sequential_cutoff_bytes;
    pthread_mutex_lock(&cache->superblock.lock);
    own->record->mode = settings->mode; /* durable with the next commit; nothing relies on it */
    policy = cache_volume_policy(cache, own->record);
    pthread_mutex_unlock(&cache->superblock.lock);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_volume_set(cache->runners[i].shard, volume->id, &policy);
        pthread_mutex_unlock(&cache->runners[i].lock);
        shard_runner_kick(&cache->runners[i]);
    }
    pthread_mutex_unlock(&cache->change_lock);
}

void cache_volume_pins(struct cache *cache, const struct volume *volume, struct ranges *pins)
{
    struct shard_runner *runner = &cache->runners[0]; /* all have the same */

    pthread_mutex_lock(&runner->lock);
    *pins = shard_volume_pins(runner->shard, volume->id);
    pthread_mutex_unlock(&runner->lock);
    for (uint32_t i = 0; i < pins->count; i++) {
        struct range *range = &pins->list[i];

        range->first <<= BLOCK_SHIFT;
        range->end = range->end == UINT64_MAX ? UINT64_MAX : range->end << BLOCK_SHIFT;
    }
}

/* Samples of all shards together: about 1 MiB a volume. */
#define MRC_SAMPLES     16384u
#define MRC_SAMPLES_MIN 512u

int cache_volume_measure(struct cache *cache, struct cache_volume *own)
{
    uint32_t samples = MRC_SAMPLES / cache->shard_count;
    size_t bytes;

    if (samples < MRC_SAMPLES_MIN)
        samples = MRC_SAMPLES_MIN;
    bytes = (mrc_bytes(samples) + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    own->mrc_memory = aligned_alloc(BLOCK_BYTES, cache->shard_count * bytes);
    if (own->mrc_memory == NULL)
        return -ENOMEM;
    for (unsigned k = 0; k < cache->shard_count; k++) {
        struct mrc *mrc = mrc_init(own->mrc_memory + k * bytes, samples);

        pthread_mutex_lock(&cache->runners[k].lock);
        shard_mrc_set(cache->runners[k].shard, own->volume.id, mrc);
        pthread_mutex_unlock(&cache->runners[k].lock);
    }
    return 0;
}

int cache_volumes_measure(struct cache *cache)
{
    int error = 0;

    for (unsigned i = 0; i < cache->volume_count && !error; i++)
        error = cache_volume_measure(cache, cache->volumes[i]);
    return error;
}

static void forget(struct cache *cache, struct superblock_volume *record)
{
    const struct volume_policy absent = {.present = false};

    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_volume_set(cache->runners[i].shard, record->id, &absent);
        pthread_mutex_unlock(&cache->runners[i].lock);
    }
    log_notice("a volume that is not configured any more is forgotten",
               LOG_STR("volume", record->name));
    /* Its id is never given again, so its records stay dead. */
    memset(record, 0, sizeof(*record));
}

void cache_volumes_prune(struct cache *cache)
{
    struct superblock *block = cache->superblock.block;
    bool changed = false;
    int error = 0;

    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        struct superblock_volume *record = &block->volumes[i];
        uint64_t dirty;

        if (record->state != VOLUME_ACTIVE || cache->by_id[record->id] != NULL)
            continue;
        dirty = cache_dirty_blocks(cache, record->id);
        if (dirty > 0) {
            log_warning("a volume that is not configured any more has dirty data on the flash, "
                        "which is kept: configure it again to have it written back",
                        LOG_STR("volume", record->name), LOG_UINT("bytes", dirty << BLOCK_SHIFT));
            continue;
        }
        pthread_mutex_lock(&cache->superblock.lock);
        forget(cache, record);
        pthread_mutex_unlock(&cache->superblock.lock);
        changed = true;
    }
    if (!changed)
        return;
    pthread_mutex_lock(&cache->superblock.lock);
    error = superblock_io_commit(&cache->superblock);
    pthread_mutex_unlock(&cache->superblock.lock);
    if (error)
        log_error("cannot write the superblock", LOG_STR("flash", cache->flash_path),
                  LOG_ERRNO(error));
}
