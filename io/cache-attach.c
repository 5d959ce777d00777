/* SPDX-License-Identifier: Apache-2.0 */
/* Attachment of volumes at start and stop: docs/attachment.md, whose durable steps are these. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/uuid.h"
#include "io/attachment.h"
#include "io/cache-private.h"

#define LIST_BLOCKS        1024u
#define ONE_SHARD_BLOCKS   (1u << 20) /* lost: more shards would cost more memory */
#define WITHOUT_SHARDS_MAX 16u

/* ---- lists of dirty blocks ---------------------------------------------------------------- */

static int compare(const void *one, const void *other)
{
    const struct dirty_block *a = one, *b = other;

    if (a->volume != b->volume)
        return a->volume < b->volume ? -1 : 1;
    return a->block < b->block ? -1 : a->block > b->block;
}

/* Adds those of one shard; false: no memory. */
static bool list_shard(struct shard_runner *runner, struct dirty_block **list, uint64_t *count,
                       uint64_t *room)
{
    for (uint32_t cursor = 0; cursor != UINT32_MAX;) {
        if (*room - *count < LIST_BLOCKS) {
            struct dirty_block *larger =
                realloc(*list, (2 * *room + LIST_BLOCKS) * sizeof(*larger));

            if (larger == NULL)
                return false;
            *list = larger;
            *room = 2 * *room + LIST_BLOCKS;
        }
        pthread_mutex_lock(&runner->lock);
        *count += shard_dirty_list(runner->shard, &cursor, *list + *count, LIST_BLOCKS);
        pthread_mutex_unlock(&runner->lock);
    }
    return true;
}

struct dirty_block *cache_dirty_list(struct cache *cache, uint64_t *count)
{
    struct dirty_block *list = NULL;
    uint64_t room = 0;

    *count = 0;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        if (!list_shard(&cache->runners[i], &list, count, &room)) {
            free(list);
            return NULL;
        }
    }
    if (*count > 0)
        qsort(list, *count, sizeof(*list), compare);
    return list;
}

struct dirty_block *cache_dirty_of(struct dirty_block *list, uint64_t *count, uint16_t volume)
{
    uint64_t first = 0, end;

    while (first < *count && list[first].volume < volume)
        first++;
    for (end = first; end < *count && list[end].volume == volume;)
        end++;
    *count = end - first;
    return list + first;
}

struct shard_runner *cache_runner_of(struct cache *cache, uint16_t volume, uint64_t block)
{
    return &cache->runners[shard_of(volume, block, cache->shard_count)];
}

/* ---- the state directory ------------------------------------------------------------------ */

/* Whoever has only read the volume since the start has made no older copy of the flash stale. */
static uint64_t sequence_of(struct cache_volume *volume, uint8_t state)
{
    struct cache *cache = volume->cache;
    struct counters counters;

    if (state == ATTACHMENT_STOPPED && volume->sequence_before != 0) {
        cache_counters(cache, volume->volume.id, &counters);
        if (counters.write_blocks + counters.zero_blocks == 0)
            return volume->sequence_before;
    }
    return cache->superblock.sequence;
}

int cache_attach_store(struct cache_volume *volume, uint8_t state, uint64_t epoch,
                       struct dirty_block *dirty, uint64_t count, char *why, size_t why_bytes)
{
    struct cache *cache = volume->cache;
    struct attachment file = {.state = state, .epoch = epoch, .dirty = dirty, .dirty_count = count};
    int error;

    if (volume->plan.verdict == ATTACH_WITHOUT) { /* still speaks of the flash that is not here */
        memcpy(file.flash, volume->file.flash, sizeof(file.flash));
        file.sequence = volume->file.sequence;
    } else {
        memcpy(file.flash, cache->superblock.block->uuid, sizeof(file.flash));
        file.sequence = sequence_of(volume, state);
    }
    error = cache->state_dir == NULL
                ? 0
                : attachment_store(cache->state_dir, volume->volume.name, &file, why, why_bytes);
    if (error) {
        free(dirty);
        return error;
    }
    free(volume->file.dirty);
    volume->file = file;
    return 0;
}

static int store_attached(struct cache_volume *volume, char *why, size_t why_bytes)
{
    const struct attachment *file = &volume->file;

    if (file->state == ATTACHMENT_ATTACHED && file->epoch == volume->plan.epoch &&
        file->sequence == volume->cache->superblock.sequence &&
        memcmp(file->flash, volume->cache->superblock.block->uuid, sizeof(file->flash)) == 0)
        return 0;
    return cache_attach_store(volume, ATTACHMENT_ATTACHED, volume->plan.epoch, NULL, 0, why,
                              why_bytes);
}

