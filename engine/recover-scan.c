/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of a segment without a footer: its batches are looked for in steps of 4 KiB, past gaps,
 * in chunks that fit the scratch memory.  A survey only notes marks and the ring place; a replay
 * verifies the data and gives every accepted entry to the index and to the footer-to-be.
 */
#include "common/crc32c.h"
#include "engine/shard-private.h"

#define LOOK_BACK 64u /* slots kept before a gap's end: an echoed batch fits */

static bool batch_ok(const struct shard *shard, struct batch_header *header, uint32_t index,
                     uint32_t slot)
{
    return header->magic == BATCH_MAGIC &&
           memcmp(header->uuid, shard->config.uuid, sizeof(header->uuid)) == 0 &&
           (header->generation == shard->segments[index].generation || MUTANT(202) ||
            (!shard->recovery.replaying &&
             header->generation > shard->segments[index].generation)) &&
           header->offset == segment_offset(shard, index) + (uint64_t)slot * BLOCK_BYTES &&
           header->shard == shard->config.shard && header->entry_count <= BATCH_ENTRIES_MAX &&
           header->echo_count <= BATCH_ENTRIES_MAX && header->data_blocks <= header->slot_count &&
           header->slot_count <= BATCH_ENTRIES_MAX &&
           slot + 1 + header->slot_count <= shard->usable_end &&
           recovery_place_ok(shard, header->session, header->generation, header->ring_sequence) &&
           recovery_lsn_ok(shard, header->durable_lsn) &&
           recovery_lsn_ok(shard, header->watermark) && recovery_lsn_ok(shard, header->lsn) &&
           recovery_lsn_ok(shard, header->echo_lsn) &&
           recovery_crc_ok(header, sizeof(*header), &header->crc);
}

static void chunk_load(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    uint32_t from = recovery->scan_slot, most = SCRATCH_BYTES / BLOCK_BYTES;

    if (recovery->in_gap)
        from = from > SEGMENT_HEADER_SLOTS + LOOK_BACK ? from - LOOK_BACK : SEGMENT_HEADER_SLOTS;
    recovery->chunk_slot = from;
    recovery->chunk_slots = shard->usable_end - from < most ? shard->usable_end - from : most;
    recovery_read(shard, recovery->scan_segment, from, recovery->chunk_slots, shard->scratch, NULL,
                  out);
}

void recovery_scan_start(struct shard *shard, uint32_t index, bool replaying, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    recovery->scan_segment = index;
    recovery->scan_slot = SEGMENT_HEADER_SLOTS;
    recovery->previous_slot = 0;
    recovery->expected_lsn = 0;
    recovery->in_gap = false;
    recovery->scan_any = false;
    recovery->replaying = replaying;
    recovery->attempts = 0;
    if (replaying)
        recovery_footer_begin(shard, index, 0);
    chunk_load(shard, out);
}

static unsigned char *chunk_block(struct shard *shard, uint32_t slot)
{
    const struct recovery *recovery = &shard->recovery;

    if (slot < recovery->chunk_slot || slot >= recovery->chunk_slot + recovery->chunk_slots)
        return NULL;
    return shard->scratch + (size_t)(slot - recovery->chunk_slot) * BLOCK_BYTES;
}

/* One batch's entries, found directly or by its successor's echo. */
static void batch_replay(struct shard *shard, uint64_t lsn, const struct entry *entries,
                         uint32_t count)
{
    struct recovery *recovery = &shard->recovery;
    struct segment_footer *footer = shard->footers[0].footer;
    bool unproven = lsn > recovery->durable_lsn;

    if (lsn > footer->lsn_last)
        footer->lsn_last = lsn;
    for (uint32_t i = 0; i < count; i++) {
        struct entry entry = entries[i];
        const unsigned char *data;

        if (!recovery_entry_ok(shard, &entry) || !recovery_entry_live(recovery->map, &entry))
            continue;
        if (footer->entry_count == shard->segment_slots) { /* no log of ours has so many */
            recovery_lost_note(shard, recovery->scan_segment);
            return;
        }
        /* A write that was answered with an error, because its batch failed, may be there all the same,
         * and nowhere else. */
        if (unproven && (entry.kind == ENTRY_DIRTY || entry.kind == ENTRY_ZERO) &&
            entry.lsn <= recovery->watermark)
            recovery_entry_forget(&entry);
        if (entry.kind == ENTRY_DIRTY || entry.kind == ENTRY_CLEAN) {
            data = chunk_block(shard, entry.slot);
            if (!data || crc32c(0, data, BLOCK_BYTES) != entry.crc) {
                /* A tear, unless everything up to here was durable: then it is rot, and no older
                 * version may take its place (hazard 14).  The batch's LSN decides: those of
                 * reinserted entries are older than the copies. */
                if (unproven || MUTANT(14))
                    continue;
                entry.flags |= ENTRY_POISON;
            }
        }
        if (shard->segments[recovery->scan_segment].found & FOUND_LOST)
            recovery_lost_entry(shard, recovery->scan_segment, &entry);
        footer->entries[footer->entry_count++] = entry;
        if (entry.lsn > footer->lsn_last)
            footer->lsn_last = entry.lsn;
        recovery_entry_replay(shard, recovery->scan_segment, &entry);
    }
}

