/* SPDX-License-Identifier: Apache-2.0 */
/* Whether enough of the flash is left for the log to go round. */
#include "engine/shard-private.h"

#define UNREADABLE_NS UINT64_C(30000000000) /* what was not returned for so long will not be */

static bool too_few_without(const struct shard *shard, uint32_t segments)
{
    return segments + READY_MIN + 2 * RESERVE_SEGMENTS > shard->config.segments;
}

bool wear_is_out(const struct shard *shard)
{
    return too_few_without(shard, shard->retired_count);
}

/* Holds what nothing but writes of these blocks moves. */
static bool segment_sticks(const struct shard *shard, uint32_t index)
{
    const struct destage *destage = &shard->destage;
    bool for_good = destage->unreadable_until_ns >= destage->unreadable_since_ns + UNREADABLE_NS;
    uint32_t base = index << shard->segment_shift, lost = 0;

    if (shard->segments[index].dirty == 0)
        return false;
    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        uint16_t bits = shard->slots[base + i].bits;

        if (!(bits & SLOT_LINKED) || !(bits & SLOT_DIRTY))
            continue;
        if (bits & SLOT_UNREADABLE && for_good)
            return true;
        lost += !!(bits & SLOT_BAD);
    }
    return lost > keep_most(shard);
}

bool wear_sticks(const struct shard *shard)
{
    uint32_t count = shard->retired_count;

    for (uint32_t i = 0; i < shard->config.segments; i++)
        count += segment_sticks(shard, i);
    return too_few_without(shard, count);
}