int cache_attach_stopped(struct cache *cache)
{
    uint64_t count;
    struct dirty_block *list = cache_dirty_list(cache, &count);
    char why[PATH_MAX + 128];
    int error;

    /* A sequence number that no copy of the flash has that was made while it was in use. */
    pthread_mutex_lock(&cache->superblock.lock);
    error = superblock_io_commit(&cache->superblock);
    pthread_mutex_unlock(&cache->superblock.lock);
    if (error) {
        free(list);
        return error;
    }
    for (unsigned i = 0; i < cache->volume_count && list != NULL; i++) {
        struct cache_volume *own = cache->volumes[i];
        uint64_t own_count = count;
        struct dirty_block *from = cache_dirty_of(list, &own_count, own->volume.id);
        struct dirty_block *copy = calloc(own_count + 1, sizeof(*copy));

        if (copy == NULL)
            break;
        memcpy(copy, from, own_count * sizeof(*copy));
        /* Without it a start without the flash must be forced; nothing else needs it. */
        if (cache_attach_store(own, ATTACHMENT_STOPPED, own->file.epoch, copy, own_count, why,
                               sizeof(why)) != 0)
            log_warning("what is dirty on the flash cannot be noted", LOG_STR("reason", why));
    }
    free(list);
    return 0;
}

/* ---- the decision ------------------------------------------------------------------------- */

static void say_stale(struct cache_volume *volume, char *why, size_t why_bytes)
{
    struct cache *cache = volume->cache;

    if (volume->record->attachment_epoch == volume->file.epoch) {
        snprintf(
            why, why_bytes,
            "%s: stale for volume \"%s\": it is an older copy of the flash that the volume was "
            "used with since (superblock number %llu there, %llu in %s).  Start with that "
            "flash, or give up what this one holds of it with --discard-dirty %s",
            cache->flash_path, volume->volume.name, (unsigned long long)cache->superblock.sequence,
            (unsigned long long)volume->file.sequence, cache->state_dir, volume->volume.name);
        return;
    }
    snprintf(why, why_bytes,
             "%s: stale for volume \"%s\": the volume was used without this flash since (epoch "
             "%llu there, %llu in %s).  Start with the flash that it was used with, or give up "
             "what this one holds of it with --discard-dirty %s",
             cache->flash_path, volume->volume.name,
             (unsigned long long)volume->record->attachment_epoch,
             (unsigned long long)volume->file.epoch, cache->state_dir, volume->volume.name);
}

static void say_elsewhere(struct cache_volume *volume, char *why, size_t why_bytes)
{
    const char *name = volume->volume.name;
    char blocks[256], text[UUID_TEXT_BYTES];
    struct uuid uuid;

    memcpy(uuid.bytes, volume->file.flash, sizeof(uuid.bytes));
    uuid_print(text, &uuid);
    if (volume->plan.verdict == ATTACH_BLOCKS) {
        attachment_describe(volume->file.dirty, volume->file.dirty_count, blocks, sizeof(blocks));
        snprintf(why, why_bytes,
                 "volume \"%s\": only flash %s has %s.  Start with that flash, or give these "
                 "blocks up with --discard-dirty %s",
                 name, text, blocks, name);
        return;
    }
    snprintf(why, why_bytes,
             "volume \"%s\": it was used with flash %s, and not stopped cleanly: that flash may "
             "have the only copy of acknowledged writes, nobody knows of which blocks.  Start "
             "with it, or give up what is dirty there with --discard-dirty %s",
             name, text, name);
}

static void say_state(struct cache_volume *volume, char *why, size_t why_bytes)
{
    const char *name = volume->volume.name, *dir = volume->cache->state_dir;

    if (volume->cache->flash.fd < 0)
        snprintf(why, why_bytes,
                 "volume \"%s\": %s does not know which blocks of it are dirty on the flash that "
                 "is not here.  Restore that directory, or, if there are none or they are to be "
                 "given up, start once with --discard-dirty %s",
                 name, dir, name);
    else
        snprintf(why, why_bytes,
                 "volume \"%s\": the flash knows it (epoch %llu), and %s does not, or knows less "
                 "(epoch %llu): that directory was lost, or is another machine's.  Restore it; "
                 "or, if the volume was not written without this flash, start once with "
                 "--trust-flash %s; or give up what the flash has of it with --discard-dirty %s",
                 name, (unsigned long long)volume->record->attachment_epoch, dir,
                 (unsigned long long)volume->file.epoch, name, name);
}

