/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flash failed, is not there, or came back (docs/attachment.md).
 *
 *   works --> failed (writes wait) --> settled --> pass-through, volume by volume
 *   recovered and held --> kept blocks are destaged, all others dropped --> released
 *
 * From the failure on, clean blocks on flash are bypassed, not dropped: nothing of them is used
 * again.  Once settled, which blocks are dirty does not change: the list in the state directory is
 * exact as long as it counts.
 */
#include "engine/shard-private.h"
#include "engine/share.h"

#define LIST_SLOTS 8192u /* looked at in one call */

/* ---- failed ------------------------------------------------------------------------------- */

void shard_flash_lost(struct shard *shard)
{
    shard->flash_lost = shard->flash_failed = shard->flash_failed_told = true;
    tick_want(shard, shard->now_ns);
}

bool shard_flash_settled(const struct shard *shard)
{
    const struct destage *destage = &shard->destage;

    return shard->flash_lost && shard->batches_free == shard->batch_count &&
           shard->held_pieces == 0 && destage->active_count == 0 && destage->written_count == 0 &&
           !destage->flush_backing_busy && reclaim_idle(shard);
}

void shard_pass_through(struct shard *shard, uint16_t id)
{
    struct shard_volume *volume = shard_volume(shard, id);

    if (volume)
        volume->pass = true;
    tick_want(shard, shard->now_ns);
}

static bool touches_dirty(const struct shard *shard, const struct piece *piece)
{
    for (uint32_t i = 0; i < piece->count; i++) {
        uint32_t id = index_flash(shard, piece_key(piece) + i);

        if (id != NONE && shard->slots[id].bits & SLOT_DIRTY && !write_passed(shard, piece, i))
            return true;
    }
    return false;
}

/* A write of which nothing is on flash, nor ever will be. */
void loss_write(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    piece->state = WRITE_APPEND;
    if (!volume) {
        write_fail(shard, piece, -EIO, out);
    } else if (piece->op == PIECE_INVALIDATE) {
        write_fail(shard, piece, touches_dirty(shard, piece) ? -EIO : 0, out);
    } else if (!volume->pass && !MUTANT(16)) {
        write_stall(shard, piece);
    } else if (touches_dirty(shard, piece)) {
        write_fail(shard, piece, -EIO, out);
    } else {
        if (!piece->active)
            active_add(shard, piece);
        write_around(shard, piece, out);
    }
}

/* ---- lists -------------------------------------------------------------------------------- */

uint32_t shard_dirty_list(const struct shard *shard, uint32_t *cursor, struct dirty_block *list,
                          uint32_t max)
{
    uint32_t end = *cursor + LIST_SLOTS, count = 0;

    end = end < shard->slot_count ? end : shard->slot_count;
    for (; *cursor < end && count < max; ++*cursor) {
        const struct slot *slot = &shard->slots[*cursor];
        uint64_t key = slot_key(slot);

        if ((slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_PENDING)) !=
                (SLOT_LINKED | SLOT_DIRTY) ||
            epoch_outdated(shard, *cursor))
            continue;
        list[count++] = (struct dirty_block){
            .block = key_block(key),
            .volume = key_volume(key),
            .crc = slot->crc,
            .zero = slot_is_zeros(slot),
            .lost = slot->bits & SLOT_BAD,
        };
    }
    if (*cursor >= shard->slot_count)
        *cursor = UINT32_MAX;
    return count;
}

bool shard_lost_add(struct shard *shard, uint16_t volume, uint64_t block, bool zero)
{
    uint32_t in_segment = segment_capacity(shard);
    uint32_t place = (uint32_t)shard->dirty_blocks, id;
    uint64_t key = key_of(volume, block);

    assert(shard->config.detached);
    if (index_flash(shard, key) != NONE)
        return true;
    if (place / in_segment >= shard->config.segments)
        return false;
    id = (place / in_segment << shard->segment_shift) + SEGMENT_HEADER_SLOTS + place % in_segment;
    shard->slots[id].bits = zero ? SLOT_ZERO : SLOT_BAD;
    index_insert(shard, id, key);
    slot_segment(shard, id)->live++;
    shard->live_blocks++;
    share_add(shard, id);
    slot_dirty(shard, id);
    return true;
}

/* ---- back --------------------------------------------------------------------------------- */

static bool is_listed(const struct slot *slot, const struct dirty_block *block)
{
    return !block->lost && (slot->bits & (SLOT_DIRTY | SLOT_BAD)) == SLOT_DIRTY &&
           block->zero == !!(slot->bits & SLOT_ZERO) && (block->zero || block->crc == slot->crc);
}

bool shard_attach_keep(struct shard *shard, const struct dirty_block *block)
{
    uint32_t id = index_flash(shard, key_of(block->volume, block->block));

    assert(shard->held);
    while (id != NONE && !is_listed(&shard->slots[id], block))
        id = index_older(shard, id);
    if (id == NONE)
        return false;
    shard->slots[id].bits |= SLOT_KEPT;
    return true;
}

void shard_attach_drop(struct shard *shard, uint16_t volume)
{
    assert(shard->held);
    for (uint32_t id = 0; id < shard->slot_count; id++) {
        struct slot *slot = &shard->slots[id];

        if (!(slot->bits & SLOT_LINKED) || key_volume(slot_key(slot)) != volume)
            continue;
        if (slot->bits & SLOT_KEPT)
            slot->bits &= (uint16_t)~SLOT_KEPT;
        else
            index_drop(shard, id);
    }
}

void shard_attach_drain(struct shard *shard)
{
    shard->draining = true;
    tick_want(shard, shard->now_ns);
}

void shard_release(struct shard *shard)
{
    shard->held = shard->draining = false;
    tick_want(shard, shard->now_ns);
}
