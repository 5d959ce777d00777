/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out a shard's actions on the core that stepped it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/log.h"
#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"
#include "io/uring-compat.h"

#define SLAB_IOS  128u
#define TRIES_MAX 8u /* of an interrupted or short I/O */

struct slab {
    struct list link;
    struct shard_io ios[SLAB_IOS];
};

bool shard_io_reserve(struct core *core)
{
    struct runner_core *own = core->runner;
    struct slab *slab = calloc(1, sizeof(*slab));

    if (slab == NULL)
        return false;
    list_add_tail(&own->slabs, &slab->link);
    for (unsigned i = 0; i < SLAB_IOS; i++) {
        slab->ios[i].next = own->free;
        own->free = &slab->ios[i];
    }
    return true;
}

/* As many as there are I/Os under way, which pieces and the shards' own bounds limit. */
struct shard_io *shard_io_take(struct core *core)
{
    struct runner_core *own = core->runner;
    struct shard_io *io;

    if (own->free == NULL && !shard_io_reserve(core)) {
        log_error("out of memory for I/O");
        abort(); /* the shard counts on the action; a crash is what it recovers from */
    }
    io = own->free;
    own->free = io->next;
    return io;
}

void shard_io_give(struct core *core, struct shard_io *io)
{
    io->next = core->runner->free;
    core->runner->free = io;
}

static void report(struct core *core, struct shard_io *io, int result)
{
    io->result = result;
    shard_runner_report(core, io);
}

/* An I/O of a read piece ended well, and the shard need not know. */
static void end_piece_io(struct core *core, struct shard_io *io)
{
    struct piece *piece = io->action.owner;

    if (io->action.flags & ACTION_PIECE) {
        assert(piece->core == core->index && piece->ios > 0);
        if (--piece->ios == 0)
            request_piece_done(core, request_piece_of(piece));
    }
    shard_io_give(core, io);
}

/* The old content of a piece's edge blocks came; the read of two of them holds both. */
static void merge_edges(const struct action *action)
{
    bool head = action->flags & ACTION_HEAD, tail = action->flags & ACTION_TAIL;
    const unsigned char *last = action->data;

    if (action->length > BLOCK_BYTES)
        last += action->length - BLOCK_BYTES;
    if (head)
        piece_merge(action->owner, true, action->data);
    if (tail && !(head && action->length == BLOCK_BYTES))
        piece_merge(action->owner, false, last);
}

/* ---- flash -------------------------------------------------------------------------------- */

static void issue_flash_read(struct core *core, struct shard_io *io)
{
    const struct action *action = &io->action;
    const struct device *flash = &io->runner->cache->flash;
    struct io_uring_sqe *sqe = core_sqe(core);
    int index = core_buffer_index(core, action->data, action->length);

    if (index >= 0)
        io_uring_prep_read_fixed(sqe, flash->fd, action->data, action->length, action->offset,
                                 index);
    else
        io_uring_prep_read(sqe, flash->fd, action->data, action->length, action->offset);
    core_sqe_file(core, sqe, flash->slot);
    core_sqe_to(sqe, &io->op);
}

static uint64_t verify(const struct shard_io *io)
{
    const struct action *action = &io->action;
    uint32_t blocks = action->length / BLOCK_BYTES;
    uint64_t bad_mask = 0;

    for (uint32_t i = 0; i < blocks; i++) {
        if (crc32c(0, action->data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES) !=
            shard_slot_crc(io->runner->shard, action->slot + i))
            bad_mask |= UINT64_C(1) << i;
    }
    return bad_mask;
}

/* Interrupted, or cut short, which direct I/O in a device's range does not do twice. */
static bool is_repeated(struct shard_io *io, int32_t result, uint32_t bytes)
{
    bool again = result == -EAGAIN || result == -EINTR || (result > 0 && (uint32_t)result < bytes);

    return again && ++io->tries < TRIES_MAX;
}

static void flash_read_done(struct core *core, struct core_op *op, int32_t result, uint32_t flags)
{
    struct shard_io *io = container_of(op, struct shard_io, op);
    const struct action *action = &io->action;
    int error;

    (void)flags;
    if (is_repeated(io, result, action->length)) {
        issue_flash_read(core, io);
        return;
    }
    error = result < 0 ? result : (uint32_t)result < action->length ? -EIO : 0;
    io->bad_mask = !error && (action->flags & ACTION_VERIFY) ? verify(io) : 0;
    if (!error && io->bad_mask == 0 && (action->flags & (ACTION_HEAD | ACTION_TAIL)))
        merge_edges(action);
    if (error || io->bad_mask != 0 || (action->flags & ACTION_REPORT)) {
        report(core, io, error);
        return;
    }
    shard_flash_read_end(io->runner->shard, action->slot);
    end_piece_io(core, io);
}