static uint64_t lsn_end(uint64_t lsn, const struct entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        lsn = entries[i].lsn > lsn ? entries[i].lsn : lsn;
    return lsn;
}

/* LSNs are given without gaps, and a segment begins with a batch that has records: is something
 * missing before this one that was durable, too, and that no echo tells of? */
static void gap_judge(struct shard *shard, const struct batch_header *header, uint32_t slot)
{
    struct recovery *recovery = &shard->recovery;
    uint64_t lsn = header->lsn;

    if (header->echo_count > 0 && header->echo_slot > recovery->previous_slot) {
        slot = header->echo_slot;
        lsn = header->echo_lsn;
    }
    if (lsn == 0)
        return;
    if (lsn <= recovery->durable_lsn &&
        (recovery->expected_lsn ? lsn > recovery->expected_lsn : slot != SEGMENT_HEADER_SLOTS))
        recovery_lost_note(shard, recovery->scan_segment);
    lsn = lsn_end(lsn, header->echo, header->echo_count);
    recovery->expected_lsn = 1 + lsn_end(lsn, header->entries, header->entry_count);
}

static void batch_found(struct shard *shard, const struct batch_header *header, uint32_t slot)
{
    struct recovery *recovery = &shard->recovery;
    struct segment *segment = &shard->segments[recovery->scan_segment];

    recovery->scan_any = true;
    if (!recovery->replaying) {
        if (header->generation > segment->generation)
            recovery_generation_found(shard, recovery->scan_segment, header->generation,
                                      header->ring_sequence);
        if (segment->ring_sequence == 0)
            segment->ring_sequence = header->ring_sequence;
        recovery_marks_note(shard, header->watermark, header->durable_lsn);
        return;
    }
    gap_judge(shard, header, slot);
    if (header->echo_count > 0 && header->echo_slot > recovery->previous_slot &&
        header->echo_slot < slot && !MUTANT(114)) {
        batch_replay(shard, header->echo_lsn, header->echo, header->echo_count);
        recovery->previous_slot = header->echo_slot; /* others may echo it, too */
    }
    batch_replay(shard, header->lsn, header->entries, header->entry_count);
    if (header->entry_count > 0)
        recovery->previous_slot = slot;
}

/* Works through the loaded chunk; true: the segment is finished. */
static bool scan_chunk(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    uint32_t end = recovery->chunk_slot + recovery->chunk_slots;

    while (recovery->scan_slot < shard->usable_end) {
        struct batch_header *header;

        /* A batch is looked at only when all of it can be in the chunk. */
        if (recovery->scan_slot + 1 + BATCH_ENTRIES_MAX > end && end < shard->usable_end) {
            chunk_load(shard, out);
            return false;
        }
        header = (void *)chunk_block(shard, recovery->scan_slot);
        if (!batch_ok(shard, header, recovery->scan_segment, recovery->scan_slot)) {
            recovery->scan_slot = MUTANT(111) ? shard->usable_end : recovery->scan_slot + 1;
            recovery->in_gap = true;
            continue;
        }
        batch_found(shard, header, recovery->scan_slot);
        /* Not knowing the generation, it may be of an older one that others were written over. */
        if (!recovery->replaying && shard->segments[recovery->scan_segment].found & FOUND_LOST)
            recovery->scan_slot++;
        else
            recovery->scan_slot += 1 + header->slot_count;
        recovery->in_gap = false;
    }
    return true;
}

/* True: the chunk is there.  What cannot be read could hide a record that was acknowledged, and an
 * older version of its block would be served: better not to start (I24). */
static bool chunk_loaded(struct shard *shard, const struct event *event, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    if (event->result >= 0)
        return true;
    if (++recovery->attempts < ATTEMPTS_MAX)
        chunk_load(shard, out);
    else if (MUTANT(124))
        memset(shard->scratch, 0, recovery->chunk_slots * (size_t)BLOCK_BYTES);
    else
        recovery_fail(shard, -EIO);
    return MUTANT(124) && recovery->attempts >= ATTEMPTS_MAX;
}

/* A read of the scan ended.  True: the segment is finished. */
bool recovery_scan_done(struct shard *shard, const struct event *event, struct actions *out)
{
    return chunk_loaded(shard, event, out) && scan_chunk(shard, out);
}
