/* SPDX-License-Identifier: Apache-2.0 */
/* Reinsertion: what of a victim is worth keeping is read and appended again. */
#include "common/crc32c.h"
#include "engine/shard-private.h"

bool reclaim_slot_hot(const struct slot *slot)
{
    return (slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_BAD | SLOT_ZERO | SLOT_PENDING)) ==
               SLOT_LINKED &&
           slot->bits & SLOT_USE;
}

/* Not what a write-through piece holds: destaging would write the copy while the piece does, too.  Of a
 * lost block it is the knowledge that it is lost, unless it is on its way to the backing store: then it
 * will be clean. */
bool reclaim_slot_copyable(const struct shard *shard, uint32_t id)
{
    uint16_t bits = shard->slots[id].bits;

    return (bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_UNREADABLE | SLOT_PENDING | SLOT_THROUGH)) ==
               (SLOT_LINKED | SLOT_DIRTY) &&
           (bits & SLOT_BAD ? !(bits & (SLOT_WRITTEN | SLOT_DESTAGING)) : !(bits & SLOT_ZERO)) &&
           !epoch_outdated(shard, id);
}

/* What of the victim is appended again: hot clean blocks; with `compact` dirty ones, too. */
static bool slot_kept(const struct shard *shard, uint32_t id)
{
    return reclaim_slot_hot(&shard->slots[id]) ||
           (shard->reclaim.compact && reclaim_slot_copyable(shard, id));
}

/* Reads a stretch across cold gaps: what is kept of it becomes one batch. A batch, with its header,
 * for each run of hot blocks could take more room than the victim frees. */
void reclaim_copy_next(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    uint32_t base = reclaim->victim << shard->segment_shift;
    struct action *action;
    uint32_t end;

    while (reclaim->cursor < shard->usable_end && !slot_kept(shard, base + reclaim->cursor))
        reclaim->cursor++;
    if (reclaim->cursor == shard->usable_end || shard->flash_failed) {
        reclaim_headers_start(shard, out);
        return;
    }
    end = reclaim->cursor + BATCH_ENTRIES_MAX;
    end = end < shard->usable_end ? end : shard->usable_end;
    while (!slot_kept(shard, base + end - 1))
        end--;
    reclaim->read_slot = base + reclaim->cursor;
    reclaim->read_count = end - reclaim->cursor;
    reclaim->cursor = end;
    reclaim->state = RECLAIM_READ;
    action = action_add(out, ACTION_READ_FLASH);
    action->flags = ACTION_REPORT | ACTION_VERIFY | ACTION_BACKGROUND;
    action->first = TAG_RECLAIM;
    action->slot = reclaim->read_slot;
    action->count = (uint16_t)reclaim->read_count;
    action->length = reclaim->read_count * BLOCK_BYTES;
    action->offset = slot_offset(shard, reclaim->read_slot);
    action->data = reclaim->buffer;
    atomic_fetch_add_explicit(&shard->segments[reclaim->victim].users, 1, memory_order_relaxed);
}

/* The footer entry of a slot; the footer lists slots in rising order. */
static const struct entry *footer_entry(struct shard *shard, uint32_t slot)
{
    struct reclaim *reclaim = &shard->reclaim;
    const struct segment_footer *footer = reclaim->footer;
    uint32_t wanted = slot_in_segment(shard, slot);

    while (reclaim->footer_cursor < footer->entry_count) {
        const struct entry *entry = &footer->entries[reclaim->footer_cursor];

        if (entry->slot == wanted)
            return entry;
        if (entry->slot != ENTRY_SLOT_NONE && entry->slot > wanted)
            return NULL;
        reclaim->footer_cursor++;
    }
    return NULL;
}

/* The flash returns it as it was, this time: destaging will see whether it can. */
static void slot_found(struct shard *shard, uint32_t id)
{
    /* A newer version on its way, in an epoch before the present one, would be destaged before it. */
    if (index_pending(shard, slot_key(&shard->slots[id])))
        return;
    slot_lost(shard, id, -1);
    shard->slots[id].bits &= (uint16_t)~SLOT_BAD;
    epoch_found(shard, id);
}

/* Hazard 4: current, and nothing newer on its way, at the moment of appending; LSN and epoch as
 * they are. */
