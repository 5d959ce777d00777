/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares: what a volume may take of the flash, and what the others must leave it.
 *
 *   at its maximum   -> nothing that was read enters flash, its dirty data are limited, and its blocks
 *                       are the first to go when room is made
 *   at its minimum,  -> blocks enter flash when they were used again, whatever the others' are, and
 *   or below            none of them goes when room is made
 *
 * Blocks are counted on flash, clean and dirty; RAM is shared freely.  Minimums of more than
 * PROMISED_MAX_PERCENT in sum are scaled down to that.  Pinned blocks (pin.c) are owed to
 * their volumes, too, whatever these have.
 */
#include "engine/share.h"
#include "engine/pin.h"
#include "engine/shard-private.h"

static struct shard_volume *volume_of(const struct shard *shard, uint32_t id)
{
    return shard_volume_any(shard, key_volume(slot_key(&shard->slots[id])));
}

void share_add(struct shard *shard, uint32_t id)
{
    struct shard_volume *volume = volume_of(shard, id);

    pin_add(shard, id);
    if (volume)
        volume->live++;
}

void share_take(struct shard *shard, uint32_t id)
{
    struct shard_volume *volume = volume_of(shard, id);

    pin_take(shard, id);
    if (volume && volume->live > 0)
        volume->live--;
}

void share_count(struct shard *shard, struct shard_volume *volume)
{
    volume->live = 0;
    for (uint32_t id = 0; shard->live_blocks > 0 && id < shard->slot_count; id++) {
        const struct slot *slot = &shard->slots[id];

        volume->live += (slot->bits & (SLOT_LINKED | SLOT_PENDING)) == SLOT_LINKED &&
                        key_volume(slot_key(slot)) == volume->id;
    }
}

void share_set(struct shard *shard)
{
    uint64_t capacity = shard_capacity(shard);
    uint32_t promised = 0, scale;

    for (uint32_t i = 0; i < shard->volume_count; i++)
        if (shard->volumes[i].policy.present)
            promised += shard->volumes[i].policy.share_min_percent;
    scale = promised > PROMISED_MAX_PERCENT ? promised : PROMISED_MAX_PERCENT;
    shard->shares = false;
    shard->promised = 0;
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];
        uint32_t least = volume->policy.present ? volume->policy.share_min_percent : 0;
        uint32_t most = volume->policy.share_max_percent ? volume->policy.share_max_percent : 100;
        uint32_t others = (promised - least) * PROMISED_MAX_PERCENT / scale;

        volume->share_min = capacity * least * PROMISED_MAX_PERCENT / scale / 100;
        volume->share_max = most < 100 ? capacity * most / 100 : UINT64_MAX;
        volume->dirty_limit_percent = others + DIRTY_LEAST_PERCENT > DIRTY_MOST_PERCENT
                                          ? DIRTY_LEAST_PERCENT
                                          : DIRTY_MOST_PERCENT - others;
        if (volume->dirty_limit_percent > most)
            volume->dirty_limit_percent = most;
        shard->promised += volume->share_min;
        shard->shares |= least > 0 || most < 100 || volume->policy.pins.count > 0;
    }
}

bool share_full(const struct shard *shard, uint64_t key)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(key));

    return shard->shares && volume && volume->live >= volume->share_max;
}

bool share_owed(const struct shard *shard, uint64_t key)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(key));

    return shard->shares && volume && volume->live < volume->share_min;
}

unsigned share_use(const struct shard *shard, const struct slot *slot)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(slot_key(slot)));
    unsigned use = slot->bits & SLOT_USE;

    return shard->shares && volume && volume->live > volume->share_max ? use / 4 : use;
}

/* ---- a victim ------------------------------------------------------------------------------- */

void share_spare(const struct shard *shard, struct share_spare *spare)
{
    for (uint32_t i = 0; shard->shares && i < shard->volume_count; i++) {
        const struct shard_volume *volume = &shard->volumes[i];

        spare->blocks[i] =
            volume->live > volume->share_min ? (uint32_t)(volume->live - volume->share_min) : 0;
        if (volume->share_min == 0)
            spare->blocks[i] = UINT32_MAX;
        spare->pinned[i] = (uint32_t)pin_excess(shard, volume);
    }
}

bool share_spare_take(const struct shard *shard, struct share_spare *spare, uint64_t key)
{
    const struct shard_volume *volume = shard_volume_any(shard, key_volume(key));
    uint32_t *left, *pinned;
    bool is_pinned;

    if (!shard->shares || !volume)
        return true;
    left = &spare->blocks[volume - shard->volumes];
    pinned = &spare->pinned[volume - shard->volumes];
    is_pinned = pin_holds(shard, key);
    if (*left == 0 || (is_pinned && *pinned == 0))
        return false;
    *left -= *left != UINT32_MAX;
    *pinned -= is_pinned;
    return true;
}