static void issue_flash_write(struct core *core, struct shard_io *io)
{
    const struct action *action = &io->action;
    const struct flash_write *write = action->owner;
    const struct device *flash = &io->runner->cache->flash;
    struct io_uring_sqe *sqe = core_sqe(core);

    if (write->headroom || write->iov_count == 1) {
        unsigned char *data;
        int index;

        data = write->iov[write->headroom ? 1 : 0].iov_base;
        data -= write->headroom ? write->iov[0].iov_len : 0;
        index = core_buffer_index(core, data, io->bytes);
        if (index >= 0)
            io_uring_prep_write_fixed(sqe, flash->fd, data, io->bytes, action->offset, index);
        else
            io_uring_prep_write(sqe, flash->fd, data, io->bytes, action->offset);
    } else {
        io_uring_prep_writev(sqe, flash->fd, write->iov, write->iov_count, action->offset);
    }
    if (action->flags & ACTION_FUA)
        sqe->rw_flags = RWF_DSYNC;
    core_sqe_file(core, sqe, flash->slot);
    core_sqe_to(sqe, &io->op);
}

static void flash_write_done(struct core *core, struct core_op *op, int32_t result, uint32_t flags)
{
    struct shard_io *io = container_of(op, struct shard_io, op);

    (void)flags;
    if (is_repeated(io, result, io->bytes)) {
        issue_flash_write(core, io); /* all of it: the same bytes to the same place */
        return;
    }
    report(core, io, result < 0 ? result : (uint32_t)result < io->bytes ? -EIO : 0);
}

static void write_flash(struct core *core, struct shard_io *io)
{
    struct flash_write *write = io->action.owner;
    unsigned char *data;

    flash_write_seal(write);
    io->bytes = 0;
    for (uint32_t i = 0; i < write->iov_count; i++)
        io->bytes += (uint32_t)write->iov[i].iov_len;
    if (write->headroom) {
        data = write->iov[1].iov_base;
        memcpy(data - write->iov[0].iov_len, write->iov[0].iov_base, write->iov[0].iov_len);
    }
    io->op.done = flash_write_done;
    issue_flash_write(core, io);
}

/* ---- backing store ------------------------------------------------------------------------ */

/* It counts until volume_io_end, so that a volume that leaves can wait for the last one. */
static struct cache_volume *volume_io_begin(struct shard_io *io)
{
    io->volume = io->runner->cache->by_id[io->action.volume];
    if (io->volume != NULL)
        atomic_fetch_add_explicit(&io->volume->ios, 1, memory_order_relaxed);
    return io->volume;
}

static void volume_io_end(struct shard_io *io)
{
    if (io->volume != NULL)
        atomic_fetch_sub_explicit(&io->volume->ios, 1, memory_order_release);
}

/* Somebody waits for it, who is not prefetching. */
static bool is_client_io(const struct action *action)
{
    return action->flags & ACTION_PIECE && ((struct piece *)action->owner)->op != PIECE_PREFETCH;
}

static void backing_done(struct core *core, struct backing_io *backing, int result)
{
    struct shard_io *io = container_of(backing, struct shard_io, backing);
    const struct action *action = &io->action;
    struct cache_volume *volume = io->volume;
    bool reads = action->kind == ACTION_READ_BACKING;

    /* Whatever is not destaging is not covered by a log record that waits for a flush.  It counts
     * before it ends: a flush that fails meanwhile may have dropped it (cache-flush.c). */
    if (!reads && !(action->flags & ACTION_BACKGROUND) && volume != NULL)
        atomic_fetch_add(&volume->volume.backing_writes, 1);
    if (volume != NULL && is_client_io(action))
        atomic_fetch_sub_explicit(&volume->volume.backing_waiting, 1, memory_order_release);
    if (reads && result == 0 && (action->flags & (ACTION_HEAD | ACTION_TAIL)))
        merge_edges(action);
    volume_io_end(io);
    report(core, io, result);
}

