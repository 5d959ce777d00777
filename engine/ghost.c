/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ghosts: how often blocks were used that are in the cache no more.
 *
 * A table of sets, in each the youngest first: 12 bits of fingerprint and a 4-bit use counter each,
 * as many as flash has blocks.  Who is used least makes room, among these the oldest: blocks used
 * once pass through, those used more often are remembered for long.
 */
#include "common/hash.h"
#include "engine/shard-private.h"

static uint16_t *set_of(const struct shard *shard, uint64_t key, uint16_t *fingerprint)
{
    uint64_t hash = hash_mix64(key ^ UINT64_C(0x6768306f7374));

    *fingerprint = (uint16_t)(hash << GHOST_USE_BITS);
    return &shard->ghosts[GHOST_WAYS * ((hash >> 32) * shard->ghost_sets >> 32)];
}

/* 0 is an empty place: a ghost was used once at least. */
static uint32_t place_find(const uint16_t *set)
{
    uint32_t place = GHOST_WAYS - 1;
    uint16_t least = set[place] & USE_MAX;

    for (uint32_t i = place; i-- > 0 && least > 0;)
        if ((set[i] & USE_MAX) < least) {
            least = set[i] & USE_MAX;
            place = i;
        }
    return place;
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

    for (uint32_t i = 0; i < GHOST_WAYS; i++) {
        unsigned use = set[i] & USE_MAX;

        if (use == 0 || (set[i] & ~USE_MAX) != fingerprint)
            continue;
        memmove(set + i, set + i + 1, (GHOST_WAYS - 1 - i) * sizeof(*set));
        set[GHOST_WAYS - 1] = 0;
        return use;
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
