/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ghosts: how often blocks were used that are in the cache no more.
 *
 * A table of sets, in each the youngest first: 12 bits of fingerprint and a 4-bit use counter each,
 * as many as flash has blocks.  Who is used least makes room, among these the oldest: blocks used
 * once pass through, those used more often are remembered for long.
 */
#include "common/endian.h"
#include "common/hash.h"
#include "engine/shard-private.h"

static uint16_t *set_of(const struct shard *shard, uint64_t key, uint16_t *fingerprint)
{
    uint64_t hash = hash_mix64(key ^ UINT64_C(0x6768306f7374));

    *fingerprint = (uint16_t)(hash << GHOST_USE_BITS);
    return &shard->ghosts[GHOST_WAYS * ((hash >> 32) * shard->ghost_sets >> 32)];
}

/* Four ghosts at a time, the first one lowest. */
#define LANES           4u
#define LANE_BITS       16u
#define LANES_OF(value) ((uint64_t)(value)*UINT64_C(0x0001000100010001))

static_assert(GHOST_WAYS % LANES == 0, "a set is whole words");

static uint64_t lanes_read(const uint16_t *set, uint32_t word)
{
    return le64_load(set + word * LANES);
}

/* Of lanes with values below `bit`, a power of two: this bit where the value is 0. */
static uint64_t lanes_zero(uint64_t lanes, uint64_t bit)
{
    return (LANES_OF(bit) - lanes) & LANES_OF(bit);
}

/* 0 is an empty place: a ghost was used once at least. */
static uint32_t place_find(const uint16_t *set)
{
    for (unsigned use = 0;; use++) {
        for (uint32_t word = GHOST_WAYS / LANES; word-- > 0;) {
            uint64_t uses = lanes_read(set, word) & LANES_OF(USE_MAX);
            uint64_t same = lanes_zero(uses ^ LANES_OF(use), USE_MAX + 1);

            if (same != 0)
                return word * LANES + (63 - (uint32_t)__builtin_clzll(same)) / LANE_BITS;
        }
    }
}

void ghost_add(struct shard *shard, uint64_t key, unsigned use)
{
    uint16_t fingerprint, *set = set_of(shard, key, &fingerprint);

    if (use == 0)
        return;
    memmove(set + 1, set, place_find(set) * sizeof(*set));
    set[0] = (uint16_t)(fingerprint | use);
}

unsigned ghost_take(struct shard *shard, uint64_t key)
{
    uint16_t fingerprint, *set = set_of(shard, key, &fingerprint);

    for (uint32_t word = 0; word < GHOST_WAYS / LANES; word++) {
        uint64_t other = (lanes_read(set, word) ^ LANES_OF(fingerprint)) >> GHOST_USE_BITS;
        uint64_t same = lanes_zero(other & LANES_OF(UINT16_MAX >> GHOST_USE_BITS),
                                   1u << (LANE_BITS - GHOST_USE_BITS));

        for (; same != 0; same &= same - 1) {
            uint32_t i = word * LANES + (uint32_t)__builtin_ctzll(same) / LANE_BITS;
            unsigned use = set[i] & USE_MAX;

            if (use == 0)
                continue;
            memmove(set + i, set + i + 1, (GHOST_WAYS - 1 - i) * sizeof(*set));
            set[GHOST_WAYS - 1] = 0;
            return use;
        }
    }
    return 0;
}

void ghost_age(struct shard *shard, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        uint16_t *ghost = &shard->ghosts[i];
        uint16_t use = (*ghost & USE_MAX) / 2;

        *ghost = use == 0 ? 0 : (uint16_t)((*ghost & ~USE_MAX) | use);
    }
}

void ghost_count(const struct shard *shard, uint32_t first, uint32_t count, uint64_t *levels)
{
    for (uint32_t i = first; i < first + count; i++)
        levels[shard->ghosts[i] & USE_MAX]++;
}