int cache_attach_check(struct cache *cache, struct cache_volume *volume, bool is_new, char *why,
                       size_t why_bytes)
{
    const struct superblock *block = cache->superblock.block;
    struct attach_flash flash = {
        .here = cache->flash.fd >= 0, .known = !is_new, .epoch = volume->record->attachment_epoch};
    int error;

    volume->plan =
        (struct attach_plan){.verdict = is_new ? ATTACH_NEW : ATTACH_NORMAL, .epoch = flash.epoch};
    if (cache->state_dir == NULL)
        return 0;
    error = attachment_load(cache->state_dir, volume->volume.name, &volume->file, why, why_bytes);
    if (error)
        return error;
    flash.sequence = cache->superblock.sequence;
    memcpy(flash.uuid, block->uuid, sizeof(flash.uuid));
    memcpy(flash.replaces, block->replaces, sizeof(flash.replaces));
    volume->plan = attach_decide(&volume->file, &flash, volume->force);
    if (volume->plan.verdict == ATTACH_NORMAL && volume->force == 0)
        volume->sequence_before = volume->file.sequence;
    switch (volume->plan.verdict) {
    case ATTACH_STALE: say_stale(volume, why, why_bytes); break;
    case ATTACH_BLOCKS:
    case ATTACH_UNKNOWN: say_elsewhere(volume, why, why_bytes); break;
    case ATTACH_STATE: say_state(volume, why, why_bytes); break;
    default: break;
    }
    return attach_refuses(&volume->plan) ? -ESTALE : 0;
}

void cache_attach_discard(struct cache_volume *volume)
{
    struct attach_plan *plan = &volume->plan;

    if (plan->discards || (plan->verdict != ATTACH_NORMAL && plan->verdict != ATTACH_RETURNS))
        return;
    *plan =
        (struct attach_plan){.verdict = ATTACH_RETURNS, .discards = true, .epoch = plan->epoch + 1};
}

/* ---- before the session ------------------------------------------------------------------- */

static void tell_given_up(const struct cache_volume *volume)
{
    const struct attachment *file = &volume->file;
    char blocks[256] = "not known";

    if (file->state == ATTACHMENT_STOPPED || file->state == ATTACHMENT_DETACHED)
        attachment_describe(file->dirty, file->dirty_count, blocks, sizeof(blocks));
    log_warning("given up, as --discard-dirty asks: what is dirty on another flash, or on this "
                "one and stale",
                LOG_STR("volume", volume->volume.name), LOG_STR("blocks", blocks));
}

/* Whoever gave --force to format knows the flash, perhaps not what it held. */
static void tell_formatted_over(const struct cache_volume *volume)
{
    const struct attachment *file = &volume->file;
    char blocks[256] = "not known";

    if (file->state == ATTACHMENT_NONE ||
        (file->state != ATTACHMENT_ATTACHED && file->dirty_count == 0) ||
        memcmp(file->flash, volume->cache->superblock.block->uuid, sizeof(file->flash)) == 0)
        return;
    if (file->state != ATTACHMENT_ATTACHED)
        attachment_describe(file->dirty, file->dirty_count, blocks, sizeof(blocks));
    log_warning("given up: what was dirty on the flash that was formatted",
                LOG_STR("volume", volume->volume.name), LOG_STR("blocks", blocks));
}

int cache_attach_volume(struct cache_volume *volume, char *why, size_t why_bytes)
{
    const struct attach_plan *plan = &volume->plan;
    struct attachment *file = &volume->file;
    struct dirty_block *dirty = NULL;
    uint64_t count = 0;

    if (plan->discards)
        tell_given_up(volume);
    else if (plan->verdict == ATTACH_NEW)
        tell_formatted_over(volume);
    switch (plan->verdict) {
    case ATTACH_NEW:
    case ATTACH_NORMAL:
        volume->record->attachment_epoch = plan->epoch;
        /* What makes the list unnecessary must be durable in both superblocks first. */
        if (plan->verdict == ATTACH_NORMAL && file->state == ATTACHMENT_DETACHED)
            return 0;
        return store_attached(volume, why, why_bytes);
    case ATTACH_RETURNS:
        if (!plan->discards)
            return 0;
        break;
    default: /* ATTACH_WITHOUT */
        if (!plan->discards && file->state == ATTACHMENT_DETACHED)
            return 0;
        if (!plan->discards) {
            dirty = file->dirty;
            count = file->dirty_count;
            file->dirty = NULL; /* the list is moved */
        }
        break;
    }
    return cache_attach_store(volume, ATTACHMENT_DETACHED, plan->epoch, dirty, count, why,
                              why_bytes);
}

