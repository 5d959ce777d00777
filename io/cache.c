/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the cache: open, start with recovery, stop, close. */
#include "io/cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"

#define STOP_SECONDS_MAX 120 /* then the stop is not clean, which costs only a recovery */

static int out_of_memory(char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "out of memory");
    return -ENOMEM;
}

/* ---- open --------------------------------------------------------------------------------- */

static int copy_config(struct cache *cache, const struct cache_config *config)
{
    size_t bytes = config->core_count * sizeof(*cache->processors);

    cache->flash_path = strdup(config->flash);
    cache->state_dir = config->state_dir != NULL ? strdup(config->state_dir) : NULL;
    cache->processors = malloc(bytes);
    if (cache->flash_path == NULL || cache->processors == NULL ||
        (config->state_dir != NULL && cache->state_dir == NULL))
        return -ENOMEM;
    memcpy(cache->processors, config->cores, bytes);
    cache->core_count = config->core_count;
    cache->buffer_bytes = config->buffer_bytes;
    cache->ram_bytes = config->ram_bytes;
    return 0;
}

/* Before the state directory is told anything.  -EIO: it may be worn out, and still be read. */
static int probe(struct cache *cache, char *why, size_t why_bytes)
{
    int error = superblock_io_probe(&cache->superblock);

    if (!error)
        return 0;
    snprintf(why, why_bytes,
             "%s: cannot be written: %s; to bring what only it has to the backing stores, if it "
             "can be read, run: blkcached --drain-flash",
             cache->flash_path, strerror(-error));
    return -EIO;
}

static int open_flash(struct cache *cache, const struct cache_config *config, char *why,
                      size_t why_bytes)
{
    char reason[512] = "";
    int error = device_open(&cache->flash, config->flash, config->drain ? DEVICE_READ_ONLY : 0, why,
                            why_bytes);

    if (error)
        return error;
    if (!cache->flash.direct)
        log_warning("the flash does not take direct I/O, so all data goes through the page cache; "
                    "use a block device, or a file on a file system that does",
                    LOG_STR("flash", config->flash));
    cache->flash_volatile = config->volatile_cache == VOLATILE_AUTO
                                ? cache->flash.volatile_cache
                                : config->volatile_cache == VOLATILE_YES;
    cache->drains = config->drain;
    if (cache->drains)
        cache->flash_volatile = false;
    error = superblock_io_open(&cache->superblock, &cache->flash, reason, sizeof(reason));
    if (error == -ENODATA)
        snprintf(why, why_bytes, "%s: not formatted; run: blkcachectl format %s", config->flash,
                 config->flash);
    else if (error == -EMEDIUMTYPE)
        snprintf(why, why_bytes,
                 "%s: holds something else than a cache; if that may be lost, run: "
                 "blkcachectl format --force %s",
                 config->flash, config->flash);
    else if (error)
        snprintf(why, why_bytes, "%s: %s", config->flash, reason);
    else if (!config->drain)
        error = probe(cache, why, why_bytes);
    cache->flash.slot = core_file_add(cache->flash.fd);
    return error;
}

/* Whether a start without flash may follow: it is not there, does not answer, or cannot be written.
 * Not when somebody else uses it. */
static bool is_missing(int error)
{
    return error == -ENOENT || error == -ENXIO || error == -ENODEV || error == -EIO ||
           error == -ENODATA || error == -EREMOTEIO || error == -ENOMEDIUM || error == -EROFS;
}

static int open_without_flash(struct cache *cache, const struct cache_config *config, char *why,
                              size_t why_bytes)
{
    log_error("the flash cannot be used: starting without it", LOG_STR("reason", why));
    if (cache->superblock.block != NULL)
        superblock_io_close(&cache->superblock);
    device_close(&cache->flash);
    memset(&cache->superblock, 0, sizeof(cache->superblock));
    cache->flash_volatile = false;
    atomic_store(&cache->flash_state, CACHE_FLASH_MISSING);
    return cache_attach_without(cache, config, why, why_bytes);
}

