/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending to the log: entries collect in the open batch, a sealed batch is one flash write, full
 * segments are closed with a footer.
 *
 *   batch:    FREE -> OPEN -> WRITING -> FREE, or FAILED -> its entries are appended again -> FREE
 *   segment:  READY -> OPEN -> CLOSING (batches end) -> flush -> footer -> CLOSED
 *
 * A slot is linked when it is appended, marked pending, and published when its batch is on flash.
 */
#include "engine/shard-private.h"

#define WRITE_FAILURES_MAX 8u /* in a row: the device is gone, not a spot of it */
#define CLEAN_BATCH_AGE_NS UINT64_C(2000000)
#define MARK_IDLE_NS       UINT64_C(500000000)

void log_setup(struct shard *shard)
{
    shard->batch_free = NULL;
    for (uint32_t i = shard->batch_count; i-- > 0;) {
        shard->batches[i].next = shard->batch_free;
        shard->batch_free = &shard->batches[i];
    }
    shard->batches_free = shard->batch_count;
    shard->open_segment = NONE;
    for (uint32_t i = 0; i < FOOTER_BUFFERS; i++)
        shard->footers[i].segment = NONE;
}

/* ---- the ring --------------------------------------------------------------------------- */

void ring_insert_before(struct shard *shard, uint32_t index, uint32_t before)
{
    struct segment *segment = &shard->segments[index];
    uint32_t after = before == NONE ? shard->ring_newest : shard->segments[before].ring_prev;

    segment->ring_prev = after;
    segment->ring_next = before;
    if (after == NONE)
        shard->ring_oldest = index;
    else
        shard->segments[after].ring_next = index;
    if (before == NONE)
        shard->ring_newest = index;
    else
        shard->segments[before].ring_prev = index;
}

void ring_append(struct shard *shard, uint32_t index)
{
    ring_insert_before(shard, index, NONE);
}

void ring_remove(struct shard *shard, uint32_t index)
{
    struct segment *segment = &shard->segments[index];

    if (segment->ring_prev == NONE)
        shard->ring_oldest = segment->ring_next;
    else
        shard->segments[segment->ring_prev].ring_next = segment->ring_next;
    if (segment->ring_next == NONE)
        shard->ring_newest = segment->ring_prev;
    else
        shard->segments[segment->ring_next].ring_prev = segment->ring_prev;
    segment->ring_prev = segment->ring_next = NONE;
}

/* ---- room ------------------------------------------------------------------------------- */

static uint32_t footer_buffers_free(const struct shard *shard)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < FOOTER_BUFFERS; i++)
        count += shard->footers[i].segment == NONE;
    return count;
}

/* Entries that certainly still fit into the open segment, batch headers included. */
static uint32_t open_remaining(const struct shard *shard)
{
    const struct segment *segment;
    const struct segment_footer *footer;
    uint32_t slots, entries,
        pending = shard->batch_open ? shard->batch_open->header->entry_count : 0;

    if (shard->open_segment == NONE)
        return 0;
    segment = &shard->segments[shard->open_segment];
    footer = shard->footers[segment->footer].footer;
    slots = shard->usable_end - segment->next_slot;
    entries = shard->segment_slots - footer->entry_count - pending;
    return slots < entries ? slots : entries;
}

bool log_room(const struct shard *shard, uint32_t entries, bool reclaim)
{
    uint32_t need = entries + entries / BATCH_ENTRIES_MAX + 2;
    uint32_t remaining = open_remaining(shard);
    uint32_t usable = shard->usable_end - SEGMENT_HEADER_SLOTS - 2;
    uint32_t segments, reserve = reclaim ? 0 : RESERVE_SEGMENTS;

    if (shard->flash_failed || shard->stop_footer)
        return false;
    if (shard->batches_free < (reclaim ? 2u : 5u))
        return false;
    if (remaining >= need) /* writers leave alone what reclaim opened from the reserve */
        return shard->ready_count >= reserve;
    segments = (need - remaining + usable - 1) / usable;
    return shard->ready_count >= segments + reserve && footer_buffers_free(shard) >= segments;
}

