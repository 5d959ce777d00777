/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What deserves flash: admission and reinsertion by frequency of use.  docs/policy.md has the
 * reasons and figures.
 *
 *   block used    -> its counter, in its slot or frame, goes up by one
 *   leaves RAM    -> to flash when its counter reaches the bar, else it becomes a ghost; pinned
 *                    ones always (pin.c)
 *   victim        -> its most used blocks, so many that room is won, are appended again; the
 *                    others become ghosts
 *   the bar       -> above the counters of what the last victim lost: nothing enters flash that
 *                    is used less than what had to go for it
 *   time          -> every AGE_ROUNDS block accesses for each slot all counters are halved, and
 *                    the bar with them, a bit at a time
 */
#include "engine/pin.h"
#include "engine/shard-private.h"
#include "engine/share.h"

#define BAR_MIN    2u  /* used again at all */
#define AGE_ROUNDS 5u  /* block accesses for each slot between two halvings */
#define AGE_SLOTS  64u /* halved in a step */

bool heat_admits(const struct shard *shard, const struct slot *frame)
{
    unsigned use = frame->bits & SLOT_USE, least = BAR_MIN + !!(frame->bits & FRAME_SEQUENTIAL);
    uint64_t key = slot_key(frame);

    if (pin_admits(shard, key))
        return true;
    return use >= least && (use >= shard->heat.bar || share_owed(shard, key)) &&
           !share_full(shard, key);
}

/* ---- victims ------------------------------------------------------------------------------ */

static bool is_candidate(const struct slot *slot)
{
    return (slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_BAD | SLOT_ZERO | SLOT_PENDING)) ==
           SLOT_LINKED;
}

uint32_t heat_owed(const struct shard *shard, uint32_t segment)
{
    uint32_t base = segment << shard->segment_shift, owed = 0;
    struct share_spare spare;

    /* When all that is left is owed to somebody, somebody gets less. */
    if (!shard->shares || shard->reclaim.fruitless_rounds > 0)
        return 0;
    share_spare(shard, &spare);
    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++)
        if (is_candidate(&shard->slots[base + i]))
            owed += !share_spare_take(shard, &spare, slot_key(&shard->slots[base + i]));
    return owed;
}

/* From the most used ones down to a level that does not fit any more.  Of that level only as many as
 * fit stay, and only if they were used again. */
uint32_t heat_cull(struct shard *shard, uint32_t segment, uint32_t most, uint32_t owed)
{
    uint32_t base = segment << shard->segment_shift, kept = 0, ties = 0;
    uint32_t histogram[USE_MAX + 1] = {0};
    unsigned bar = USE_MAX + 1;
    struct share_spare spare;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++)
        if (is_candidate(&shard->slots[base + i]))
            histogram[share_use(shard, &shard->slots[base + i])]++;
    assert(owed <= most);
    if (histogram[USE_MAX] > most)
        return NONE;
    most -= owed;
    share_spare(shard, &spare);
    while (bar > 1 && kept + histogram[bar - 1] <= most)
        kept += histogram[--bar];
    if (bar > BAR_MIN)
        ties = most - kept;
    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        struct slot *slot = &shard->slots[base + i];
        unsigned use = share_use(shard, slot);

        if (!is_candidate(slot) || use >= bar)
            continue;
        if (owed > 0 && !share_spare_take(shard, &spare, slot_key(slot))) {
            slot->bits |= (slot->bits & SLOT_USE) == 0; /* it stays, whether it was used or not */
            kept++;
            continue;
        }
        if (use == bar - 1 && ties > 0) {
            ties--;
            kept++;
            continue;
        }
        ghost_add(shard, slot_key(slot), use);
        slot->bits &= (uint16_t)~SLOT_USE;
    }
    shard->heat.bar = bar < USE_MAX ? bar : USE_MAX;
    return kept;
}

/* In fractions of a use: so many hits go with a block for which the victim makes room.  Of a large
 * segment a part is looked at. */
#define COST_UNIT   16u
#define COST_PARTS  8u
#define COST_SLOTS  16u /* of each part */
#define PEEK        16u /* segments to look ahead */
#define PEEK_MARGIN COST_UNIT

static uint32_t cull_cost(const struct shard *shard, uint32_t segment)
{
    uint32_t base = segment << shard->segment_shift, looked = 0, most, lost = 0;
    uint32_t histogram[USE_MAX + 1] = {0}, part = shard->segment_slots / COST_PARTS;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        if (part > COST_SLOTS && i % part == COST_SLOTS)
            i += part - COST_SLOTS;
        if (i >= shard->usable_end)
            break;
        looked++;
        if (is_candidate(&shard->slots[base + i]))
            histogram[shard->slots[base + i].bits & SLOT_USE]++;
    }
    most = looked * KEEP_PERCENT / 100;
    looked -= most;
    for (unsigned use = USE_MAX; use > 0; use--) {
        uint32_t kept = histogram[use] < most ? histogram[use] : most;

        most -= kept;
        lost += (histogram[use] - kept) * use;
    }
    return lost * COST_UNIT / looked;
}

bool heat_cheaper_ahead(const struct shard *shard, uint32_t segment)
{
    uint32_t cost = cull_cost(shard, segment);

    for (uint32_t i = 0; i < PEEK && cost >= PEEK_MARGIN; i++) {
        segment = shard->segments[segment].ring_next;
        if (segment == NONE || shard->segments[segment].state != SEGMENT_CLOSED ||
            shard->segments[segment].dirty > 0)
            return false;
        if (cull_cost(shard, segment) + PEEK_MARGIN < cost)
            return true;
    }
    return false;
}

/* ---- time --------------------------------------------------------------------------------- */

void heat_age(struct shard *shard)
{
    struct heat *heat = &shard->heat;
    uint64_t period = (uint64_t)AGE_ROUNDS * shard->slot_count;
    uint32_t end;

    if (heat->cursor == shard->slot_count) {
        if (heat->clock - heat->aged_at < period)
            return;
        heat->aged_at = heat->clock;
        heat->cursor = 0;
        heat->bar /= 2;
    }
    end = heat->cursor + AGE_SLOTS;
    end = end < shard->slot_count ? end : shard->slot_count;
    ghost_age(shard, heat->cursor, end - heat->cursor);
    for (; heat->cursor < end; heat->cursor++) {
        struct slot *slot = &shard->slots[heat->cursor];

        slot->bits = (uint16_t)((slot->bits & ~SLOT_USE) | (slot->bits & SLOT_USE) / 2);
    }
}
