/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing the superblock. */
#include "io/superblock-io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "io/device.h"

static int read_copy(const struct device *device, struct superblock *block, uint64_t offset)
{
    ssize_t bytes = pread(device->fd, block, sizeof(*block), (off_t)offset);

    if (bytes < 0)
        return -errno;
    return (size_t)bytes == sizeof(*block) ? 0 : -EIO;
}

static int write_copy(struct superblock_io *io, unsigned copy)
{
    uint64_t offset = superblock_offset(io->block, copy);
    ssize_t bytes = pwrite(io->device->fd, io->block, sizeof(*io->block), (off_t)offset);

    if (bytes < 0)
        return -errno;
    if ((size_t)bytes != sizeof(*io->block))
        return -EIO;
    if (fdatasync(io->device->fd) != 0) {
        io->flush_failed = true;
        return -errno;
    }
    return 0;
}

/* The second copy is where the first one says, or at the end of the device when the first is bad:
 * formatting puts it at the end of what was the device then. */
static int read_both(const struct device *device, struct superblock *copies)
{
    uint64_t end = device->bytes / BLOCK_BYTES * BLOCK_BYTES;
    int errors[2];

    if (device->bytes < 2 * SUPERBLOCK_BYTES)
        return 0; /* both stay zeros: not formatted */
    errors[0] = read_copy(device, &copies[0], 0);
    if (errors[0])
        memset(&copies[0], 0, sizeof(copies[0]));
    if (!errors[0] && superblock_check(&copies[0], device->bytes, NULL, 0) == 0)
        end = copies[0].device_bytes;
    errors[1] = read_copy(device, &copies[1], end - SUPERBLOCK_BYTES);
    if (errors[1])
        memset(&copies[1], 0, sizeof(copies[1]));
    return errors[0] && errors[1] ? errors[0] : 0;
}

int superblock_io_open(struct superblock_io *io, const struct device *device, char *why,
                       size_t why_bytes)
{
    struct superblock *copies = NULL;
    int picked;

    memset(io, 0, sizeof(*io));
    pthread_mutex_init(&io->lock, NULL);
    io->device = device;
    if (posix_memalign((void **)&copies, BLOCK_BYTES, 2 * sizeof(*copies)) != 0) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    memset(copies, 0, 2 * sizeof(*copies));
    picked = read_both(device, copies);
    if (picked == 0)
        picked = superblock_pick(copies, device->bytes, why, why_bytes);
    else
        snprintf(why, why_bytes, "cannot read the superblock: %s", strerror(-picked));
    if (picked < 0) {
        free(copies);
        return picked;
    }
    if (picked != 0)
        copies[0] = copies[1];
    io->block = copies;
    io->current = (unsigned)picked;
    io->sequence = io->block->sequence;
    return 0;
}

void superblock_io_close(struct superblock_io *io)
{
    free(io->block);
    io->block = NULL;
    pthread_mutex_destroy(&io->lock);
}

/* The copy to be written first.  The current one may have rotted since it was written: then a crash
 * that tears the other one would leave none. */
static unsigned copy_to_spare(struct superblock_io *io)
{
    struct superblock *read = io->block + 1;
    int error = read_copy(io->device, read, superblock_offset(io->block, io->current));

    if (!error && superblock_holds(read, io->sequence, io->device->bytes))
        return 1 - io->current;
    /* What cannot be read now may be whole, and the only one: the other one was not written, perhaps. */
    if (error && (read_copy(io->device, read, superblock_offset(io->block, 1 - io->current)) != 0 ||
                  !superblock_holds(read, io->sequence, io->device->bytes)))
        return 1 - io->current;
    log_warning("a copy of the flash's superblock was lost, and is written again",
                LOG_UINT("copy", io->current), LOG_ERRNO(error ? error : -EBADMSG));
    return io->current;
}

int superblock_io_commit(struct superblock_io *io)
{
    unsigned first;
    int error;

    if (io->lost)
        return -EIO;
    first = copy_to_spare(io);
    superblock_seal(io->block);
    error = write_copy(io, first);
    if (error)
        return error;
    io->current = first;
    io->sequence = io->block->sequence;
    return write_copy(io, 1 - first);
}

int superblock_io_probe(struct superblock_io *io)
{
    return write_copy(io, copy_to_spare(io));
}

int superblock_io_retire(struct superblock_io *io, uint32_t segment)
{
    struct superblock *block = io->block;
    bool known = false, lost;
    int error = 0;

    pthread_mutex_lock(&io->lock);
    lost = io->lost; /* that was told */
    for (uint32_t i = 0; i < block->retired_count; i++)
        known |= block->retired[i] == segment;
    if (!known && block->retired_count == RETIRED_MAX)
        error = -ENOSPC;
    else if (!known)
        block->retired[block->retired_count++] = segment;
    if (!error)
        error = superblock_io_commit(io);
    pthread_mutex_unlock(&io->lock);
    if (lost)
        return error;
    if (error)
        log_error("cannot record a failed flash segment; replace the flash device",
                  LOG_UINT("segment", segment), LOG_ERRNO(error));
    else
        log_warning("a flash segment failed and is not used any more",
                    LOG_UINT("segment", segment));
    return error;
}