static void segment_open(struct shard *shard)
{
    uint32_t index = NONE, buffer = 0;
    struct segment *segment;

    for (uint32_t i = 0; i < shard->config.segments && index == NONE; i++)
        if (shard->segments[i].state == SEGMENT_READY)
            index = i;
    assert(index != NONE && shard->ready_count > 0);
    while (shard->footers[buffer].segment != NONE)
        buffer++;
    assert(buffer < FOOTER_BUFFERS);
    segment = &shard->segments[index];
    shard->ready_count--;
    segment->state = SEGMENT_OPEN;
    segment->ring_sequence = shard->ring_next += RING_SPACING;
    segment->next_slot = SEGMENT_HEADER_SLOTS;
    segment->lsn_first = shard->next_lsn;
    segment->opened_ns = shard->now_ns;
    segment->batches = 0;
    segment->footer = (uint8_t)buffer;
    shard->footers[buffer].segment = index;
    shard->footers[buffer].footer->entry_count = 0;
    shard->open_segment = index;
    shard->echo_count = 0;
    shard->echo_slot = shard->echo_slot_count = 0;
    shard->reclaim.kept_since_open = 0;
    ring_append(shard, index);
    if (shard->ready_count < ready_target(shard))
        tick_want(shard, shard->now_ns);
}

static void batch_open(struct shard *shard)
{
    struct batch *batch = shard->batch_free;
    struct segment *segment = &shard->segments[shard->open_segment];

    assert(batch && shard->batches_free > 0);
    shard->batch_free = batch->next;
    shard->batches_free--;
    batch->next = NULL;
    batch->state = BATCH_OPEN;
    batch->segment = shard->open_segment;
    batch->header_slot = segment->next_slot++;
    batch->lsn_first = shard->next_lsn;
    batch->opened_ns = shard->now_ns;
    batch->data_blocks = batch->slot_count = 0;
    batch->fua = batch->urgent = batch->has_zeros = false;
    batch->write.iov_count = 1;
    batch->write.headroom = false;
    batch->header->entry_count = 0;
    segment->batches++;
    shard->batch_open = batch;
}

/* ---- sealing ---------------------------------------------------------------------------- */

static void batch_header_fill(struct shard *shard, struct batch *batch)
{
    struct segment *segment = &shard->segments[batch->segment];
    struct batch_header *header = batch->header;

    header->magic = BATCH_MAGIC;
    memcpy(header->uuid, shard->config.uuid, sizeof(header->uuid));
    header->generation = segment->generation;
    header->ring_sequence = segment->ring_sequence;
    header->offset =
        segment_offset(shard, batch->segment) + batch->header_slot * (uint64_t)BLOCK_BYTES;
    header->session = shard->config.session;
    header->durable_lsn = shard->durable_lsn;
    header->watermark = shard->watermark;
    header->shard = shard->config.shard;
    header->data_blocks = (uint16_t)batch->data_blocks;
    header->slot_count = batch->slot_count;
    header->echo_slot = shard->echo_slot;
    header->echo_slot_count = shard->echo_slot_count;
    header->echo_count = (uint16_t)shard->echo_count;
    memcpy(header->echo, shard->echo, shard->echo_count * sizeof(struct entry));
}

/* What the next batch echoes, and what the segment's footer will say. */
static void batch_remember(struct shard *shard, struct batch *batch)
{
    struct batch_header *header = batch->header;
    struct segment_footer *footer = shard->footers[shard->segments[batch->segment].footer].footer;

    batch->footer_first = footer->entry_count;
    memcpy(&footer->entries[footer->entry_count], header->entries,
           header->entry_count * sizeof(struct entry));
    footer->entry_count += header->entry_count;
    if (header->entry_count > 0) {
        memcpy(shard->echo, header->entries, header->entry_count * sizeof(struct entry));
        shard->echo_count = header->entry_count;
        shard->echo_slot = batch->header_slot;
        shard->echo_slot_count = batch->slot_count;
    }
}

