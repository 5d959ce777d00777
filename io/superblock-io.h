/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock's two copies on the flash device.  Synchronous: for start, stop and rare events.
 */
#ifndef IO_SUPERBLOCK_IO_H
#define IO_SUPERBLOCK_IO_H

#include <pthread.h>

#include "engine/superblock.h"

struct device;

struct superblock_io {
    const struct device *device;
    struct superblock *block;  /* the current content, aligned for direct I/O */
    unsigned current;          /* copy that holds what was last durable */
    _Atomic uint64_t sequence; /* of that copy; any thread may read it */
    bool lost;                 /* the device is not to be written any more */
    bool flush_failed;         /* it may have dropped what anybody wrote there */
    pthread_mutex_t lock;      /* of the content, once the cores run */
};

/* Reads both copies and takes the newer valid one.  Errors of superblock_pick, -EIO. */
int superblock_io_open(struct superblock_io *io, const struct device *device, char *why,
                       size_t why_bytes);
void superblock_io_close(struct superblock_io *io);

/* Makes the present content durable in both copies (I25).  On an error neither, one or both have
 * it. The caller holds the lock, or is alone. */
int superblock_io_commit(struct superblock_io *io);

/* Whether the device can be written at all: one copy is, and says what it said. */
int superblock_io_probe(struct superblock_io *io);

/* Any thread: records that a segment is never to be used or believed again.  -ENOSPC when the table
 * is full. */
int superblock_io_retire(struct superblock_io *io, uint32_t segment);

#endif