/* Only when nothing can be refused any more: it may make another flash stale. */
int cache_attach_begin(struct cache *cache, char *why, size_t why_bytes)
{
    int error = 0;

    for (unsigned i = 0; i < cache->volume_count && !error; i++)
        error = cache_attach_volume(cache->volumes[i], why, why_bytes);
    return error;
}

bool cache_attach_holds(const struct cache *cache)
{
    for (unsigned i = 0; i < cache->volume_count; i++)
        if (cache->volumes[i]->plan.verdict == ATTACH_RETURNS)
            return true;
    return false;
}

/* ---- without a flash ---------------------------------------------------------------------- */

static uint64_t lost_blocks(const struct cache_config *config)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < config->volume_count && config->state_dir != NULL; i++) {
        struct attachment file;
        char ignored[PATH_MAX + 256];

        /* A damaged file is refused later. */
        if (attachment_load(config->state_dir, config->volumes[i].name, &file, ignored,
                            sizeof(ignored)) != 0)
            continue;
        sum += file.dirty_count;
        free(file.dirty);
    }
    return sum;
}

int cache_attach_without(struct cache *cache, const struct cache_config *config, char *why,
                         size_t why_bytes)
{
    static const uint8_t no_uuid[16];
    uint64_t lost = lost_blocks(config);
    uint64_t segments = lost / (SEGMENT_BYTES_MIN / BLOCK_BYTES / 2) + 64;
    uint32_t shards = 1;
    struct superblock_geometry geometry = {.segment_bytes = SEGMENT_BYTES_MIN};

    while (lost <= ONE_SHARD_BLOCKS && shards < config->core_count * 2 &&
           shards < WITHOUT_SHARDS_MAX)
        shards *= 2;
    geometry.shards = shards;
    geometry.device_bytes = DATA_OFFSET + SUPERBLOCK_BYTES + segments * shards * SEGMENT_BYTES_MIN;
    pthread_mutex_init(&cache->superblock.lock, NULL);
    cache->superblock.lost = true;
    cache->superblock.block = calloc(1, sizeof(*cache->superblock.block));
    if (cache->superblock.block == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    return superblock_init(cache->superblock.block, &geometry, no_uuid, why, why_bytes);
}

static void finish_without(struct cache_volume *volume)
{
    struct cache *cache = volume->cache;
    const struct attachment *file = &volume->file;
    char blocks[256];

    for (uint64_t i = 0; i < file->dirty_count; i++) {
        struct shard_runner *runner =
            cache_runner_of(cache, volume->volume.id, file->dirty[i].block);

        pthread_mutex_lock(&runner->lock);
        shard_lost_add(runner->shard, volume->volume.id, file->dirty[i].block, file->dirty[i].zero);
        pthread_mutex_unlock(&runner->lock);
    }
    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_pass_through(cache->runners[i].shard, volume->volume.id);
        pthread_mutex_unlock(&cache->runners[i].lock);
    }
    atomic_store(&volume->volume.detached, true);
    attachment_describe(file->dirty, file->dirty_count, blocks, sizeof(blocks));
    log_warning("the volume is served in pass-through, without flash; requests that touch blocks "
                "which only the flash has fail",
                LOG_STR("volume", volume->volume.name), LOG_STR("only_on_flash", blocks));
}

/* ---- the end of a start -------------------------------------------------------------------- */

static void release(struct cache *cache)
{
    for (unsigned i = 0; i < cache->shard_count; i++) {
        pthread_mutex_lock(&cache->runners[i].lock);
        shard_release(cache->runners[i].shard);
        pthread_mutex_unlock(&cache->runners[i].lock);
        shard_runner_kick(&cache->runners[i]);
    }
}

int cache_attach_finish(struct cache *cache, char *why, size_t why_bytes)
{
    bool held = cache_attach_holds(cache);
    int error = held ? cache_attach_returned(cache, why, why_bytes) : 0;

    for (unsigned i = 0; i < cache->volume_count && !error; i++) {
        struct cache_volume *own = cache->volumes[i];

        if (own->plan.verdict == ATTACH_WITHOUT)
            finish_without(own);
        else
            error = store_attached(own, why, why_bytes);
        if (!error && own->plan.verdict == ATTACH_RETURNS)
            log_notice("the flash is back: the volume is cached again",
                       LOG_STR("volume", own->volume.name));
    }
    if (held && !error)
        release(cache);
    return error;
}