void log_seal(struct shard *shard, uint16_t core, struct actions *out)
{
    struct batch *batch = shard->batch_open;
    const struct piece *piece;
    struct action *action;

    if (!batch)
        return;
    shard->batch_open = NULL;
    batch->state = BATCH_WRITING;
    batch->core = core;
    if (core < shard->config.cores)
        shard->writing_by_core[core]++;
    batch_header_fill(shard, batch);
    batch_remember(shard, batch);
    shard->marked_durable = shard->durable_lsn;
    shard->marked_watermark = shard->watermark;

    piece = batch->pieces[0];
    batch->write.headroom = batch->write.iov_count == 2 && batch->data_blocks > 0 && piece &&
                            piece->flags & PIECE_HEADROOM && batch->data[0] == piece->data;
    batch->write.iov[0].iov_base = batch->header;
    batch->write.iov[0].iov_len = BLOCK_BYTES;
    batch->write.seal_bytes = BLOCK_BYTES;
    batch->write.seal_crc = &batch->header->crc;

    action = action_add(out, ACTION_WRITE_FLASH);
    action->first = TAG_BATCH;
    action->flags = ACTION_REPORT | (batch->fua ? ACTION_FUA : 0);
    action->offset = batch->header->offset;
    action->length = BLOCK_BYTES * (1 + batch->data_blocks);
    action->slot = (batch->segment << shard->segment_shift) + batch->header_slot;
    action->owner = &batch->write;
}

/* A core is about to enter the kernel.  Blocks that arrive while a batch of this core is under way
 * wait for its end: under load batches grow by themselves (C6). */
void log_seal_event(struct shard *shard, uint16_t core, struct actions *out)
{
    struct batch *batch = shard->batch_open;

    if (!batch || !batch->urgent)
        return;
    if (core < shard->config.cores && shard->writing_by_core[core] > 0)
        return;
    log_seal(shard, core, out);
}

/* ---- appending -------------------------------------------------------------------------- */

static void batch_data_add(struct batch *batch, unsigned char *data)
{
    struct iovec *last = &batch->write.iov[batch->write.iov_count - 1];

    batch->data_blocks++;
    if (batch->write.iov_count > 1 && (unsigned char *)last->iov_base + last->iov_len == data) {
        last->iov_len += BLOCK_BYTES;
        return;
    }
    last = &batch->write.iov[batch->write.iov_count++];
    last->iov_base = data;
    last->iov_len = BLOCK_BYTES;
}

/* An open batch in an open segment that takes one more entry. */
static struct batch *batch_for(struct shard *shard, const struct append *append,
                               struct actions *out)
{
    struct batch *batch = shard->batch_open;

    if (batch &&
        (batch->header->entry_count == BATCH_ENTRIES_MAX || (append->data && batch->has_zeros))) {
        log_seal(shard, UINT16_MAX, out);
        batch = NULL;
    }
    if (shard->open_segment != NONE && open_remaining(shard) < 2) {
        log_seal(shard, UINT16_MAX, out);
        log_close_segment(shard, out);
        batch = NULL;
    }
    if (shard->open_segment == NONE)
        segment_open(shard);
    if (!batch)
        batch_open(shard);
    return shard->batch_open;
}

static uint32_t slot_take(struct shard *shard, struct batch *batch, const struct append *append)
{
    struct segment *segment = &shard->segments[batch->segment];
    uint32_t id = (batch->segment << shard->segment_shift) + segment->next_slot++;
    struct slot *slot = &shard->slots[id];

    assert(!(slot->bits & SLOT_LINKED));
    batch->slot_count++;
    slot->bits = SLOT_PENDING | (append->reinserted ? 1 : 0);
    if (append->kind == ENTRY_ZERO)
        slot->bits |= SLOT_ZERO | (append->flags & ENTRY_HOLE ? SLOT_HOLE : 0);
    slot->crc = append->crc;
    index_insert(shard, id, append->key);
    return id;
}

