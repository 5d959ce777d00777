/* SPDX-License-Identifier: Apache-2.0 */
/* What a shard counts since it was started, per volume and of its flash.  A counter's definition is its
 * documentation. */
#ifndef ENGINE_COUNTERS_H
#define ENGINE_COUNTERS_H

#include <stdint.h>

/* X(name, text) */
#define COUNTERS(X)                                                                           \
    X(read_pieces, "pieces of read requests")                                                 \
    X(read_blocks, "4 KiB blocks touched by reads")                                           \
    X(ram_hit_blocks, "blocks read from the RAM tier")                                        \
    X(flash_hit_blocks, "blocks read from flash")                                             \
    X(zero_hit_blocks, "blocks known to be zero")                                             \
    X(miss_blocks, "blocks read from the backing store for a client")                         \
    X(write_pieces, "pieces of write requests")                                               \
    X(write_blocks, "blocks written by clients, partial ones included")                       \
    X(merge_blocks, "partial blocks merged with their old content")                           \
    X(zero_blocks, "blocks zeroed or trimmed by clients")                                     \
    X(fill_blocks, "blocks that entered the RAM tier after a miss")                           \
    X(overrun_blocks, "missed blocks not kept: RAM was full of what waited for flash")        \
    X(flash_fill_blocks, "clean blocks appended to flash")                                    \
    X(flash_promote_blocks, "of these, blocks that earned it; the rest filled free room")     \
    X(flash_reinsert_blocks, "hot blocks appended again by reclaim")                          \
    X(flash_write_blocks, "data blocks of writes appended to flash")                          \
    X(destage_blocks, "blocks written to the backing store")                                  \
    X(destage_writes, "writes to the backing store by destaging")                             \
    X(destage_errors, "failed destage writes, repeated later")                                \
    X(around_blocks, "blocks written around the cache")                                       \
    X(healed_blocks, "clean blocks with a bad checksum, read from the backing store instead") \
    X(lost_blocks, "dirty blocks with a bad checksum")                                        \
    X(stalled_pieces, "writes that had to wait for space")

struct counters {
#define X(name, text) uint64_t name;
    COUNTERS(X)
#undef X
};

/* No volume's: a batch has blocks of several, and a segment outlives them. */
#define FLASH_COUNTERS(X)                                                  \
    X(flash_batches, "batches written to flash: device writes")            \
    X(flash_metadata_writes, "headers and footers of segments, and marks") \
    X(flash_bytes, "bytes of both")                                        \
    X(segments_reclaimed, "segments reclaimed")                            \
    X(segments_kept, "segments kept in place by the hand")                 \
    X(segments_retired, "segments given up after write errors")

struct flash_counters {
#define X(name, text) uint64_t name;
    FLASH_COUNTERS(X)
#undef X
};

#endif
