/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Miss ratio against cache size, measured while it happens: SHARDS with a fixed number of samples and
 * the correction SHARDS-adj (Waldspurger, Park, Garthwaite, Ahmad: Efficient MRC Construction with
 * SHARDS, FAST 2015).
 *
 * A block is sampled when its hash is below a threshold; when there are too many, the block with the
 * largest hash goes and the threshold falls to it.  For an access of a sampled block, the number of
 * other sampled blocks accessed since its last access, divided by the sampling rate, is how many blocks
 * an LRU cache must hold to have it.
 *
 * One volume's accesses within one shard; several are added up to those of the volume.
 */
#ifndef ENGINE_MRC_H
#define ENGINE_MRC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MRC_BINS 640u /* 16 an octave of blocks */

struct mrc;

/* Bytes that `samples` (a power of two, 64 to 2^20) need: about 64 a sample. */
size_t mrc_bytes(uint32_t samples);

/* Makes one in `memory`, of mrc_bytes(samples) bytes, aligned for any type, kept by the caller. */
struct mrc *mrc_init(void *memory, uint32_t samples);

/* A block was read, or (not `read`) written: then it is recent, but no hit or miss. */
void mrc_access(struct mrc *mrc, uint64_t block, bool read);

/* Estimated counts of reads. */
struct mrc_sum {
    double reads;          /* all */
    double cold;           /* of blocks not seen before */
    double bins[MRC_BINS]; /* by the size of the smallest cache that would have had them */
};

/* Adds to `sum`, which begins as zeros.  `octaves`: log2 of the number of shards that the volume's
 * blocks are spread over. */
void mrc_add(const struct mrc *mrc, struct mrc_sum *sum, unsigned octaves);

/* Share of reads that an LRU cache of so many blocks would miss; 0 when there were no reads. */
double mrc_miss_ratio(const struct mrc_sum *sum, double blocks);

#endif
