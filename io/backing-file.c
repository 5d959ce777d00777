/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backing store in a block device or a file, through the ring of the core that asks.
 *
 * There is no timeout: the kernel owns an I/O until it ends, and nothing may be said about it
 * before (I22).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "engine/format.h"
#include "io/backing-private.h"
#include "io/backing-seek.h"
#include "io/device.h"
#include "io/extents.h"
#include "io/uring-compat.h"

#define TRIES_MAX    16u
#define STRIDE_BYTES (1u << 30) /* of one I/O, so that its length fits the submission entry */

enum stage {
    STAGE_MOVE,       /* READ and WRITE: data; FLUSH: the flush */
    STAGE_PUNCH_HOLE, /* ZERO, in the order of preference */
    STAGE_ZERO_RANGE,
    STAGE_WRITE_ZEROS,
    STAGE_FLUSH, /* after a ZERO with FUA */
};

struct backing_file {
    struct backing backing;
    struct device device;
    /* What the file turned out not to support. */
    atomic_bool no_punch_hole, no_zero_range;
    atomic_int last_error;
    atomic_bool failing; /* the last I/O that ended did so with an error */
    struct backing_seek seek;
};

static void issue(struct core *core, struct backing_file *file, struct backing_io *io);

static void prepare_move(struct core *core, struct backing_file *file, struct backing_io *io,
                         struct io_uring_sqe *sqe)
{
    uint64_t left = io->end - io->progress, offset = io->offset + io->progress;
    bool zeros = io->stage == STAGE_WRITE_ZEROS;
    unsigned char *data = zeros ? NULL : io->data + io->progress; /* zeros come without data */
    int fd = file->device.fd, index;
    uint32_t limit = zeros ? BACKING_ZEROS_BYTES : STRIDE_BYTES;

    io->step = left < limit ? (uint32_t)left : limit;
    index = zeros ? -1 : core_buffer_index(core, data, io->step);
    if (zeros)
        io_uring_prep_write(sqe, fd, backing_zeros, io->step, offset);
    else if (index < 0 && io->op == BACKING_READ)
        io_uring_prep_read(sqe, fd, data, io->step, offset);
    else if (index < 0)
        io_uring_prep_write(sqe, fd, data, io->step, offset);
    else if (io->op == BACKING_READ)
        io_uring_prep_read_fixed(sqe, fd, data, io->step, offset, index);
    else
        io_uring_prep_write_fixed(sqe, fd, data, io->step, offset, index);
    if (io->op != BACKING_READ && (io->flags & BACKING_FUA))
        sqe->rw_flags = RWF_DSYNC;
}

static void issue(struct core *core, struct backing_file *file, struct backing_io *io)
{
    struct io_uring_sqe *sqe = core_sqe(core);
    int fd = file->device.fd;

    switch (io->stage) {
    case STAGE_PUNCH_HOLE:
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, (off_t)io->end);
        break;
    case STAGE_ZERO_RANGE:
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, (off_t)io->end);
        break;
    case STAGE_FLUSH: io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC); break;
    default:
        if (io->op == BACKING_FLUSH)
            io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        else
            prepare_move(core, file, io, sqe);
    }
    core_sqe_file(core, sqe, file->device.slot);
    core_sqe_to(sqe, &io->op_done);
}

static void end(struct core *core, struct backing_file *file, struct backing_io *io, int result)
{
    if (atomic_load_explicit(&file->failing, memory_order_relaxed) != (result != 0))
        atomic_store_explicit(&file->failing, result != 0, memory_order_relaxed);
    if (result != 0)
        atomic_store_explicit(&file->last_error, result, memory_order_relaxed);
    else if (io->op == BACKING_READ)
        backing_io_fill(io);
    io->done(core, io, result);
}

/* The next best way of zeroing. */
static void degrade(struct core *core, struct backing_file *file, struct backing_io *io)
{
    if (io->stage == STAGE_PUNCH_HOLE)
        atomic_store_explicit(&file->no_punch_hole, true, memory_order_relaxed);
    else
        atomic_store_explicit(&file->no_zero_range, true, memory_order_relaxed);
    io->stage = atomic_load_explicit(&file->no_zero_range, memory_order_relaxed) ? STAGE_WRITE_ZEROS
                                                                                 : STAGE_ZERO_RANGE;
    issue(core, file, io);
}

static bool is_unsupported(int result)
{
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -ENOTTY ||
           result == -ENODEV;
}

static void zeroed(struct core *core, struct backing_file *file, struct backing_io *io)
{
    /* The written ones were written through already. */
    if (!(io->flags & BACKING_FUA) || io->stage == STAGE_FLUSH || io->stage == STAGE_WRITE_ZEROS ||
        !file->backing.info.has_flush) {
        end(core, file, io, 0);
        return;
    }
    io->stage = STAGE_FLUSH;
    issue(core, file, io);
}