/* From here on this session's number is in front of every LSN (I18). */
static int begin_session(struct cache *cache, char *why, size_t why_bytes)
{
    struct superblock *block = cache->superblock.block;
    int error;

    if (block->session + 1 >= UINT64_C(1) << (64 - LSN_SESSION_SHIFT)) {
        snprintf(why, why_bytes, "%s: was started too often; flush it, and format it again",
                 cache->flash_path);
        return -EOVERFLOW;
    }
    block->session++;
    block->flags &= ~(uint32_t)SUPERBLOCK_CLEAN;
    cache->superblock.lost |= cache->drains;
    if (cache->drains)
        return 0;
    error = superblock_io_commit(&cache->superblock);
    if (error)
        snprintf(why, why_bytes, "%s: cannot write the superblock: %s", cache->flash_path,
                 strerror(-error));
    return error;
}

int cache_open(struct cache **opened, const struct cache_config *config, char *why,
               size_t why_bytes)
{
    struct cache *cache = calloc(1, sizeof(*cache));
    int error;

    *opened = NULL;
    if (cache == NULL)
        return out_of_memory(why, why_bytes);
    cache->flash.fd = -1;
    cache->flash.slot = -1;
    pthread_mutex_init(&cache->lock, NULL);
    clock_condition_init(&cache->changed);
    pthread_mutex_init(&cache->change_lock, NULL);
    pthread_rwlock_init(&cache->held, NULL);
    list_init(&cache->gone);
    cache_flush_init(cache);
    error = copy_config(cache, config);
    if (error)
        out_of_memory(why, why_bytes);
    else
        error = open_flash(cache, config, why, why_bytes);
    if (is_missing(error) && !config->drain) {
        if (config->without_flash)
            error = open_without_flash(cache, config, why, why_bytes);
        else
            snprintf(why + strlen(why), why_bytes - strlen(why),
                     "; to serve the volumes in pass-through meanwhile, start with "
                     "--without-flash");
    }
    if (!error) {
        cache->started_clean = cache->superblock.block->flags & SUPERBLOCK_CLEAN;
        error = cache_volumes_open(cache, config, why, why_bytes);
    }
    if (!error && !cache->drains)
        error = cache_attach_begin(cache, why, why_bytes);
    if (!error && atomic_load(&cache->flash_state) == CACHE_FLASH_OK)
        error = begin_session(cache, why, why_bytes);
    if (error) {
        cache_close(cache);
        return error;
    }
    *opened = cache;
    return 0;
}

/* ---- shards ------------------------------------------------------------------------------- */

static unsigned char *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

/* Each further place costs 48 KiB of addresses per shard, and memory only when it is used. */
#define ORDERED_SPARE 32u

/* How many volumes with ordered destaging the shards have memory for.  The first one costs 2 bytes for each
 * block of the flash, which those who have none shall not pay. */
static uint32_t ordered_places(const struct cache *cache)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < cache->volume_count; i++)
        count += cache->volumes[i]->volume.destage == DESTAGE_ORDERED;
    /* Without flash nothing is destaged. */
    if (count == 0 || atomic_load(&cache->flash_state) == CACHE_FLASH_MISSING)
        return 0;
    return count + ORDERED_SPARE < VOLUMES_MAX ? count + ORDERED_SPARE : VOLUMES_MAX;
}

