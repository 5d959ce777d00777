/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending to the log: entries collect in the open batch, a sealed batch is one flash write.
 * What happens to it then is in log-end.c.
 *
 *   batch:    FREE -> OPEN -> WRITING
 *   segment:  READY -> OPEN
 *
 * A slot is linked when it is appended, marked pending, and published when its batch is on flash.
 */
#include "engine/shard-private.h"

#define WRITING_NS   UINT64_C(10000000) /* so long after a write of a client others are expected */
#define IDLE_BATCHES 3u /* under way, while clients write: a queue at the device delays them */

void log_setup(struct shard *shard)
{
    shard->volatile_first = UINT64_MAX;
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
    uint32_t usable = segment_capacity(shard) - 2;
    uint32_t segments, reserve = reclaim ? 0 : RESERVE_SEGMENTS;

    if (shard->flash_failed || shard->held || shard->stop_footer)
        return false;
    if (MUTANT(211))
        return true;
    if (shard->batches_free < (reclaim ? 2u : 5u))
        return false;
    if (remaining >= need) /* writers leave alone what reclaim opened from the reserve */
        return shard->ready_count >= reserve;
    segments = (need - remaining + usable - 1) / usable;
    return shard->ready_count >= segments + reserve && footer_buffers_free(shard) >= segments;
}

bool log_room_idle(const struct shard *shard)
{
    bool writers = shard->last_write_ns != 0 && shard->now_ns - shard->last_write_ns < WRITING_NS;
    uint32_t under_way = shard->batch_count - shard->batches_free;

    if (writers && under_way > IDLE_BATCHES - (shard->batch_open == NULL))
        return false;
    return log_room(shard, 1, false) && shard->ready_count > RESERVE_SEGMENTS;
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
    shard->footers[buffer].footer->lsn_last = 0;
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
    batch->header->lsn = 0;
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
    header->echo_lsn = shard->echo_lsn;
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
    footer->lsn_last = shard->next_lsn - 1;
    if (header->entry_count > 0) {
        memcpy(shard->echo, header->entries, header->entry_count * sizeof(struct entry));
        shard->echo_count = header->entry_count;
        shard->echo_slot = batch->header_slot;
        shard->echo_slot_count = batch->slot_count;
        shard->echo_lsn = header->lsn;
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

void log_hurry(struct shard *shard)
{
    if (shard->batch_open)
        shard->batch_open->urgent = true;
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
    slot->bits = (uint16_t)(SLOT_PENDING | append->use);
    if (append->kind == ENTRY_ZERO)
        slot->bits |= SLOT_ZERO | (append->flags & ENTRY_HOLE ? SLOT_HOLE : 0) |
                      (append->flags & ENTRY_POISON ? SLOT_BAD : 0);
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
    uint64_t epoch = append->epoch;

    if (i == 0)
        batch->header->lsn = shard->next_lsn++;
    if (append->kind != ENTRY_ABSENT)
        id = slot_take(shard, batch, append);
    if (id != NONE && shard->tags)
        epoch = epoch_append(shard, id, append);
    *entry = (struct entry){
        .lsn = append->lsn ? append->lsn : shard->next_lsn++,
        .epoch = epoch,
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
    batch->fua |= append->fua && shard->config.flash_volatile && !MUTANT(201);
    batch->urgent |= append->piece != NULL || append->reinserted;
    if (append->piece)
        shard->last_write_ns = shard->now_ns;
    batch->header->entry_count++;
    shard->last_append_ns = shard->now_ns;
    tick_want(shard, shard->now_ns + (batch->urgent ? MARK_IDLE_NS : CLEAN_BATCH_AGE_NS));
    return id;
}

/* A batch without entries tells a later recovery how far the log is durable, and echoes the last
 * batch: from then on rot is not mistaken for a torn write (hazard 14). */
void log_mark(struct shard *shard, struct actions *out)
{
    if (shard->batch_open || shard->open_segment == NONE || shard->batches_free < 2)
        return;
    if (shard->marked_durable == shard->durable_lsn && shard->marked_watermark == shard->watermark)
        return;
    if (shard->now_ns < shard->last_append_ns + MARK_IDLE_NS) {
        tick_want(shard, shard->last_append_ns + MARK_IDLE_NS);
        return;
    }
    if (open_remaining(shard) < 2) { /* its footer says as much */
        log_close_segment(shard, out);
        return;
    }
    batch_open(shard);
    log_seal(shard, UINT16_MAX, out);
}
