/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random decisions, all of them drawn from streams that one seed makes.
 *
 * Each part of the simulator has a stream of its own, so that one more decision in one of them
 * (another crash point, say) leaves the decisions of the others as they were.
 */
#ifndef TESTS_SIM_RANDOM_H
#define TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/hash.h"

struct sim_random {
    uint64_t state;
};

static inline struct sim_random sim_random_stream(uint64_t seed, uint64_t stream)
{
    return (struct sim_random){hash_pair64(seed, stream)};
}

/* SplitMix64. */
static inline uint64_t sim_random_next(struct sim_random *random)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix64(random->state);
}

/* 0 to count - 1; 0 when count is 0. */
static inline uint32_t sim_random_below(struct sim_random *random, uint32_t count)
{
    return (uint32_t)(((sim_random_next(random) >> 32) * count) >> 32);
}

/* least to most, both included. */
static inline uint32_t sim_random_range(struct sim_random *random, uint32_t least, uint32_t most)
{
    return least + sim_random_below(random, most - least + 1);
}

static inline bool sim_random_percent(struct sim_random *random, uint32_t percent)
{
    return sim_random_below(random, 100) < percent;
}

/* Draws nothing when it cannot happen, so that a fault which is off costs no decision. */
static inline bool sim_random_ppm(struct sim_random *random, uint32_t per_million)
{
    return per_million != 0 && sim_random_below(random, 1000000) < per_million;
}

#endif