/* Appends one entry; log_room must have said yes.  Returns its slot, NONE for ENTRY_ABSENT. */
uint32_t log_append(struct shard *shard, const struct append *append, struct actions *out)
{
    struct batch *batch = batch_for(shard, append, out);
    uint32_t i = batch->header->entry_count, id = NONE;
    struct entry *entry = &batch->header->entries[i];
    struct segment *segment = &shard->segments[batch->segment];

    if (append->kind != ENTRY_ABSENT)
        id = slot_take(shard, batch, append);
    *entry = (struct entry){
        .lsn = append->lsn ? append->lsn : shard->next_lsn++,
        .epoch = append->epoch,
        .block = key_block(append->key),
        .crc = append->crc,
        .slot = id == NONE ? ENTRY_SLOT_NONE : slot_in_segment(shard, id),
        .volume = key_volume(append->key),
        .kind = append->kind,
        .flags = append->flags,
        .count = append->count,
    };
    if (append->kind != ENTRY_CLEAN && entry->lsn < segment->lsn_first)
        segment->lsn_first = entry->lsn;
    if (!append->reinserted && entry->lsn < batch->lsn_first)
        batch->lsn_first = entry->lsn;
    if (append->kind == ENTRY_DIRTY || append->kind == ENTRY_CLEAN)
        batch_data_add(batch, append->data);
    if (append->kind == ENTRY_ZERO)
        batch->has_zeros = true;
    if (append->piece && (i == 0 || batch->pieces[i - 1] != append->piece))
        append->piece->batches++;
    batch->pieces[i] = append->piece;
    batch->slots[i] = id;
    batch->frames[i] = append->frame;
    batch->data[i] = append->data;
    batch->reinserted[i] = append->reinserted;
    batch->fua |= append->fua && shard->config.flash_volatile;
    batch->urgent |= append->piece != NULL || append->reinserted;
    batch->header->entry_count++;
    shard->last_append_ns = shard->now_ns;
    tick_want(shard, shard->now_ns + (batch->urgent ? MARK_IDLE_NS : CLEAN_BATCH_AGE_NS));
    return id;
}

/* ---- the end of a batch ----------------------------------------------------------------- */

uint64_t log_completed_lsn(const struct shard *shard)
{
    uint64_t lsn = shard->next_lsn;

    if (shard->batches_free == shard->batch_count)
        return lsn - 1;
    for (uint32_t i = 0; i < shard->batch_count; i++)
        if (shard->batches[i].state != BATCH_FREE && shard->batches[i].lsn_first < lsn)
            lsn = shard->batches[i].lsn_first;
    return lsn - 1;
}

static void batch_free(struct shard *shard, struct batch *batch)
{
    batch->state = BATCH_FREE;
    batch->next = shard->batch_free;
    shard->batch_free = batch;
    shard->batches_free++;
}

static void segment_batch_ended(struct shard *shard, uint32_t index, struct actions *out)
{
    struct segment *segment = &shard->segments[index];

    assert(segment->batches > 0);
    segment->batches--;
    if (segment->state == SEGMENT_CLOSING && segment->batches == 0)
        log_segment_settled(shard, index, out);
}

static void absent_published(struct shard *shard, const struct batch *batch,
                             const struct entry *entry)
{
    uint64_t ring = shard->segments[batch->segment].ring_sequence;
    uint64_t key = key_of(entry->volume, entry->block);

    for (uint32_t i = 0; i < entry->count; i++)
        index_drop_before(shard, key + i, ring, batch->header_slot);
}

static void batch_publish(struct shard *shard, struct batch *batch)
{
    for (uint32_t i = 0; i < batch->header->entry_count; i++) {
        const struct entry *entry = &batch->header->entries[i];
        uint64_t key = key_of(entry->volume, entry->block);

        if (entry->kind == ENTRY_ABSENT) {
            absent_published(shard, batch, entry);
            continue;
        }
        if (entry->kind == ENTRY_DIRTY || entry->kind == ENTRY_ZERO) {
            slot_dirty(shard, batch->slots[i]);
            ram_drop(shard, key);
        }
        index_publish(shard, batch->slots[i]);
        if (batch->frames[i] != NONE)
            ram_promoted(shard, batch->frames[i]);
        if (batch->reinserted[i])
            reclaim_reinserted(shard, batch->slots[i], true);
    }
}

