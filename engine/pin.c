/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinned ranges: blocks that an operator wants on flash.
 *
 *   read for the first time -> to flash, whatever is used more
 *   in a victim             -> appended again; a segment with more of them than may be appended
 *                              again keeps its place, as with shares (heat_owed)
 *   more than the bound     -> the excess counts as any other block
 *
 * Nothing waits for a pin: when the hand went round without finding another victim, pinned blocks go,
 * too.  A change of the ranges counts the slots again, a few a step; until that is done, too few
 * count as pinned, and the bound lets in too many.
 */
#include "engine/pin.h"

#define PINNED_MAX_PERCENT 50u  /* of the flash */
#define COUNT_SLOTS        512u /* in a step */

bool pin_found(const struct shard *shard, uint64_t key)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(key));

    return volume && ranges_have(&volume->policy.pins, key_block(key));
}

/* ---- counting ------------------------------------------------------------------------------ */

static void count(struct shard *shard, uint32_t id, int change)
{
    uint64_t key = slot_key(&shard->slots[id]);
    struct shard_volume *volume;

    if (!pin_holds(shard, key))
        return;
    volume = shard_volume_any(shard, key_volume(key));
    assert(change > 0 || (volume->pinned > 0 && shard->pinned > 0));
    volume->pinned += (uint64_t)change;
    shard->pinned += (uint64_t)change;
}

void pin_add(struct shard *shard, uint32_t id)
{
    if (id < shard->pin_cursor)
        count(shard, id, 1);
}

void pin_take(struct shard *shard, uint32_t id)
{
    if (id < shard->pin_cursor)
        count(shard, id, -1);
}

void pin_recount(struct shard *shard)
{
    shard->pins = false;
    shard->pinned = 0;
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        shard->volumes[i].pinned = 0;
        shard->pins |= shard->volumes[i].policy.pins.count > 0;
    }
    shard->pin_cursor = shard->live_blocks > 0 && shard->pins ? 0 : shard->slot_count;
}

void pin_tick(struct shard *shard)
{
    uint32_t end = shard->pin_cursor + COUNT_SLOTS;

    if (shard->pin_cursor == shard->slot_count)
        return;
    end = end < shard->slot_count ? end : shard->slot_count;
    for (; shard->pin_cursor < end; shard->pin_cursor++)
        if ((shard->slots[shard->pin_cursor].bits & (SLOT_LINKED | SLOT_PENDING)) == SLOT_LINKED)
            count(shard, shard->pin_cursor, 1);
    if (shard->pin_cursor < shard->slot_count)
        tick_want(shard, shard->now_ns);
}

/* ---- the bound ----------------------------------------------------------------------------- */

static uint64_t percent_of(const struct shard *shard, uint32_t percent)
{
    return shard_capacity(shard) * percent / 100;
}

/* Minimums come first, and leave so much; what is pinned of a volume counts as part of its own. */
static uint64_t left_by_shares(const struct shard *shard)
{
    uint64_t all = percent_of(shard, PROMISED_MAX_PERCENT);

    return all > shard->promised ? all - shard->promised : 0;
}

static uint64_t beyond_shares(const struct shard *shard)
{
    uint64_t beyond = 0;

    if (shard->promised == 0)
        return shard->pinned;
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        const struct shard_volume *volume = &shard->volumes[i];

        if (volume->pinned > volume->share_min)
            beyond += volume->pinned - volume->share_min;
    }
    return beyond;
}

static uint64_t above(uint64_t value, uint64_t bound)
{
    return value > bound ? value - bound : 0;
}

static uint64_t larger(uint64_t one, uint64_t other)
{
    return one > other ? one : other;
}

uint64_t pin_excess(const struct shard *shard, const struct shard_volume *volume)
{
    uint64_t excess = above(shard->pinned, percent_of(shard, PINNED_MAX_PERCENT));

    excess = larger(excess, above(beyond_shares(shard), left_by_shares(shard)));
    excess = larger(excess, above(volume->pinned, volume->share_max));
    return excess < volume->pinned ? excess : volume->pinned;
}

bool pin_found_and_fits(const struct shard *shard, uint64_t key)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(key));

    return pin_found(shard, key) && shard->pinned < percent_of(shard, PINNED_MAX_PERCENT) &&
           volume->pinned < volume->share_max &&
           (volume->pinned < volume->share_min || beyond_shares(shard) < left_by_shares(shard));
}

uint64_t pin_most(const struct shard *shard)
{
    uint64_t half = percent_of(shard, PINNED_MAX_PERCENT), most = left_by_shares(shard);

    for (uint32_t i = 0; i < shard->volume_count; i++)
        if (shard->volumes[i].policy.pins.count > 0)
            most += shard->volumes[i].share_min;
    return most < half ? most : half;
}

uint64_t pin_leaves(const struct shard *shard)
{
    uint64_t most = percent_of(shard, PINNED_MAX_PERCENT);

    most = shard->pinned < most ? shard->pinned : most;
    return percent_of(shard, DIRTY_MOST_PERCENT) - most;
}
