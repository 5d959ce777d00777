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
#define USES_OF(value)  ((uint64_t)(value)*UINT64_C(0x1111111111111111))
#define WORDS           4u

static_assert(GHOST_WAYS == WORDS * LANES && WORDS * USE_BITS == LANE_BITS,
              "the use counters of a set fit a word");

static uint64_t lanes_read(const uint16_t *set, uint32_t word)
{
    return le64_load(set + word * LANES);
}

static void lanes_write(uint16_t *set, uint32_t word, uint64_t lanes)
{
    le64_store(set + word * LANES, lanes);
}

/* The first `count` lanes of a word, at most all but one. */
static uint64_t lanes_first(uint32_t count)
{
    return (UINT64_C(1) << (count * LANE_BITS)) - 1;
}

/* A ghost in front; those before `place` move up, and the one there goes. */
static void set_push(uint16_t *set, uint32_t place, uint16_t ghost)
{
    uint64_t lanes, stay, carry = ghost;
    uint32_t word = 0;

    for (; word < place / LANES; word++) {
        lanes = lanes_read(set, word);
        lanes_write(set, word, lanes << LANE_BITS | carry);
        carry = lanes >> (64 - LANE_BITS);
    }
    lanes = lanes_read(set, word);
    stay = ~lanes_first(place % LANES) << LANE_BITS;
    lanes_write(set, word, (lanes & stay) | ((lanes << LANE_BITS | carry) & ~stay));
}

/* The ghost at `place` goes, those behind it move up. */
static void set_cut(uint16_t *set, uint32_t place)
{
    uint64_t stay = lanes_first(place % LANES);

    for (uint32_t word = place / LANES; word < WORDS; word++) {
        uint64_t lanes = lanes_read(set, word);
        uint64_t next = word + 1 < WORDS ? lanes_read(set, word + 1) : 0;

        lanes_write(set, word,
                    (lanes & stay) | ((lanes >> LANE_BITS | next << (64 - LANE_BITS)) & ~stay));
        stay = 0;
    }
}

/* The use counters of all ghosts: in each lane those of the words' lanes there, first word lowest. */
static uint64_t uses_read(const uint16_t *set)
{
    uint64_t mask = LANES_OF(USE_MAX);

    return (lanes_read(set, 0) & mask) | (lanes_read(set, 1) & mask) << USE_BITS |
           (lanes_read(set, 2) & mask) << 2 * USE_BITS |
           (lanes_read(set, 3) & mask) << 3 * USE_BITS;
}

/* 0 is an empty place: a ghost was used once at least. */
static uint32_t place_find(const uint16_t *set)
{
    uint64_t uses = uses_read(set), least;

    for (;; uses -= USES_OF(1)) {
        uint64_t more = uses | uses >> 1;

        least = ~(more | more >> 2) & USES_OF(1);
        if (least != 0)
            break;
    }
    for (uint32_t word = WORDS - 1;; word--) {
        uint64_t lanes = least >> word * USE_BITS & LANES_OF(1);

        if (lanes != 0)
            return word * LANES + (63 - (uint32_t)__builtin_clzll(lanes)) / LANE_BITS;
    }
}

void ghost_add(struct shard *shard, uint64_t key, unsigned use)
{
    uint16_t fingerprint, *set = set_of(shard, key, &fingerprint);

    if (use == 0)
        return;
    set_push(set, place_find(set), (uint16_t)(fingerprint | use));
}

/* A bit in each lane with this fingerprint, 0 elsewhere. */
static uint64_t lanes_same(const uint16_t *set, uint32_t word, uint16_t fingerprint)
{
    uint64_t bit = UINT64_C(1) << (LANE_BITS - GHOST_USE_BITS);
    uint64_t other = (lanes_read(set, word) ^ LANES_OF(fingerprint)) >> GHOST_USE_BITS;

    return (LANES_OF(bit) - (other & LANES_OF(bit - 1))) & LANES_OF(bit);
}

unsigned ghost_take(struct shard *shard, uint64_t key)
{
    uint16_t fingerprint, *set = set_of(shard, key, &fingerprint);

    if ((lanes_same(set, 0, fingerprint) | lanes_same(set, 1, fingerprint) |
         lanes_same(set, 2, fingerprint) | lanes_same(set, 3, fingerprint)) == 0)
        return 0;
    for (uint32_t word = 0; word < WORDS; word++) {
        uint64_t same = lanes_same(set, word, fingerprint);

        for (; same != 0; same &= same - 1) {
            uint32_t i = word * LANES + (uint32_t)__builtin_ctzll(same) / LANE_BITS;
            unsigned use = set[i] & USE_MAX;

            if (use == 0)
                continue;
            set_cut(set, i);
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
