/* SPDX-License-Identifier: Apache-2.0 */
/* How many different blocks a trace touches: what sizes in percent refer to. */
#include <stdlib.h>

#include "common/hash.h"
#include "engine/format.h"
#include "replay/policy.h"

/* A set of numbers, by open addressing. */
struct set {
    uint64_t *value; /* plus 1; 0 is free */
    uint64_t count;
    unsigned bits;
};

static bool set_put(struct set *set, uint64_t value)
{
    uint64_t mask = (UINT64_C(1) << set->bits) - 1;
    uint64_t at = hash_mix64(value) >> (64 - set->bits);

    while (set->value[at] != 0) {
        if (set->value[at] == value + 1)
            return false;
        at = (at + 1) & mask;
    }
    set->value[at] = value + 1;
    return true;
}

static bool set_grow(struct set *set)
{
    struct set larger = {.bits = set->bits + 1, .count = set->count};

    larger.value = calloc(UINT64_C(1) << larger.bits, sizeof(uint64_t));
    if (!larger.value)
        return false;
    for (uint64_t i = 0; i < UINT64_C(1) << set->bits; i++)
        if (set->value[i] != 0)
            set_put(&larger, set->value[i] - 1);
    free(set->value);
    *set = larger;
    return true;
}

int64_t replay_footprint(struct trace *trace, bool writes)
{
    struct set set = {.bits = 16};
    struct trace_request request;
    int got = -1;

    set.value = calloc(UINT64_C(1) << set.bits, sizeof(uint64_t));
    while (set.value && (got = trace_next(trace, &request)) > 0) {
        uint64_t end = (request.offset + request.length + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
        uint64_t base = (request.volume - UINT64_C(1)) * VOLUME_BLOCKS_MAX;

        if (request.is_write && !writes)
            continue;
        for (uint64_t block = request.offset >> BLOCK_SHIFT; block < end; block++) {
            if (!set_put(&set, base + block))
                continue;
            if (++set.count > UINT64_C(1) << (set.bits - 1) && !set_grow(&set))
                goto out;
        }
    }
out:
    free(set.value);
    return got == 0 ? (int64_t)set.count : -1;
}
