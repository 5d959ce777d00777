/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of machine, cache, faults and workload a seed stands for. */
#ifndef TESTS_SIM_CONFIG_H
#define TESTS_SIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/shard.h"
#include "tests/sim/sim-disk.h"
#include "tests/sim/sim-random.h"

#define SIM_CORES_MAX    4u
#define SIM_SHARDS_MAX   4u
#define SIM_VOLUMES_MAX  4u
#define SIM_SEGMENTS_MAX 64u /* of a shard */
#define SIM_FRAMES_MAX   512u
#define SIM_BLOCKS_MAX   1024u /* of a volume */
#define SIM_CONNECTIONS  6u

#define SIM_FLASH_BYTES                                                              \
    (DATA_OFFSET + (uint64_t)SIM_SHARDS_MAX * SIM_SEGMENTS_MAX * SEGMENT_BYTES_MIN + \
     SUPERBLOCK_BYTES)
#define SIM_BACKING_BYTES ((uint64_t)SIM_BLOCKS_MAX * BLOCK_BYTES)

/* What the command line fixes; negative: the seed decides. */
struct sim_choice {
    int flash_volatile, faults, cores, shards, volumes, mode, ordered;
    int style; /* of the workload: 0 mixed, 1 fills the log, 2 mostly reads */
};

struct sim_volume_config {
    uint64_t bytes;
    uint8_t mode;
    bool atomic_blocks, ordered;
    uint32_t dirty_max_percent, share_min_percent, share_max_percent;
    struct ranges pins[2]; /* in even and in odd modes: they change with the mode */
    struct disk_traits backing;
};

struct sim_workload {
    uint32_t connections, depth;
    /* weights of the operations */
    uint32_t read, write, zero, trim, prefetch, invalidate, flush;
    uint32_t fua_percent, odd_percent, sector_percent, no_fill_percent, around_percent;
    uint32_t hot_percent, hot_blocks; /* hot_percent of accesses go to the first hot_blocks */
    uint32_t blocks_max, large_percent, sequential_percent;
    uint32_t whole_percent;   /* of zeros and trims: the whole volume */
    uint32_t discard_percent; /* of invalidations: dirty blocks, too */
    uint32_t idle_percent;    /* of flushes: nothing is asked for, for a second or more */
    uint32_t think_ns;
};

struct sim_faults { /* per million steps, while the machine runs */
    bool any;
    bool loss; /* volumes go on without a flash that is lost */
    uint32_t rot_ppm, flash_gone_ppm, backing_gone_ppm, clock_jump_ppm;
    uint32_t wrong_read_ppm; /* of flash reads in service: the next one may be right */
    uint32_t heal_percent;   /* of rounds in which nothing goes wrong */
};

struct sim_changes {               /* by an operator */
    uint32_t mode_ppm, remove_ppm; /* per million steps */
    uint32_t boot_mode_percent;    /* of starts, for each volume */
};

struct sim_config {
    uint64_t seed;
    uint32_t cores, shards, segments, frames, volume_count;
    struct disk_traits flash;
    struct sim_volume_config volumes[SIM_VOLUMES_MAX];
    struct sim_workload workload;
    struct sim_faults faults;
    struct sim_changes changes;
    uint32_t epochs_max; /* see struct shard_config */
    uint32_t alone_ppm;  /* of steps: what if the flash were lost now? */
    uint32_t core_ns;    /* how long a step takes at most */
    uint32_t stall_ppm;  /* a core is not scheduled for a while */
    uint32_t steps_max;  /* of a round */
    uint32_t boot_crash_percent, clean_percent, kill_percent;
};

void sim_config_choose(struct sim_config *config, uint64_t seed, const struct sim_choice *choice);

#endif