static void reinsert_slot(struct shard *shard, uint32_t i, bool lost, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    uint32_t slot = reclaim->read_slot + i;
    uint64_t key = slot_key(&shard->slots[slot]);
    const struct entry *entry = footer_entry(shard, slot);
    uint16_t bits = shard->slots[slot].bits;
    uint8_t kind = lost ? ENTRY_ZERO : bits & SLOT_DIRTY ? ENTRY_DIRTY : ENTRY_CLEAN;
    bool bad = reclaim->bad_mask >> i & 1;
    struct shard_volume *volume = shard_volume(shard, key_volume(key));

    if (!entry || !volume || !slot_kept(shard, slot) || lost != !!(bits & SLOT_BAD))
        return;
    if (bad != lost && !(bits & SLOT_ZERO)) {
        if (lost)
            slot_found(shard, slot);
        else if (bits & SLOT_DIRTY && reclaim->bad_mask != UINT64_MAX) /* it could be read */
            read_slot_bad(shard, slot, key, true, out);
        return;
    }
    if (!MUTANT(4) && (index_pending(shard, key) || active_overlap(shard, key, 1)))
        return;
    log_append(shard,
               &(struct append){.key = key,
                                .lsn = entry->lsn,
                                .epoch = entry->epoch,
                                .kind = kind,
                                .flags = lost ? ENTRY_POISON : 0,
                                .crc = lost ? 0 : shard->slots[slot].crc,
                                .count = 1,
                                .data = lost ? NULL : reclaim->buffer + (size_t)i * BLOCK_BYTES,
                                .frame = NONE,
                                .from = slot,
                                .use = bits & SLOT_USE,
                                .reinserted = true},
               out);
    if (MUTANT(104))
        index_drop(shard, slot);
    reclaim->outstanding++;
    volume->counters.flash_reinsert_blocks += !lost;
}

/* What has no data comes last in a batch.  What this read found to be lost stays where it is: the next
 * one, a round later, may bring it. */
static void reinsert(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    uint32_t footer_cursor = reclaim->footer_cursor;
    uint64_t known = 0;

    for (uint32_t i = 0; i < reclaim->read_count; i++)
        if (shard->slots[reclaim->read_slot + i].bits & SLOT_BAD)
            known |= UINT64_C(1) << i;
    for (uint32_t i = 0; i < reclaim->read_count && !shard->flash_failed; i++)
        reinsert_slot(shard, i, false, out);
    reclaim->footer_cursor = footer_cursor;
    for (uint32_t i = 0; i < reclaim->read_count && !shard->flash_failed; i++)
        if (known >> i & 1)
            reinsert_slot(shard, i, true, out);
}

void reclaim_copy_append(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    reclaim->state = RECLAIM_APPEND;
    if (reclaim->outstanding > 0)
        return;
    if (reclaim->read_count > 0) {
        if (!shard->flash_failed && !log_room(shard, reclaim->read_count, true)) {
            /* Nobody but this can make room: what is clean is lost. */
            if (shard->ready_count == 0) {
                reclaim->read_count = 0;
                reclaim_headers_start(shard, out);
                return;
            }
            reclaim_retry(shard, RETRY_NS);
            return;
        }
        reinsert(shard, out);
        reclaim->read_count = 0;
        log_seal(shard, UINT16_MAX, out);
    }
    if (reclaim->outstanding == 0)
        reclaim_copy_next(shard, out);
}

void reclaim_reinserted(struct shard *shard, uint32_t slot, bool ok)
{
    (void)slot, (void)ok; /* a failed one is lost to the cache: it was clean */
    assert(shard->reclaim.outstanding > 0);
    if (--shard->reclaim.outstanding == 0)
        tick_want(shard, shard->now_ns);
}

uint64_t reclaim_copies_dirty(const struct shard *shard, uint16_t volume)
{
    uint64_t count = 0;

    for (uint32_t i = 0; shard->reclaim.outstanding > 0 && i < shard->batch_count; i++) {
        const struct batch *batch = &shard->batches[i];

        if (batch->state == BATCH_FREE)
            continue;
        for (uint32_t k = 0; k < batch->header->entry_count; k++) {
            const struct entry *entry = &batch->header->entries[k];
            uint32_t id;

            if (!batch->reinserted[k] || entry->kind == ENTRY_CLEAN ||
                (volume != VOLUME_ALL && entry->volume != volume))
                continue;
            id = index_flash(shard, key_of(entry->volume, entry->block));
            count += id == NONE || !(shard->slots[id].bits & SLOT_DIRTY);
        }
    }
    return count;
}

bool reclaim_footer_valid(const struct shard *shard, uint32_t index)
{
    struct segment_footer *footer = shard->reclaim.footer;
    uint32_t crc = footer->crc, computed;
    bool valid;

    if (footer->magic != FOOTER_MAGIC || footer->entry_count > shard->segment_slots ||
        footer->generation != shard->segments[index].generation ||
        memcmp(footer->uuid, shard->config.uuid, sizeof(footer->uuid)) != 0)
        return false;
    footer->crc = 0;
    computed = crc32c(0, footer, sizeof(*footer) + footer->entry_count * sizeof(struct entry));
    valid = computed == crc;
    footer->crc = crc;
    return valid;
}