static void came(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct backing_io *io = container_of(op, struct backing_io, op_done);
    struct backing_file *file = container_of(io->backing, struct backing_file, backing);
    bool moves =
        io->op == BACKING_READ || io->op == BACKING_WRITE || io->stage == STAGE_WRITE_ZEROS;

    (void)cqe_flags;
    if ((result == -EAGAIN || result == -EINTR) && ++io->tries < TRIES_MAX) {
        issue(core, file, io);
        return;
    }
    if ((io->stage == STAGE_PUNCH_HOLE || io->stage == STAGE_ZERO_RANGE) &&
        is_unsupported(result)) {
        degrade(core, file, io);
        return;
    }
    if (result < 0 || (moves && result == 0)) {
        /* Nothing moved: the file is shorter than it was. */
        end(core, file, io, result < 0 ? result : -EIO);
        return;
    }
    if (moves) {
        io->progress += (uint32_t)result;
        if (io->progress < io->end) {
            issue(core, file, io);
            return;
        }
    }
    if (io->op == BACKING_ZERO)
        zeroed(core, file, io);
    else
        end(core, file, io, 0);
}

static uint8_t first_stage(const struct backing_file *file, const struct backing_io *io)
{
    if (io->op != BACKING_ZERO)
        return STAGE_MOVE;
    if ((io->flags & BACKING_MAY_UNMAP) &&
        !atomic_load_explicit(&file->no_punch_hole, memory_order_relaxed))
        return STAGE_PUNCH_HOLE;
    if (!atomic_load_explicit(&file->no_zero_range, memory_order_relaxed))
        return STAGE_ZERO_RANGE;
    return STAGE_WRITE_ZEROS;
}

/* What lies behind the end reads as zeros. */
static void find_extents(struct core *core, struct backing_file *file, struct backing_io *io)
{
    if (io->end > 0 && !file->device.is_block) {
        backing_seek_start(&file->seek, io);
        return;
    }
    if (io->end > 0)
        extent_list_add(io->extents, io->end, 0); /* a block device does not tell */
    else
        extent_list_add(io->extents, io->length, EXTENT_HOLE | EXTENT_ZERO);
    io->done(core, io, 0);
}

static void submit(struct core *core, struct backing *backing, struct backing_io *io)
{
    struct backing_file *file = container_of(backing, struct backing_file, backing);

    io->op_done.done = came;
    backing_io_cut(backing, io);
    if (io->op == BACKING_EXTENTS) {
        find_extents(core, file, io);
        return;
    }
    if (io->op == BACKING_FLUSH ? !backing->info.has_flush : io->end == 0) {
        end(core, file, io, 0);
        return;
    }
    io->stage = first_stage(file, io);
    issue(core, file, io);
}

static void file_close(struct backing *backing)
{
    struct backing_file *file = container_of(backing, struct backing_file, backing);

    backing_seek_end(&file->seek);
    device_close(&file->device);
    free(file);
}

static void state(struct backing *backing, char *text, size_t bytes)
{
    struct backing_file *file = container_of(backing, struct backing_file, backing);
    int error = atomic_load_explicit(&file->last_error, memory_order_relaxed);

    if (error)
        snprintf(text, bytes, "%s, last error: %s",
                 atomic_load_explicit(&file->failing, memory_order_relaxed) ? "failing" : "up",
                 strerror(-error));
    else
        snprintf(text, bytes, "up");
}

/* Can it deallocate?  Asked of a place behind the end, where there is nothing to be lost; of a block
 * device the kernel would do it by writing, if need be, and does not say. */
static bool can_punch(const struct device *device)
{
    off_t behind = (off_t)((device->bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES);

    return !device->is_block && fallocate(device->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                          behind, BLOCK_BYTES) == 0;
}

int backing_file_open(struct backing **backing, const char *path, bool read_only, char *why,
                      size_t why_bytes)
{
    static const struct backing_ops ops = {.submit = submit, .close = file_close, .state = state};
    struct backing_file *file = calloc(1, sizeof(*file));
    int error;

    if (file == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    error = device_open(&file->device, path, read_only ? DEVICE_READ_ONLY : 0, why, why_bytes);
    if (!error && file->device.block_bytes > BLOCK_BYTES) {
        snprintf(why, why_bytes, "%s: its blocks of %u bytes are larger than the cache's of %u",
                 path, file->device.block_bytes, BLOCK_BYTES);
        device_close(&file->device);
        error = -EINVAL;
    }
    if (error) {
        free(file);
        return error;
    }
    if (!file->device.direct)
        log_info("direct I/O is not possible, the page cache is used", LOG_STR("backing", path));
    file->device.slot = core_file_add(file->device.fd);
    backing_seek_init(&file->seek, file->device.fd);
    file->backing.ops = &ops;
    file->backing.fd = file->device.fd;
    file->backing.info = (struct backing_info){
        .bytes = file->device.bytes,
        .read_only = read_only,
        .can_zero = true,
        .can_trim = true,
        .zeroes_fast = !read_only && can_punch(&file->device),
        .has_flush = file->device.volatile_cache,
        .sector_bytes = file->device.is_block ? file->device.block_bytes : 512,
    };
    *backing = &file->backing;
    return 0;
}