/* Whether entry i begins another piece's entries. */
static bool piece_begins(const struct batch *batch, uint32_t i)
{
    return batch->pieces[i] && (i == 0 || batch->pieces[i - 1] != batch->pieces[i]);
}

static void batch_count(struct shard *shard, const struct batch *batch)
{
    struct shard_volume *volume;

    if (batch->header->entry_count == 0)
        return;
    volume = shard_volume(shard, batch->header->entries[0].volume);
    if (!volume)
        return;
    volume->counters.flash_batches++;
    volume->counters.flash_bytes += BLOCK_BYTES * (uint64_t)(1 + batch->data_blocks);
}

static void batch_pieces_ended(struct shard *shard, struct batch *batch, struct actions *out)
{
    for (uint32_t i = 0; i < batch->header->entry_count; i++) {
        struct piece *piece = batch->pieces[i];

        if (!piece_begins(batch, i))
            continue;
        assert(piece->batches > 0);
        if (--piece->batches == 0)
            write_logged(shard, piece, out);
    }
}

/* Appends entry i of a failed batch elsewhere, with its LSN, unless nobody needs it any more. */
static void entry_repeat(struct shard *shard, struct batch *batch, uint32_t i, struct actions *out)
{
    const struct entry *entry = &batch->header->entries[i];
    struct piece *piece = batch->pieces[i];
    uint32_t id = batch->slots[i];
    bool superseded = id != NONE && index_superseded(shard, id);

    if (id != NONE) {
        index_remove(shard, id);
        shard->slots[id].bits = 0;
    }
    if (batch->frames[i] != NONE)
        ram_promoted(shard, batch->frames[i]);
    if (batch->reinserted[i])
        reclaim_reinserted(shard, id, false);
    if (!piece)
        return;
    if (shard->flash_failed || (superseded && piece->flags & PIECE_FUA)) {
        piece->error = -EIO;
        return;
    }
    if (superseded)
        return;
    id = log_append(shard,
                    &(struct append){.key = key_of(entry->volume, entry->block),
                                     .lsn = entry->lsn,
                                     .epoch = entry->epoch,
                                     .kind = entry->kind,
                                     .flags = entry->flags,
                                     .crc = entry->crc,
                                     .count = entry->count,
                                     .data = batch->data[i],
                                     .piece = piece,
                                     .frame = NONE,
                                     .fua = batch->fua},
                    out);
    if (id == NONE)
        return;
    if (piece->held) { /* the hold moves with the block */
        atomic_fetch_add_explicit(&slot_segment(shard, id)->users, 1, memory_order_relaxed);
        shard_flash_read_end(shard, batch->slots[i]);
    }
    piece->slots[entry->block - piece->block] = id;
}

static bool in_flight(const struct shard *shard, uint32_t id)
{
    uint32_t segment = id >> shard->segment_shift, slot = slot_in_segment(shard, id);

    for (uint32_t i = 0; i < shard->batch_count; i++) {
        const struct batch *batch = &shard->batches[i];

        if ((batch->state == BATCH_OPEN || batch->state == BATCH_WRITING) &&
            batch->segment == segment && slot > batch->header_slot &&
            slot <= batch->header_slot + batch->slot_count)
            return true;
    }
    return false;
}

/* While a newer record of one of its blocks is on its way, nobody knows whether the failed one is
 * superseded, and appending it now would put it behind the newer one. */
static bool batch_must_wait(const struct shard *shard, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->header->entry_count; i++) {
        uint32_t newer = NONE;

        if (batch->slots[i] != NONE && batch->pieces[i])
            newer = index_newer_pending(shard, batch->slots[i]);
        if (newer != NONE && in_flight(shard, newer))
            return true;
    }
    return false;
}

