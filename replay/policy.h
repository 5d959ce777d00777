/* SPDX-License-Identifier: Apache-2.0 */
/* What can be replayed: the engine's own policy, and well-known ones to compare it with. */
#ifndef REPLAY_POLICY_H
#define REPLAY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replay/trace.h"

struct replay_share {
    uint32_t least_percent, most_percent; /* 0, 0: none */
};

struct replay_config {
    uint64_t ram_bytes, flash_bytes;
    uint64_t cutoff_bytes;  /* sequential streams beyond it do not enter the cache; 0: all do */
    uint64_t segment_bytes; /* 0: as blkcachectl format chooses */
    uint32_t shards;        /* 0: as blkcachectl format chooses for one core */
    bool writes;            /* writes count; else they are left out */
    struct replay_share shares[TRACE_VOLUMES]; /* of volumes 1 to TRACE_VOLUMES */
};

struct replay_volume {
    uint64_t read_blocks, miss_blocks;
    uint64_t flash_blocks; /* on flash at the end; 0 with the simple policies */
};

/* Blocks are 4 KiB.  Only reads can miss. */
struct replay_result {
    uint64_t requests, reads, writes; /* those that were replayed */
    uint64_t read_misses;             /* read requests with a missed block */
    uint64_t read_blocks, ram_hit_blocks, flash_hit_blocks, miss_blocks;
    uint64_t fill_blocks;              /* clean blocks to flash because it had free room */
    uint64_t promote_blocks;           /* ... because they earned it */
    uint64_t reinsert_blocks;          /* ... again, by reclaim */
    uint64_t write_blocks;             /* of writes, to flash */
    uint64_t metadata_bytes;           /* written to flash */
    uint64_t ram_blocks, flash_blocks; /* what the tiers hold */
    uint64_t memory_bytes;             /* without the RAM tier's data */
    uint32_t shards, segments;         /* segments of each shard; 0 where there are none */
    uint64_t segment_bytes;
    struct replay_volume volumes[TRACE_VOLUMES];
    bool too_small; /* blkcachectl format would refuse this flash */
};

struct replay;

struct replay_policy {
    const char *name;
    const char *text;
    /* All REQUIRED.  NULL from create: `why` says so. */
    struct replay *(*create)(const struct replay_config *config, char *why, size_t why_bytes);
    void (*request)(struct replay *replay, const struct trace_request *request);
    void (*result)(struct replay *replay, struct replay_result *result);
    void (*destroy)(struct replay *replay);
};

extern const struct replay_policy replay_engine, replay_lru, replay_s3fifo, replay_wtinylfu;

/* All of them, the default first, with NULL at the end. */
extern const struct replay_policy *const replay_policies[];
const struct replay_policy *replay_policy_find(const char *name, size_t length);

/* For the simple ones, which look at one block at a time.  `base` is the first member of theirs. */
enum replay_source {
    SOURCE_RAM,
    SOURCE_FLASH,
    SOURCE_BACKING
};

struct replay_blocks {
    struct replay_result result;
    bool writes;
    enum replay_source (*access)(struct replay_blocks *blocks, uint64_t block);
};

void replay_blocks_request(struct replay *replay, const struct trace_request *request);

/* Different blocks that the trace's reads (or reads and writes) touch; -1: trace_why tells. */
int64_t replay_footprint(struct trace *trace, bool writes);

#endif