static int create_shard(struct cache *cache, struct shard_runner *runner)
{
    const struct superblock *block = cache->superblock.block;
    uint64_t frames = cache->ram_bytes / BLOCK_BYTES / cache->shard_count;
    struct shard_config config = {
        .session = block->session,
        .shard = (uint16_t)runner->index,
        .cores = (uint16_t)cache->core_count,
        .segment_first = runner->index * block->segments_per_shard,
        .segments = block->segments_per_shard,
        .segment_bytes = (uint32_t)block->segment_bytes,
        .ram_frames = (uint32_t)(frames < SHARD_FRAMES_MIN ? SHARD_FRAMES_MIN : frames),
        .flash_volatile = cache->flash_volatile,
        .clean_start = cache->started_clean,
        .watermark = block->shards[runner->index].watermark,
        .durable_lsn = block->shards[runner->index].durable_lsn,
        .retired = block->retired,
        .retired_count = block->retired_count,
        .ordered_volumes = cache->ordered_places,
        .detached = atomic_load(&cache->flash_state) == CACHE_FLASH_MISSING,
        .held = cache->drains || cache_attach_holds(cache),
    };

    memcpy(config.uuid, block->uuid, sizeof(config.uuid));
    runner->memory_bytes = shard_memory_bytes(&config);
    runner->memory = map(runner->memory_bytes);
    runner->ram_bytes = (size_t)config.ram_frames * BLOCK_BYTES;
    runner->ram = map(runner->ram_bytes);
    if (runner->memory == NULL || runner->ram == NULL)
        return -ENOMEM;
    config.ram = runner->ram;
    runner->shard = shard_create(&config, runner->memory);
    if (runner->shard == NULL)
        return -EINVAL;
    cache_volume_policies(cache, runner->shard);
    return 0;
}

static int create_shards(struct cache *cache, char *why, size_t why_bytes)
{
    int error;

    cache->shard_count = cache->superblock.block->shard_count;
    cache->ordered_places = ordered_places(cache);
    cache->runners = calloc(cache->shard_count, sizeof(*cache->runners));
    if (cache->runners == NULL)
        return out_of_memory(why, why_bytes);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        shard_runner_init(runner, cache, i);
        runner->home = i % cache->core_count;
    }
    for (unsigned i = 0; i < cache->shard_count; i++) {
        error = create_shard(cache, &cache->runners[i]);
        if (error == -ENOMEM) {
            snprintf(why, why_bytes,
                     "not enough memory for the index and a RAM tier of %llu bytes; "
                     "make cache.ram smaller",
                     (unsigned long long)cache->ram_bytes);
            return error;
        }
        if (error) {
            snprintf(why, why_bytes, "%s: its geometry is not supported", cache->flash_path);
            return error;
        }
    }
    return cache_volumes_measure(cache) ? out_of_memory(why, why_bytes) : 0;
}

static void destroy_shards(struct cache *cache)
{
    for (unsigned i = 0; cache->runners != NULL && i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];

        if (runner->memory != NULL)
            munmap(runner->memory, runner->memory_bytes);
        if (runner->ram != NULL)
            munmap(runner->ram, runner->ram_bytes);
        pthread_mutex_destroy(&runner->lock);
    }
    free(cache->runners);
    cache->runners = NULL;
}

/* ---- waiting for all shards --------------------------------------------------------------- */

void cache_runner_changed(struct cache *cache, int error)
{
    pthread_mutex_lock(&cache->lock);
    cache->runners_left--;
    if (error && !cache->runner_error)
        cache->runner_error = error;
    pthread_cond_broadcast(&cache->changed);
    pthread_mutex_unlock(&cache->lock);
}

/* Until all shards have recovered, or stopped; -ETIMEDOUT after `seconds` (0: never). */
static int run_all(struct cache *cache, enum runner_state state, int seconds)
{
    struct timespec end = clock_timespec(clock_ns() + (uint64_t)seconds * NS_PER_S);
    int error = 0;

    pthread_mutex_lock(&cache->lock);
    cache->runners_left = cache->shard_count;
    cache->runner_error = 0;
    pthread_mutex_unlock(&cache->lock);
    for (unsigned i = 0; i < cache->shard_count; i++)
        shard_runner_begin(&cache->runners[i], state);

    pthread_mutex_lock(&cache->lock);
    while (cache->runners_left > 0 && !cache->runner_error && !error) {
        if (seconds == 0)
            pthread_cond_wait(&cache->changed, &cache->lock);
        else
            error = -pthread_cond_timedwait(&cache->changed, &cache->lock, &end);
    }
    if (cache->runner_error)
        error = cache->runner_error;
    pthread_mutex_unlock(&cache->lock);
    return error;
}

