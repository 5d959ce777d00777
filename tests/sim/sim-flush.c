/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flush coordinator per device (C9): whoever asks joins the first device flush that starts
 * after it asked.  Flushes of the flash device are bracketed for every shard, so that each knows
 * which of its records are durable.  A flush that failed may have dropped what anybody wrote before
 * it, and the next succeeds: of a backing store, each party is told once (io/flush.c); a flash is
 * not used any more.
 */
#include <errno.h>

#include "common/list.h"
#include "tests/sim/sim-world.h"

static void flush_done(struct disk_io *io, int result);

void sim_flusher_init(struct sim_world *world, struct sim_flusher *flusher, struct disk *disk,
                      uint32_t device)
{
    *flusher = (struct sim_flusher){.world = world, .disk = disk, .device = device};
}

static void start(struct sim_flusher *flusher)
{
    struct sim_world *world = flusher->world;

    flusher->running = true;
    flusher->joined = flusher->waiting;
    flusher->waiting = NULL;
    if (flusher->device == 0) {
        for (uint32_t i = 0; i < world->config.shards; i++)
            flusher->tokens[i] =
                world->config.flash.write_cache ? shard_flush_begin(world->shards[i].shard) : 0;
    } else {
        flusher->backing_writes = world->volumes[flusher->device - 1].backing_writes;
    }
    sim_trace_note(&world->trace, TRACE_FLUSH, flusher->device, 1, 0);
    if (flusher->device == 0)
        sim_attach_flush_prepare(world, &flusher->io);
    else
        disk_io_prepare(&flusher->io, DISK_FLUSH, 0, NULL, 0);
    flusher->io.done = flush_done;
    disk_submit(flusher->disk, &flusher->io, world->now_ns);
}

/* Two rounds: several waiters may be of one party. */
static void tell(struct sim_flusher *flusher, struct sim_flush_waiter *first, int result)
{
    for (struct sim_flush_waiter *waiter = first; waiter != NULL; waiter = waiter->next) {
        waiter->result = result;
        if (waiter->failures != flusher->failures ||
            (waiter->party != NULL && waiter->party->failures != flusher->failures))
            waiter->result = -EIO;
    }
    for (struct sim_flush_waiter *waiter = first; waiter != NULL; waiter = waiter->next)
        if (waiter->party != NULL)
            waiter->party->failures = flusher->failures;
    while (first != NULL) {
        struct sim_flush_waiter *next = first->next;

        first->done(flusher->world, first, first->result);
        first = next;
    }
}

static void failed(struct sim_flusher *flusher)
{
    struct sim_volume *volume;

    flusher->failures++;
    if (flusher->device == 0) {
        sim_attach_flush_failed(flusher->world);
        return;
    }
    volume = &flusher->world->volumes[flusher->device - 1];
    if (volume->backing_writes == volume->backing_flushed)
        volume->clients.failures = flusher->failures; /* had nothing to lose */
}

static void flush_done(struct disk_io *io, int result)
{
    struct sim_flusher *flusher = container_of(io, struct sim_flusher, io);
    struct sim_world *world = flusher->world;
    struct sim_flush_waiter *waiter = flusher->joined;

    sim_trace_note(&world->trace, TRACE_FLUSH, flusher->device, 0, (uint64_t)(int64_t)result);
    if (flusher->device == 0 && world->attach.loss != LOSS_NONE)
        result = -EIO; /* what an earlier one dropped, none brings back */
    if (result == 0 && flusher->device != 0)
        world->volumes[flusher->device - 1].backing_flushed =
            MUTANT(213) ? world->volumes[flusher->device - 1].backing_writes
                        : flusher->backing_writes;
    if (result == 0 && flusher->device == 0 && world->config.flash.write_cache)
        for (uint32_t i = 0; i < world->config.shards; i++)
            shard_flush_end(world->shards[i].shard, flusher->tokens[i]);
    if (result != 0)
        failed(flusher);
    flusher->joined = NULL;
    flusher->running = false;
    tell(flusher, waiter, result);
    if (flusher->waiting != NULL && !flusher->running)
        start(flusher);
}

void sim_flush_join(struct sim_flusher *flusher, struct sim_flush_waiter *waiter)
{
    waiter->next = flusher->waiting;
    waiter->failures = flusher->failures;
    flusher->waiting = waiter;
    if (!flusher->running)
        start(flusher);
}