static void batch_failed_retry(struct shard *shard, struct actions *out)
{
    while (shard->batch_failed && !actions_full(out)) {
        struct batch *batch = shard->batch_failed;

        if (!shard->flash_failed &&
            (batch_must_wait(shard, batch) || !log_room(shard, batch->header->entry_count, true)))
            return;
        shard->batch_failed = batch->next;
        for (uint32_t i = 0; i < batch->header->entry_count; i++)
            entry_repeat(shard, batch, i, out);
        batch_pieces_ended(shard, batch, out);
        batch_free(shard, batch);
        segment_batch_ended(shard, batch->segment, out);
        log_seal(shard, UINT16_MAX, out);
    }
}

static void batch_went_wrong(struct shard *shard, struct batch *batch, struct actions *out)
{
    struct segment *segment = &shard->segments[batch->segment];
    struct segment_footer *footer = shard->footers[segment->footer].footer;
    struct batch **last = &shard->batch_failed;

    if (!segment->failed)
        action_notice(out, NOTICE_SEGMENT_FAILED, 0, segment_offset(shard, batch->segment));
    segment->failed = true;
    if (!segment->untrusted)
        shard->untrusted_count++;
    segment->untrusted = true;
    for (uint32_t i = 0; i < batch->header->entry_count; i++)
        footer->entries[batch->footer_first + i].kind = 0; /* left out when it is written */
    if (shard->open_segment == batch->segment) {
        if (shard->echo_slot == batch->header_slot)
            shard->echo_count = shard->echo_slot = 0;
        log_seal(shard, UINT16_MAX, out);
        log_close_segment(shard, out);
    }
    if (++shard->write_failures >= WRITE_FAILURES_MAX)
        shard->flash_failed = true;
    batch->state = BATCH_FAILED;
    batch->next = NULL;
    while (*last)
        last = &(*last)->next;
    *last = batch;
    batch_failed_retry(shard, out);
}

void log_batch_done(struct shard *shard, struct batch *batch, int result, struct actions *out)
{
    uint16_t core = batch->core;

    assert(batch->state == BATCH_WRITING);
    if (core < shard->config.cores)
        shard->writing_by_core[core]--;
    if (result < 0) {
        batch_went_wrong(shard, batch, out);
    } else {
        uint32_t segment = batch->segment;

        shard->write_failures = 0;
        batch_publish(shard, batch);
        batch_count(shard, batch);
        batch_pieces_ended(shard, batch, out);
        batch_free(shard, batch);
        if (!shard->config.flash_volatile)
            shard->durable_lsn = log_completed_lsn(shard);
        segment_batch_ended(shard, segment, out);
        batch_failed_retry(shard, out);
    }
    shard->unblock = true;
    log_seal_event(shard, core, out);
}

/* ---- closing ---------------------------------------------------------------------------- */

void log_close_segment(struct shard *shard, struct actions *out)
{
    uint32_t index = shard->open_segment;
    struct segment *segment = &shard->segments[index];

    assert(!shard->batch_open);
    shard->open_segment = NONE;
    segment->state = SEGMENT_CLOSING;
    shard->closing_count++;
    if (segment->batches == 0)
        log_segment_settled(shard, index, out);
}

/* All its batches ended.  The footer vouches for data, so these must be durable first. */
void log_segment_settled(struct shard *shard, uint32_t index, struct actions *out)
{
    struct segment *segment = &shard->segments[index];
    struct action *action;

    if (!shard->config.flash_volatile || MUTANT(11)) {
        log_footer_write(shard, &shard->footers[segment->footer], out);
        return;
    }
    action = action_add(out, ACTION_FLUSH_FLASH);
    action->flags = ACTION_REPORT;
    action->first = TAG_CLOSING;
    action->slot = index;
}

void log_closing_flushed(struct shard *shard, uint32_t index, int result, struct actions *out)
{
    struct segment *segment = &shard->segments[index];

    if (result < 0) { /* without a footer recovery scans the segment */
        log_footer_done(shard, &shard->footers[segment->footer], result, out);
        return;
    }
    log_footer_write(shard, &shard->footers[segment->footer], out);
}

