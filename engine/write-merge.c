/* SPDX-License-Identifier: Apache-2.0 */
/* Partial blocks: the old content of a piece's first and last block is read and merged in. */
#include "engine/shard-private.h"

static const unsigned char zero_block[BLOCK_BYTES];

static void merge_from_memory(struct piece *piece, bool head, const unsigned char *old,
                              uint32_t frame, struct actions *out)
{
    struct action *action = action_add(out, ACTION_MERGE);

    action->flags = ACTION_REPORT | ACTION_PIECE | (head ? ACTION_HEAD : ACTION_TAIL);
    action->slot = frame;
    action->data = (unsigned char *)(uintptr_t)old; /* only read */
    action->owner = piece;
    piece->ios++;
}

static void merge_read(struct shard *shard, struct piece *piece, bool head, uint32_t slot,
                       struct actions *out)
{
    uint32_t index = head ? 0 : piece->count - 1u;
    struct action *action = action_add(out, slot == NONE ? ACTION_READ_BACKING : ACTION_READ_FLASH);

    action->flags = ACTION_REPORT | ACTION_PIECE | (head ? ACTION_HEAD : ACTION_TAIL);
    action->volume = piece->volume;
    action->first = (uint16_t)index;
    action->count = 1;
    action->slot = slot;
    action->length = BLOCK_BYTES;
    action->data = piece->merge + (head ? 0 : BLOCK_BYTES);
    action->owner = piece;
    piece->ios++;
    if (slot == NONE) {
        action->offset = (piece->block + index) * BLOCK_BYTES;
        return;
    }
    action->flags |= ACTION_VERIFY;
    action->offset = slot_offset(shard, slot);
    atomic_fetch_add_explicit(&slot_segment(shard, slot)->users, 1, memory_order_relaxed);
}

static void merge_edge(struct shard *shard, struct piece *piece, bool head, struct actions *out)
{
    uint64_t key = piece_key(piece) + (head ? 0 : piece->count - 1u);
    uint32_t id = index_lookup(shard, key);
    const struct slot *slot = id == NONE ? NULL : &shard->slots[id];

    if (slot && !is_frame(shard, id) && loss_bypasses(shard, slot))
        slot = NULL;
    if (slot && is_frame(shard, id)) {
        atomic_fetch_add_explicit(&shard->frames[id - shard->slot_count].pins, 1,
                                  memory_order_relaxed);
        merge_from_memory(piece, head, shard_frame(shard, id), id, out);
    } else if (slot && slot->bits & SLOT_BAD && slot->bits & SLOT_DIRTY) {
        piece->error = -EIO;
    } else if (slot && slot_is_zeros(slot)) {
        merge_from_memory(piece, head, zero_block, NONE, out);
    } else {
        merge_read(shard, piece, head, slot && !(slot->bits & SLOT_BAD) ? id : NONE, out);
    }
}

void write_merge_start(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    bool one = piece->count == 1;

    piece->state = WRITE_MERGING;
    if (piece->head_bytes || (one && piece->tail_bytes)) {
        merge_edge(shard, piece, true, out);
        volume->counters.merge_blocks++;
    }
    if (piece->tail_bytes && !one) {
        merge_edge(shard, piece, false, out);
        volume->counters.merge_blocks++;
    }
    if (piece->ios == 0)
        write_merged(shard, piece, out);
}

void write_merge_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct piece *piece = action->owner;
    bool head = action->flags & ACTION_HEAD;

    if (action->kind == ACTION_MERGE && action->slot != NONE)
        shard_frame_unpin(shard, action->slot);
    if (action->kind == ACTION_READ_FLASH) {
        if (event->result < 0 || event->bad_mask) {
            uint64_t key = piece_key(piece) + action->first;

            if (read_slot_bad(shard, action->slot, key, event->result >= 0, out))
                merge_edge(shard, piece, head, out);
            else
                piece->error = -EIO;
        }
        shard_flash_read_end(shard, action->slot);
        shard->unblock = true;
    } else if (event->result < 0) {
        piece->error = event->result;
    }
    if (--piece->ios == 0)
        write_merged(shard, piece, out);
}
