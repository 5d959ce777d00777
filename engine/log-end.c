/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a batch after it was sent to flash, and how a full segment is closed.
 *
 *   batch:    WRITING -> published -> FREE, or FAILED -> its entries are appended again -> FREE
 *   segment:  CLOSING (batches end) -> flush -> footer -> CLOSED
 */
#include "engine/shard-private.h"

#define WRITE_FAILURES_MAX 8u /* in a row: the device is gone, not a spot of it */

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
            if (!batch->reinserted[i])
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
    if (batch->header->entry_count == 0) {
        metadata_count(shard, BLOCK_BYTES);
        return;
    }
    shard->counters.flash_batches++;
    shard->counters.flash_bytes += BLOCK_BYTES * (uint64_t)(1 + batch->data_blocks);
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

/* Takes entry i of a failed batch out of the index. */
static void entry_withdraw(struct shard *shard, struct batch *batch, uint32_t i)
{
    uint32_t id = batch->slots[i];

    if (id != NONE) {
        index_remove(shard, id);
        shard->slots[id].bits = 0;
    }
    if (batch->frames[i] != NONE)
        ram_promoted(shard, batch->frames[i]);
    if (batch->reinserted[i])
        reclaim_reinserted(shard, id, false);
}

static bool entry_has_epoch(const struct entry *entry)
{
    return entry_kind_destaged(entry->kind, entry->flags);
}

/* What no piece waits for (fills, promotions, copies of what still is where it was) ends here.  The
 * rest may have to wait for room, and room for destaging, which goes by epochs: as nobody was answered,
 * it belongs to the present one and holds up none before it. */
static void batch_entries_failed(struct shard *shard, struct batch *batch)
{
    for (uint32_t i = 0; i < batch->header->entry_count; i++) {
        struct entry *entry = &batch->header->entries[i];

        if (batch->pieces[i]) {
            if (entry_has_epoch(entry) && shard->tags)
                entry->epoch = epoch_defer(shard, batch->slots[i]);
            continue;
        }
        entry_withdraw(shard, batch, i);
        if (entry_has_epoch(entry))
            epoch_remove(shard, batch->slots[i]);
        batch->slots[i] = batch->frames[i] = NONE;
        batch->reinserted[i] = false;
    }
}

/* Entry i of a failed batch, unless nobody needs it any more, is appended elsewhere with its LSN. */
static void entry_append(struct shard *shard, struct batch *batch, uint32_t i, struct actions *out)
{
    const struct entry *entry = &batch->header->entries[i];
    struct piece *piece = batch->pieces[i];
    uint32_t id = batch->slots[i];
    bool superseded = id != NONE && index_superseded(shard, id);

    entry_withdraw(shard, batch, i);
    if (superseded) {
        if (piece->flags & PIECE_FUA)
            piece->error = -EIO;
        return;
    }
    if (shard->flash_failed) {
        /* Nothing is pending there any more: while its other batches are on their way, only this
         * keeps a merge from the content that the piece replaces. */
        if (!piece->active)
            active_add(shard, piece);
        piece->rerouted = 1;
        if (id != NONE)
            piece->rerouted_mask |= UINT64_C(1) << (entry->block - piece->block);
        if (piece->rerouted_lsn == 0 || entry->lsn < piece->rerouted_lsn)
            piece->rerouted_lsn = entry->lsn;
        return;
    }
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
                                     .from = batch->slots[i],
                                     .fua = batch->fua},
                    out);
    if (id == NONE)
        return;
    if (piece->held) { /* the hold moves with the block */
        shard->slots[id].bits |= SLOT_THROUGH;
        atomic_fetch_add_explicit(&slot_segment(shard, id)->users, 1, memory_order_relaxed);
        shard_flash_read_end(shard, batch->slots[i]);
    }
    piece->slots[entry->block - piece->block] = id;
}

static void entry_repeat(struct shard *shard, struct batch *batch, uint32_t i, struct actions *out)
{
    bool has_epoch = entry_has_epoch(&batch->header->entries[i]);

    if (!batch->pieces[i])
        return;
    entry_append(shard, batch, i, out);
    if (has_epoch) /* only now: its epoch must last until here */
        epoch_remove(shard, batch->slots[i]);
}

/* Another batch has this slot, one under way or one that failed, too. */
static bool elsewhere(const struct shard *shard, const struct batch *self, uint32_t id)
{
    uint32_t segment = id >> shard->segment_shift, slot = slot_in_segment(shard, id);

    for (uint32_t i = 0; i < shard->batch_count; i++) {
        const struct batch *batch = &shard->batches[i];

        if (batch != self && batch->state != BATCH_FREE && batch->segment == segment &&
            slot > batch->header_slot && slot <= batch->header_slot + batch->slot_count)
            return true;
    }
    return false;
}

/* While a newer record of one of its blocks is on its way, nobody knows whether the failed one is
 * superseded, and appending it now would put it behind the newer one.  That may be in a failed batch
 * itself, and then goes first. */
static bool batch_must_wait(const struct shard *shard, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->header->entry_count; i++) {
        uint32_t newer = NONE;

        if (batch->slots[i] != NONE && batch->pieces[i])
            newer = index_newer_pending(shard, batch->slots[i]);
        if (newer != NONE && elsewhere(shard, batch, newer))
            return true;
    }
    return false;
}