/* Writes the footer that the buffer describes, without the entries of failed batches. */
void log_footer_write(struct shard *shard, struct footer_buffer *buffer, struct actions *out)
{
    struct segment *segment = &shard->segments[buffer->segment];
    struct segment_footer *footer = buffer->footer;
    uint32_t kept = 0, bytes;
    struct action *action;

    for (uint32_t i = 0; i < footer->entry_count; i++)
        if (footer->entries[i].kind != 0)
            footer->entries[kept++] = footer->entries[i];
    footer->entry_count = kept;
    footer->magic = FOOTER_MAGIC;
    memcpy(footer->uuid, shard->config.uuid, sizeof(footer->uuid));
    footer->generation = segment->generation;
    footer->ring_sequence = segment->ring_sequence;
    footer->session = shard->config.session;
    footer->durable_lsn = shard->durable_lsn;
    footer->watermark = shard->watermark;
    footer->segment = shard->config.segment_first + buffer->segment;
    footer->shard = shard->config.shard;
    bytes = (uint32_t)(sizeof(*footer) + kept * sizeof(struct entry));
    buffer->write.iov_count = 1;
    buffer->write.headroom = false;
    buffer->write.iov[0].iov_base = footer;
    buffer->write.iov[0].iov_len = (bytes + BLOCK_BYTES - 1) & ~(BLOCK_BYTES - 1);
    buffer->write.seal_bytes = bytes;
    buffer->write.seal_crc = &footer->crc;
    action = action_add(out, ACTION_WRITE_FLASH);
    action->flags = ACTION_REPORT;
    action->first = TAG_FOOTER;
    action->offset =
        segment_offset(shard, buffer->segment) + (uint64_t)shard->usable_end * BLOCK_BYTES;
    action->length = (uint32_t)buffer->write.iov[0].iov_len;
    action->owner = &buffer->write;
    metadata_count(shard, action->length);
}

void log_footer_done(struct shard *shard, struct footer_buffer *buffer, int result,
                     struct actions *out)
{
    struct segment *segment = &shard->segments[buffer->segment];

    if (result < 0) {
        segment->failed = true;
        action_notice(out, NOTICE_SEGMENT_FAILED, 0, segment_offset(shard, buffer->segment));
    } else if (segment->untrusted) {
        segment->untrusted = false;
        shard->untrusted_count--;
    }
    segment->state = SEGMENT_CLOSED;
    buffer->segment = NONE;
    shard->closing_count--;
    shard->unblock = true;
    tick_want(shard, shard->now_ns);
}

/* ---- background ------------------------------------------------------------------------- */

/* A batch without entries tells a later recovery how far the log is durable, and echoes the last
 * batch: from then on rot is not mistaken for a torn write (hazard 14). */
static void mark_write(struct shard *shard, struct actions *out)
{
    if (shard->batch_open || shard->open_segment == NONE || shard->batches_free < 2)
        return;
    if (shard->marked_durable == shard->durable_lsn && shard->marked_watermark == shard->watermark)
        return;
    if (shard->now_ns < shard->last_append_ns + MARK_IDLE_NS) {
        tick_want(shard, shard->last_append_ns + MARK_IDLE_NS);
        return;
    }
    if (open_remaining(shard) < 2)
        return;
    batch_open(shard);
    log_seal(shard, UINT16_MAX, out);
}

void log_tick(struct shard *shard, struct actions *out)
{
    struct batch *batch = shard->batch_open;

    batch_failed_retry(shard, out);
    if (shard->batch_failed)
        tick_want(shard, shard->now_ns + CLEAN_BATCH_AGE_NS);
    if (batch && batch == shard->batch_open) {
        if (shard->now_ns >= batch->opened_ns + CLEAN_BATCH_AGE_NS)
            log_seal(shard, UINT16_MAX, out);
        else
            tick_want(shard, batch->opened_ns + CLEAN_BATCH_AGE_NS);
    }
    if (!shard->flash_failed && !shard->stopping)
        mark_write(shard, out);
}