static void submit_backing(struct core *core, struct shard_io *io)
{
    static const uint8_t ops[] = {
        [ACTION_READ_BACKING] = BACKING_READ,
        [ACTION_WRITE_BACKING] = BACKING_WRITE,
        [ACTION_ZERO_BACKING] = BACKING_ZERO,
    };
    const struct action *action = &io->action;
    struct cache_volume *volume = volume_io_begin(io);

    io->backing.op = ops[action->kind];
    io->backing.flags = (uint8_t)((action->flags & ACTION_FUA ? BACKING_FUA : 0) |
                                  (action->flags & ACTION_MAY_UNMAP ? BACKING_MAY_UNMAP : 0));
    io->backing.offset = action->offset;
    io->backing.length = action->length;
    io->backing.data = action->data;
    io->backing.done = backing_done;
    if (volume != NULL && is_client_io(action))
        atomic_fetch_add_explicit(&volume->volume.backing_waiting, 1, memory_order_relaxed);
    if (volume == NULL)
        backing_done(core, &io->backing, -ENODEV); /* its volume is not in service any more */
    else
        backing_submit(core, volume->volume.backing, &io->backing);
}

/* ---- flushes and the rest ----------------------------------------------------------------- */

static void flush_done(struct core *core, struct flush_waiter *waiter, int result)
{
    struct shard_io *io = container_of(waiter, struct shard_io, flush);

    volume_io_end(io);
    report(core, io, result);
}

static void join_flush(struct core *core, struct shard_io *io)
{
    struct cache *cache = io->runner->cache;
    struct cache_volume *volume;

    io->volume = NULL;
    io->flush.done = flush_done;
    io->flush.party = NULL;
    if (io->action.kind == ACTION_FLUSH_FLASH && !cache->flash_volatile)
        report(core, io, 0);
    else if (io->action.kind == ACTION_FLUSH_FLASH)
        flush_join(core, &cache->flush, &io->flush);
    else if ((volume = volume_io_begin(io)) == NULL)
        report(core, io, -ENODEV);
    else {
        io->flush.party = &volume->destaging[io->runner->index];
        flush_join(core, &volume->flush, &io->flush);
    }
}

static void retire(struct core *core, struct shard_io *io)
{
    struct cache *cache = io->runner->cache;

    report(core, io, superblock_io_retire(&cache->superblock, (uint32_t)io->action.offset));
}

static struct shard_io *begin(struct core *core, struct shard_runner *runner,
                              const struct action *action)
{
    struct shard_io *io = shard_io_take(core);

    io->action = *action;
    io->runner = runner;
    io->bad_mask = 0;
    io->tries = 0;
    return io;
}

void shard_io_carry_out(struct core *core, struct shard_runner *runner, const struct action *action)
{
    struct cache_volume *volume;
    struct shard_io *io;

    switch (action->kind) {
    case ACTION_READ_FLASH:
        io = begin(core, runner, action);
        io->op.done = flash_read_done;
        issue_flash_read(core, io);
        break;
    case ACTION_WRITE_FLASH:
        if (runner->cache->drains) /* recovery repairs what nobody reads again */
            report(core, begin(core, runner, action), 0);
        else
            write_flash(core, begin(core, runner, action));
        break;
    case ACTION_READ_BACKING:
    case ACTION_WRITE_BACKING:
    case ACTION_ZERO_BACKING: submit_backing(core, begin(core, runner, action)); break;
    case ACTION_FLUSH_FLASH:
    case ACTION_FLUSH_BACKING: join_flush(core, begin(core, runner, action)); break;
    case ACTION_FILL:
        piece_fill(runner->shard, action->owner, action->first, action->count);
        report(core, begin(core, runner, action), 0);
        break;
    case ACTION_MERGE:
        piece_merge(action->owner, action->flags & ACTION_HEAD, action->data);
        report(core, begin(core, runner, action), 0);
        break;
    case ACTION_REPLY: request_piece_done(core, request_piece_of(action->owner)); break;
    case ACTION_RESUME: request_piece_resume(core, request_piece_of(action->owner)); break;
    case ACTION_RETIRE: retire(core, begin(core, runner, action)); break;
    case ACTION_EPOCH:
        volume = runner->cache->by_id[action->volume];
        if (volume != NULL)
            epoch_advance(core, volume);
        break;
    case ACTION_NOTICE: cache_notice(runner->cache, core_now(core), action); break;
    default: assert(!"unknown action");
    }
}