static bool batches_overlap(const struct batch *one, const struct batch *other)
{
    for (uint32_t i = 0; i < one->header->entry_count; i++)
        for (uint32_t k = 0; k < other->header->entry_count; k++)
            if (one->header->entries[i].volume == other->header->entries[k].volume &&
                one->header->entries[i].block == other->header->entries[k].block)
                return true;
    return false;
}

/* Once the flash takes nothing more: does another batch, under way, have a block of this one?  If it
 * ends well its record has passed this one's. */
static bool batch_may_be_passed(const struct shard *shard, const struct batch *batch)
{
    for (uint32_t i = 0; i < shard->batch_count; i++) {
        const struct batch *other = &shard->batches[i];

        if (other->state != BATCH_FREE && other->state != BATCH_FAILED &&
            batches_overlap(batch, other))
            return true;
    }
    return false;
}

/* The first failed batch that can be appended again. */
static struct batch **failed_next(struct shard *shard)
{
    struct batch **link = &shard->batch_failed;

    while (*link && (shard->flash_failed ? batch_may_be_passed(shard, *link)
                                         : batch_must_wait(shard, *link)))
        link = &(*link)->next;
    return link;
}

/* Closing, and nothing of it is under way but batches that failed. */
static bool segment_waits(const struct shard *shard, uint32_t index)
{
    uint32_t failed = 0;

    for (uint32_t i = 0; i < shard->batch_count; i++)
        failed += shard->batches[i].segment == index && shard->batches[i].state == BATCH_FAILED;
    return shard->segments[index].state == SEGMENT_CLOSING && failed > 0 &&
           failed == shard->segments[index].batches;
}

/* When all footer buffers belong to segments that wait for failed batches, and these for a buffer,
 * one segment goes without a footer: recovery scans it. */
static void footer_give_up(struct shard *shard)
{
    uint32_t waiting = FOOTER_BUFFERS;

    for (uint32_t i = 0; i < FOOTER_BUFFERS; i++) {
        uint32_t index = shard->footers[i].segment;

        if (index == NONE)
            return;
        if (segment_waits(shard, index))
            waiting = i;
        else if (index != shard->open_segment)
            return; /* its footer is on its way */
    }
    if (waiting == FOOTER_BUFFERS)
        return;
    shard->segments[shard->footers[waiting].segment].footer = FOOTER_NONE;
    shard->footers[waiting].segment = NONE;
}

static bool failed_room(struct shard *shard, const struct batch *batch)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < batch->header->entry_count; i++)
        count += batch->pieces[i] != NULL;
    if (count == 0 || shard->flash_failed || log_room(shard, count, true))
        return true;
    if (shard->ready_count > 0)
        footer_give_up(shard);
    return log_room(shard, count, true);
}

static void batch_failed_retry(struct shard *shard, struct actions *out)
{
    struct batch **link;

    while (!actions_full(out) && *(link = failed_next(shard))) {
        struct batch *batch = *link;

        if (!failed_room(shard, batch))
            return;
        *link = batch->next;
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
    batch_entries_failed(shard, batch);
    batch->state = BATCH_FAILED;
    batch->next = NULL;
    while (*last)
        last = &(*last)->next;
    *last = batch;
    batch_failed_retry(shard, out);
}

/* What is left of a failed batch must not pass for rot: no mark covers it until a footer says that its
 * entries do not count. */
void log_durable_advance(struct shard *shard, uint64_t lsn)
{
    if (lsn > shard->durable_lsn && shard->untrusted_count == 0)
        shard->durable_lsn = lsn;
}

/* The batch is complete; everything up to the first that is not, or that is only in the device's cache,
 * is durable. */
static void durable_advance(struct shard *shard, const struct batch *batch)
{
    uint64_t lsn = log_completed_lsn(shard);

    if (shard->config.flash_volatile && !batch->fua && batch->header->entry_count > 0) {
        if (batch->lsn_first < shard->volatile_first)
            shard->volatile_first = batch->lsn_first;
        shard->volatile_last = shard->next_lsn - 1;
    }
    if (lsn >= shard->volatile_first)
        lsn = shard->volatile_first - 1;
    log_durable_advance(shard, lsn);
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
        durable_advance(shard, batch);
        segment_batch_ended(shard, segment, out);
        batch_failed_retry(shard, out);
        ram_write(shard, out);
    }
    shard->unblock = true;
    if (shard->tags) /* an epoch that is over may have waited for it */
        tick_want(shard, shard->now_ns);
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

static void segment_closed(struct shard *shard, uint32_t index)
{
    shard->segments[index].state = SEGMENT_CLOSED;
    shard->closing_count--;
    shard->unblock = true;
    tick_want(shard, shard->now_ns);
}

/* All its batches ended.  The footer vouches for data, so these must be durable first. */
void log_segment_settled(struct shard *shard, uint32_t index, struct actions *out)
{
    struct segment *segment = &shard->segments[index];
    struct action *action;

    if (segment->footer == FOOTER_NONE) {
        segment_closed(shard, index);
        return;
    }
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
    action->flags =
        ACTION_REPORT | (segment->untrusted && shard->config.flash_volatile ? ACTION_FUA : 0);
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
    segment_closed(shard, buffer->segment);
    buffer->segment = NONE;
}

/* ---- background ------------------------------------------------------------------------- */

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
    if (!shard->flash_failed && !shard->held && !shard->stopping)
        log_mark(shard, out);
}
