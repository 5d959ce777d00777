/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verifies a flash image: both superblocks, every segment header, footer and batch header, and the
 * CRC of every data block that a record refers to.
 *
 * After a crash, the last writes may be there in part or not at all.  Such a record is counted as
 * unfinished; only one that the log says was durable, and that is not there, is a problem.
 */
#ifndef DAEMON_IMAGE_CHECK_H
#define DAEMON_IMAGE_CHECK_H

#include "daemon/image.h"

#define IMAGE_NOWHERE UINT32_MAX

struct image_problem {
    uint32_t segment; /* IMAGE_NOWHERE: not in a segment */
    uint32_t slot;    /* IMAGE_NOWHERE: the segment as a whole */
    uint64_t offset;  /* bytes, on the device */
    const char *what;
};

struct image_counts {
    uint64_t segments, retired, empty, open, closed;
    uint64_t batches, entries, data_blocks;
    uint64_t unfinished; /* writes that a crash cut off: harmless */
    uint64_t poisoned;   /* blocks that the cache already knows to be lost */
    uint64_t problems;
};

struct image_check {
    struct image *image;
    void (*problem)(struct image_check *check, const struct image_problem *problem);
    void (*progress)(struct image_check *check, uint32_t segments_done); /* may be NULL */
    void *opaque;
    struct image_counts counts;
};

/* Checks an image that has a valid superblock.  0, or -ENOMEM; problems, unreadable parts among them,
 * are no error. */
int image_check(struct image_check *check);

#endif