/* ---- start -------------------------------------------------------------------------------- */

static int enter(struct core *core)
{
    int error = shard_runner_enter(core);

    if (error)
        return error;
    error = request_enter(core);
    if (error) {
        shard_runner_leave(core);
        return error;
    }
    if (core->index == 0)
        atomic_store(&core_cache(core)->buffers_registered, core->traits.buffers_registered);
    return 0;
}

static void leave(struct core *core)
{
    request_leave(core);
    shard_runner_leave(core);
}

static int recover(struct cache *cache, char *why, size_t why_bytes)
{
    uint64_t start_ns = clock_ns();
    int error = run_all(cache, RUNNER_RECOVERING, 0);

    if (error) {
        snprintf(why, why_bytes, "%s: recovery failed: %s%s", cache->flash_path, strerror(-error),
                 error == -EIO
                     ? ": what cannot be read there may hide acknowledged writes; start again, or "
                       "copy the device to another one (ddrescue) and start with that: only what "
                       "could not be copied may come back older then, or as an error"
                     : "");
        return error;
    }
    cache->recovery_seconds = (double)(clock_ns() - start_ns) / 1e9;
    log_info("the cache is ready", LOG_STR("flash", cache->flash_path),
             LOG_STR("last_stop", cache->started_clean ? "clean" : "unclean"),
             LOG_UINT("recovery_ms", cache->recovery_seconds * 1000));
    return 0;
}

/* Shards that recovered, on cores that run. */
static int start_shards(struct cache *cache, char *why, size_t why_bytes)
{
    struct cores_config config = {
        .processors = cache->processors,
        .count = cache->core_count,
        .buffer_bytes = cache->buffer_bytes,
        .cache = cache,
        .enter = enter,
        .leave = leave,
        .turn = shard_runner_turn,
    };
    int error = create_shards(cache, why, why_bytes);

    if (error)
        return error;
    error = cores_start(&config, why, why_bytes);
    if (error)
        return error;
    error = recover(cache, why, why_bytes);
    if (error)
        cores_stop();
    return error;
}

int cache_drain(struct cache *cache, char *why, size_t why_bytes)
{
    int error = start_shards(cache, why, why_bytes);

    if (error)
        return error;
    error = cache_attach_drain(cache, why, why_bytes);
    cores_stop();
    return error;
}

int cache_start(struct cache *cache, char *why, size_t why_bytes)
{
    int error = start_shards(cache, why, why_bytes);

    if (error)
        return error;
    error = cache_attach_finish(cache, why, why_bytes);
    if (!error) {
        error = cache_loss_start(cache);
        if (error)
            out_of_memory(why, why_bytes);
    }
    if (error) {
        cores_stop();
        return error;
    }
    cache->started = true;
    for (unsigned i = 0; i < cache->volume_count; i++)
        epoch_begin(cache->volumes[i]);
    cache_volumes_prune(cache);
    return 0;
}

/* ---- stop --------------------------------------------------------------------------------- */

/* What bypassed the cache is the backing stores' to keep: they are flushed before the clean mark.
 */
struct final_flush {
    struct cache_volume *const *volumes;
    unsigned count;
    struct core_message message;
    struct flush_waiter waiters[VOLUMES_MAX];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned left;
    int error;
};

static void final_flush_end(struct final_flush *flush, int result)
{
    pthread_mutex_lock(&flush->lock);
    if (result != 0)
        flush->error = result;
    flush->left--;
    pthread_cond_broadcast(&flush->changed);
    pthread_mutex_unlock(&flush->lock);
}

static struct final_flush *final; /* one cache at a time */

static void final_flushed(struct core *core, struct flush_waiter *waiter, int result)
{
    (void)core, (void)waiter;
    final_flush_end(final, result);
}

