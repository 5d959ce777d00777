/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host for one shard on an image of a fuzzer: two volumes whose backing stores are arrays, every
 * action carried out at once and in order.  Whatever takes too many steps is a finding.
 */
#ifndef TESTS_FUZZ_FUZZ_SHARD_H
#define TESTS_FUZZ_FUZZ_SHARD_H

#include "engine/shard.h"
#include "tests/fuzz/fuzz-image.h"

#define HOST_VOLUMES 2u /* ids 1 and 2 */
#define HOST_BLOCKS  128u
#define HOST_QUEUE   65536u

struct fuzz_host {
    struct fuzz_image *image;
    struct shard *shard;
    struct shard_config config;
    struct volume_policy policies[HOST_VOLUMES];
    void *memory;
    unsigned char *ram, *data;
    unsigned char *backing[HOST_VOLUMES], *original[HOST_VOLUMES];
    bool backing_written[HOST_VOLUMES][HOST_BLOCKS];
    uint32_t retired[16];
    uint64_t now_ns, replies;
    struct piece piece;
    uint32_t queue_head, queue_tail;
    struct action queue[HOST_QUEUE];
    struct actions out;
};

void fuzz_host_init(struct fuzz_host *host, struct fuzz_image *image);

/* The backing stores hold `original` again. */
void fuzz_host_reset(struct fuzz_host *host);

/* Starts the shard on the image: 1, or a negative errno when it cannot serve. */
int fuzz_host_boot(struct fuzz_host *host);

/* Stops cleanly; the marks are kept for the next boot, as the superblock does. */
void fuzz_host_stop(struct fuzz_host *host);

/* One request of `count` blocks to its end; returns its error.  What a write brings is in
 * host->data + BLOCK_BYTES; so is, after it, what a read found. */
int fuzz_host_submit(struct fuzz_host *host, enum piece_op op, unsigned volume, uint64_t block,
                     uint32_t count, uint32_t head_bytes, uint8_t flags);

void fuzz_host_destage(struct fuzz_host *host);

#endif
