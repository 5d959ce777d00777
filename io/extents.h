/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ranges of a volume are: data, zeros or holes, and where the cache has them.
 *
 * What is dirty is known to the cache; for all else the backing store is asked, after the cache:
 * what is destaged in between is then found dirty, and never as the hole that was there before.
 */
#ifndef IO_EXTENTS_H
#define IO_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/backing.h"
#include "io/core.h"

struct volume;

/* Flags of the allocation: those of base:allocation in NBD's document.  0 is always true. */
enum extent_allocation {
    EXTENT_HOLE = 1, /* not allocated in the backing store */
    EXTENT_ZERO = 2, /* reads as zeros */
};

/* Flags of the state, those of blkcached:state. */
enum extent_state {
    EXTENT_RAM = 1,
    EXTENT_FLASH = 2,
    EXTENT_DIRTY = 4,
};

/* Extents in a list, and ranges that are looked at at once. */
#define EXTENTS_MAX 512u

struct extents {
    /* Set by the caller. */
    struct volume *volume;
    struct core *core;
    uint64_t offset, length; /* within the volume; length is not 0 */
    bool wants_allocation, wants_state;
    bool one; /* only the first extent of each */
    void (*done)(struct extents *extents);

    /* In done(): what was wanted, from `offset` on; each covers at least one byte and at most
     * `length`, not necessarily as much as the other. */
    struct extent_list allocation, state;

    /* Internal. */
    uint64_t next_block, end_block;
    struct extent_list cached, stored;
    struct core_message message;
    struct backing_io io;
    struct extent lists[4][EXTENTS_MAX];
};

/* On its core, which also gets done(), never before this returns.  It never fails: what cannot be
 * found out counts as data. */
void extents_start(struct extents *extents);

#endif