static void final_flush_begin(struct core *core, struct core_message *message)
{
    struct final_flush *flush = container_of(message, struct final_flush, message);

    for (unsigned i = 0; i < flush->count; i++) {
        struct cache_volume *volume = flush->volumes[i];

        if (atomic_load(&volume->volume.backing_writes) ==
            atomic_load(&volume->volume.backing_flushed))
            continue;
        pthread_mutex_lock(&flush->lock);
        flush->left++;
        pthread_mutex_unlock(&flush->lock);
        flush->waiters[i].done = final_flushed;
        flush_join(core, &volume->flush, &flush->waiters[i]);
    }
    final_flush_end(flush, 0);
}

int cache_flush_backings(struct cache *cache, struct cache_volume *const *volumes, unsigned count)
{
    struct final_flush *flush = calloc(1, sizeof(*flush));
    int error;

    if (flush == NULL)
        return -ENOMEM;
    (void)cache;
    flush->volumes = volumes;
    flush->count = count;
    flush->left = 1;
    flush->message.handle = final_flush_begin;
    pthread_mutex_init(&flush->lock, NULL);
    pthread_cond_init(&flush->changed, NULL);
    final = flush;
    core_message_send(core_at(0), &flush->message);
    pthread_mutex_lock(&flush->lock);
    while (flush->left > 0)
        pthread_cond_wait(&flush->changed, &flush->lock);
    error = flush->error;
    pthread_mutex_unlock(&flush->lock);
    pthread_cond_destroy(&flush->changed);
    pthread_mutex_destroy(&flush->lock);
    free(flush);
    return error;
}

static int write_clean_mark(struct cache *cache)
{
    struct superblock *block = cache->superblock.block;
    int error = 0;

    if (fdatasync(cache->flash.fd) != 0)
        return -errno;
    pthread_mutex_lock(&cache->superblock.lock);
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard_runner *runner = &cache->runners[i];
        struct shard_status status;

        pthread_mutex_lock(&runner->lock);
        shard_status(runner->shard, &status);
        pthread_mutex_unlock(&runner->lock);
        block->shards[i].watermark = status.watermark;
        block->shards[i].durable_lsn = status.durable_lsn;
    }
    block->flags |= SUPERBLOCK_CLEAN;
    error = superblock_io_commit(&cache->superblock);
    pthread_mutex_unlock(&cache->superblock.lock);
    return error;
}

int cache_stop(struct cache *cache, char *why, size_t why_bytes)
{
    int error;

    if (!cache->started)
        return 0;
    cache_loss_stop(cache);
    error = run_all(cache, RUNNER_STOPPING, STOP_SECONDS_MAX);
    if (!error)
        error = cache_flush_backings(cache, cache->volumes, cache->volume_count);
    if (!error && atomic_load(&cache->flash_state) == CACHE_FLASH_OK) {
        error = cache_attach_stopped(cache);
        if (!error)
            error = write_clean_mark(cache);
    } else if (!error && atomic_load(&cache->flash_state) == CACHE_FLASH_FAILED) {
        error = -EIO;
    }
    cores_stop();
    cache->started = false;
    if (error)
        snprintf(why, why_bytes,
                 "the stop is not clean (%s): nothing is lost, the next start recovers",
                 strerror(-error));
    return error;
}

void cache_close(struct cache *cache)
{
    if (cache == NULL)
        return;
    cache_loss_stop(cache);
    if (cache->started)
        cores_stop();
    cache_volumes_close(cache);
    destroy_shards(cache);
    if (cache->superblock.block != NULL)
        superblock_io_close(&cache->superblock);
    device_close(&cache->flash);
    flush_destroy(&cache->flush);
    pthread_cond_destroy(&cache->changed);
    pthread_mutex_destroy(&cache->lock);
    pthread_mutex_destroy(&cache->change_lock);
    pthread_rwlock_destroy(&cache->held);
    free(cache->processors);
    free(cache->state_dir);
    free(cache->flash_path);
    free(cache);
}
