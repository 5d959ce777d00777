/* SPDX-License-Identifier: Apache-2.0 */
/* The flushes that coordinators start: of the flash device, and of each volume's backing store. */
#include <errno.h>

#include "common/log.h"
#include "io/cache-private.h"

#define TRIES_MAX 8u

/* ---- flash -------------------------------------------------------------------------------- */

static void submit_flash(struct core *core, struct cache *cache)
{
    struct io_uring_sqe *sqe = core_sqe(core);

    io_uring_prep_fsync(sqe, cache->flash.fd, IORING_FSYNC_DATASYNC);
    core_sqe_file(core, sqe, cache->flash.slot);
    core_sqe_to(sqe, &cache->flush_op);
}

static void flash_flushed(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct cache *cache = container_of(op, struct cache, flush_op);

    (void)cqe_flags;
    /* Interrupted, it has not failed. */
    if ((result == -EINTR || result == -EAGAIN) && ++cache->flush_tries < TRIES_MAX) {
        submit_flash(core, cache);
        return;
    }
    /* What an earlier one dropped, none brings back. */
    if (result >= 0 && atomic_load(&cache->flash_state) != CACHE_FLASH_OK)
        result = -EIO;
    flush_ended(core, &cache->flush, result < 0 ? result : 0);
}

static void start_flash(struct core *core, struct flush_coordinator *coordinator)
{
    struct cache *cache = container_of(coordinator, struct cache, flush);

    /* What the shards count as written now, the flush that follows makes durable. */
    for (unsigned i = 0; i < cache->shard_count; i++)
        cache->flush_tokens[i] = shard_runner_flush_begin(&cache->runners[i]);
    cache->flush_op.done = flash_flushed;
    cache->flush_tries = 0;
    submit_flash(core, cache);
}

static void end_flash(struct core *core, struct flush_coordinator *coordinator, int result)
{
    struct cache *cache = container_of(coordinator, struct cache, flush);

    (void)core;
    if (result != 0) {
        if (atomic_load(&cache->flash_state) == CACHE_FLASH_OK)
            log_error("the flash device failed a flush: it may have dropped what was written since "
                      "the last one, and is not used any more",
                      LOG_STR("flash", cache->flash_path), LOG_ERRNO(result));
        cache_loss_declare(cache);
        return;
    }
    for (unsigned i = 0; i < cache->shard_count; i++)
        shard_runner_flush_end(&cache->runners[i], cache->flush_tokens[i]);
}

void cache_flush_init(struct cache *cache)
{
    static const struct flush_ops ops = {.start = start_flash, .end = end_flash};

    flush_init(&cache->flush, &ops);
}

/* ---- backing store ------------------------------------------------------------------------ */

static void backing_flushed(struct core *core, struct backing_io *io, int result)
{
    struct cache_volume *volume = container_of(io, struct cache_volume, flush_io);

    flush_ended(core, &volume->flush, result);
}

static void start_backing(struct core *core, struct flush_coordinator *coordinator)
{
    struct cache_volume *volume = container_of(coordinator, struct cache_volume, flush);

    /* Only what completed before the flush is covered by it (hazard 13). */
    volume->flush_covers = atomic_load(&volume->volume.backing_writes);
    volume->flush_io.op = BACKING_FLUSH;
    volume->flush_io.flags = 0;
    volume->flush_io.offset = 0;
    volume->flush_io.length = 0;
    volume->flush_io.done = backing_flushed;
    backing_submit(core, volume->volume.backing, &volume->flush_io);
}

static void end_backing(struct core *core, struct flush_coordinator *coordinator, int result)
{
    struct cache_volume *volume = container_of(coordinator, struct cache_volume, flush);

    (void)core;
    if (result == 0)
        atomic_store(&volume->volume.backing_flushed, volume->flush_covers);
    else if (atomic_load(&volume->volume.backing_waiting) == 0 &&
             atomic_load(&volume->volume.backing_writes) ==
                 atomic_load(&volume->volume.backing_flushed))
        flush_party_excuse(coordinator, &volume->clients);
    if (result != 0)
        log_warning("the backing store failed a flush", LOG_STR("volume", volume->volume.name),
                    LOG_ERRNO(result));
}

void cache_volume_flush_init(struct cache_volume *volume)
{
    static const struct flush_ops ops = {.start = start_backing, .end = end_backing};

    flush_init(&volume->flush, &ops);
}
