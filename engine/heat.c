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
 *   the bar       -> nothing enters flash whose like comes back less often than what had to go for
 *                    it is used
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

/* ---- what a counter is worth --------------------------------------------------------------- */

/* How often blocks with a counter are used, on flash, and would be, as ghosts, is measured: where what was
 * popular stays so, a counter tells it; where it does not, or the same blocks come round and round,
 * it does not.  In RATE_UNIT of a use, in the time of a round. */
#define LOOK_SLOTS  64u /* in a step */
#define RATE_UNIT   (UINT64_C(1) << 16)
#define RATE_MARGIN 2u  /* so many times as often: it costs flash writes, and is an estimate */
#define FEW_OF      64u /* fewer ghosts than this part of the slots say nothing */

static void levels_fade(struct heat_levels *levels)
{
    for (unsigned use = 0; use <= USE_MAX; use++) {
        levels->hits[use] /= 2;
        levels->blocks[use] /= 2;
    }
}

static uint64_t level_rate(const struct heat_levels *levels, unsigned use)
{
    return levels->blocks[use] ? levels->hits[use] * RATE_UNIT / levels->blocks[use] : 0;
}

/* The least counter that enters flash: above the mean of what the last victim lost, and one whose
 * ghosts come back clearly more often than such blocks are used.  Of a counter that few ghosts have
 * nothing is known: it must be above all that was lost. */
static void bar_set(struct shard *shard)
{
    struct heat *heat = &shard->heat;
    uint64_t rate = 0, uses = 0, count = 0;
    unsigned bar = heat->above;

    for (unsigned use = 0; use <= USE_MAX; use++) {
        rate += heat->lost[use] * level_rate(&heat->flash, use);
        uses += heat->lost[use] * use;
        count += heat->lost[use];
    }
    if (heat->measured && count > 0)
        for (bar = (unsigned)(uses / count) + 1; bar < USE_MAX; bar++)
            if (heat->ghosts.blocks[bar] < shard->slot_count / FEW_OF
                    ? bar >= heat->above
                    : level_rate(&heat->ghosts, bar) >= rate * RATE_MARGIN / count)
                break;
    heat->bar = bar < USE_MAX ? bar : USE_MAX;
}

static bool is_candidate(const struct slot *slot)
{
    return (slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_BAD | SLOT_ZERO | SLOT_PENDING)) ==
           SLOT_LINKED;
}

static void levels_look(struct shard *shard)
{
    struct heat *heat = &shard->heat;
    uint32_t end;

    if (heat->look == shard->slot_count) {
        if (heat->clock - heat->looked_at < shard->slot_count)
            return;
        heat->looked_at = heat->clock;
        heat->look = 0;
        heat->measured = true;
        bar_set(shard);
        levels_fade(&heat->flash);
        levels_fade(&heat->ghosts);
    }
    end = heat->look + LOOK_SLOTS;
    end = end < shard->slot_count ? end : shard->slot_count;
    ghost_count(shard, heat->look, end - heat->look, heat->ghosts.blocks);
    for (; heat->look < end; heat->look++)
        if (is_candidate(&shard->slots[heat->look]))
            heat->flash.blocks[shard->slots[heat->look].bits & SLOT_USE]++;
}

/* ---- victims ------------------------------------------------------------------------------ */

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
    uint32_t histogram[USE_MAX + 1] = {0}, *lost = shard->heat.lost;
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
    memset(lost, 0, sizeof(shard->heat.lost));
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
        lost[use]++;
        ghost_add(shard, slot_key(slot), use);
        slot->bits &= (uint16_t)~SLOT_USE;
    }
    shard->heat.above = bar;
    bar_set(shard);
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

static void lost_age(struct heat *heat)
{
    heat->bar /= 2;
    heat->above /= 2;
    for (unsigned use = 1; use <= USE_MAX; use++) {
        uint32_t blocks = heat->lost[use];

        heat->lost[use] = 0;
        heat->lost[use / 2] += blocks;
    }
}

void heat_age(struct shard *shard)
{
    struct heat *heat = &shard->heat;
    uint64_t period = (uint64_t)AGE_ROUNDS * shard->slot_count;
    uint32_t end;

    levels_look(shard);
    if (heat->cursor == shard->slot_count) {
        if (heat->clock - heat->aged_at < period)
            return;
        heat->aged_at = heat->clock;
        heat->cursor = 0;
        lost_age(heat);
    }
    end = heat->cursor + AGE_SLOTS;
    end = end < shard->slot_count ? end : shard->slot_count;
    ghost_age(shard, heat->cursor, end - heat->cursor);
    for (; heat->cursor < end; heat->cursor++) {
        struct slot *slot = &shard->slots[heat->cursor];

        slot->bits = (uint16_t)((slot->bits & ~SLOT_USE) | (slot->bits & SLOT_USE) / 2);
    }
}
