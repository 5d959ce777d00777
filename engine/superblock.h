/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock, without I/O: the caller reads and writes the two copies. */
#ifndef ENGINE_SUPERBLOCK_H
#define ENGINE_SUPERBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/format.h"

struct superblock_geometry {
    uint64_t device_bytes;
    uint64_t segment_bytes; /* 0: chosen */
    uint32_t shards;        /* 0: chosen; a power of two */
    uint32_t cores;         /* for choosing: at most twice as many shards */
};

/* Fills `sb` for an empty cache.  -EINVAL when the geometry is impossible (segment size not a power
 * of two or out of range, shards not a power of two), -ENOSPC when the device is too small; `why`
 * (of `why_bytes`) then holds a sentence for the user.  No volume is in it; `session` is 0. */
int superblock_init(struct superblock *sb, const struct superblock_geometry *geometry,
                    const uint8_t uuid[16], char *why, size_t why_bytes);

/* Checks one copy as read from a device of `device_bytes`: 0, -ENODATA (all zeros: not formatted),
 * -EMEDIUMTYPE (not ours), -EPROTONOSUPPORT (a version this program does not know), -EBADMSG
 * (ours, but CRC or a field is wrong), -ENXIO (larger than the device).  `why` as above. */
int superblock_check(const struct superblock *sb, uint64_t device_bytes, char *why,
                     size_t why_bytes);

/* Picks the current one of two copies by superblock_check and sequence: 0 or 1, or the more telling
 * of the two errors. */
int superblock_pick(const struct superblock copies[2], uint64_t device_bytes, char *why,
                    size_t why_bytes);

/* Makes `sb` ready for writing: the next sequence number and the CRC.  To make a fact durable in
 * both copies: read the current one; if superblock_holds() says that it is lost, the other one takes
 * its place; seal, write the copy that is not current, flush, write the other, flush (I25). */
void superblock_seal(struct superblock *sb);

/* Whether a copy as read is the whole one with this sequence number. */
bool superblock_holds(const struct superblock *copy, uint64_t sequence, uint64_t device_bytes);

/* Byte offset of copy 0 or 1. */
uint64_t superblock_offset(const struct superblock *sb, unsigned copy);

/* Volumes: NULL when not found / the table is full. */
struct superblock_volume *superblock_volume_find(struct superblock *sb, const char *name);
struct superblock_volume *superblock_volume_add(struct superblock *sb, const char *name,
                                                const uint8_t uuid[16]);

#endif
