/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: from what is on flash to an index.
 *
 *   metadata   read the headers and the footer of every segment; stash the footer's entries
 *   survey     segments that have no footer: find their batches, for marks and ring order
 *   replay     all segments in ring order, the last record of a block wins; segments without a
 *              footer have their data verified and get a footer of exactly what was accepted (I19)
 *   repair     header copies that were missing or old
 *   flush      the verdicts are durable
 *
 * Each step can be interrupted by a crash and repeated: nothing written here changes what the next
 * recovery accepts.  Whatever is read is checked before it is believed (I8).
 */
#include "common/crc32c.h"
#include "engine/shard-private.h"
#include "engine/share.h"

void recovery_init(struct shard *shard)
{
    struct recovery *recovery = &shard->recovery;
    size_t area = (SEGMENT_HEADER_SLOTS + (size_t)shard->footer_slots) * BLOCK_BYTES;
    size_t count = SCRATCH_BYTES / area;

    recovery->area_count = count < RECOVERY_DEPTH ? (uint32_t)count : RECOVERY_DEPTH;
    for (uint32_t i = 0; i < recovery->area_count; i++) {
        recovery->areas[i].segment = NONE;
        recovery->areas[i].headers = shard->scratch + i * area;
        recovery->areas[i].footer = recovery->areas[i].headers + 2 * (size_t)BLOCK_BYTES;
    }
    recovery->watermark = shard->config.watermark;
    recovery->durable_lsn = shard->config.durable_lsn;
    recovery->state = RECOVERY_METADATA;
    shard->recovering = true;
    for (uint32_t i = 0; i < shard->config.segments; i++)
        for (uint32_t k = 0; k < shard->config.retired_count; k++)
            if (shard->config.retired[k] == shard->config.segment_first + i)
                shard->segments[i].state = SEGMENT_RETIRED;
    for (uint32_t i = 0; i < shard->config.segments; i++)
        if (shard->segments[i].state == SEGMENT_RETIRED)
            shard->retired_count++;
}

void recovery_fail(struct shard *shard, int error)
{
    shard->failed = true;
    shard->error = error;
}

struct action *recovery_read(struct shard *shard, uint32_t segment, uint32_t slot, uint32_t slots,
                             unsigned char *data, void *owner, struct actions *out)
{
    struct action *action = action_add(out, ACTION_READ_FLASH);

    action->flags = ACTION_REPORT | ACTION_BACKGROUND;
    action->first = TAG_RECOVERY;
    action->slot = segment << shard->segment_shift;
    action->offset = segment_offset(shard, segment) + (uint64_t)slot * BLOCK_BYTES;
    action->length = slots * BLOCK_BYTES;
    action->data = data;
    action->owner = owner;
    return action;
}

/* ---- checking --------------------------------------------------------------------------- */

bool recovery_crc_ok(void *data, size_t bytes, uint32_t *crc)
{
    uint32_t stored = *crc, computed;

    *crc = 0;
    computed = crc32c(0, data, bytes);
    *crc = stored;
    return computed == stored;
}

bool recovery_lsn_ok(const struct shard *shard, uint64_t lsn)
{
    return lsn >> LSN_SESSION_SHIFT <= shard->config.session;
}

bool recovery_place_ok(const struct shard *shard, uint64_t session, uint64_t generation,
                       uint64_t ring_sequence)
{
    return session <= shard->config.session &&
           generation >> GENERATION_SESSION_SHIFT <= shard->config.session &&
           ring_sequence <= RING_MAX;
}

static bool header_ok(const struct shard *shard, struct segment_header *header, uint32_t index)
{
    return header->magic == SEGMENT_MAGIC &&
           memcmp(header->uuid, shard->config.uuid, sizeof(header->uuid)) == 0 &&
           header->segment == shard->config.segment_first + index &&
           header->shard == shard->config.shard &&
           recovery_place_ok(shard, header->session, header->generation, header->ring_sequence) &&
           recovery_crc_ok(header, sizeof(*header), &header->crc);
}

static bool footer_ok(const struct shard *shard, struct segment_footer *footer, uint32_t index)
{
    return footer->magic == FOOTER_MAGIC &&
           memcmp(footer->uuid, shard->config.uuid, sizeof(footer->uuid)) == 0 &&
           footer->segment == shard->config.segment_first + index &&
           footer->shard == shard->config.shard && footer->entry_count <= shard->segment_slots &&
           recovery_place_ok(shard, footer->session, footer->generation, footer->ring_sequence) &&
           recovery_lsn_ok(shard, footer->durable_lsn) &&
           recovery_lsn_ok(shard, footer->watermark) && recovery_lsn_ok(shard, footer->lsn_last) &&
           (recovery_crc_ok(footer, sizeof(*footer) + footer->entry_count * sizeof(struct entry),
                            &footer->crc) ||
            MUTANT(208));
}

/* An entry that can be believed as far as its form goes, of a volume that is still there. */
bool recovery_entry_ok(struct shard *shard, const struct entry *entry)
{
    const struct shard_volume *volume = shard_volume(shard, entry->volume);

    if (!volume || entry->lsn <= volume->policy.floor_lsn || !recovery_lsn_ok(shard, entry->lsn) ||
        entry->block >= VOLUME_BLOCKS_MAX || entry->count > VOLUME_BLOCKS_MAX - entry->block)
        return false;
    if (entry->kind == ENTRY_ABSENT)
        return true;
    return (entry->kind == ENTRY_DIRTY || entry->kind == ENTRY_CLEAN ||
            entry->kind == ENTRY_ZERO) &&
           entry->slot >= SEGMENT_HEADER_SLOTS && entry->slot < shard->usable_end;
}

/* ---- metadata --------------------------------------------------------------------------- */

void recovery_marks_note(struct shard *shard, uint64_t watermark, uint64_t durable_lsn)
{
    struct recovery *recovery = &shard->recovery;

    if (watermark > recovery->watermark)
        recovery->watermark = watermark;
    if (durable_lsn > recovery->durable_lsn)
        recovery->durable_lsn = durable_lsn;
}

static uint16_t entry_bits(const struct entry *entry)
{
    uint16_t bits = 0;

    if (entry->kind == ENTRY_DIRTY || entry->kind == ENTRY_ZERO)
        bits |= SLOT_DIRTY;
    if (entry->kind == ENTRY_ZERO)
        bits |= SLOT_ZERO;
    if (entry->kind == ENTRY_ZERO && entry->flags & ENTRY_HOLE)
        bits |= SLOT_HOLE;
    if (entry->flags & ENTRY_POISON)
        bits |= SLOT_BAD | SLOT_ZERO; /* whatever its data are */
    return bits;
}

/* Does this entry of the segment still count?  A segment that was kept stands behind records that
 * are newer than its own: the map tells which of its records were current, and an `absent` has
 * nothing left to hide, because the hand has passed everything older. */
bool recovery_entry_live(const struct segment_header *header, const struct entry *entry)
{
    if (!header || !(header->map_valid & MAP_VALID))
        return true;
    if (entry->kind == ENTRY_ABSENT)
        return MUTANT(23);
    return header->map[entry->slot / 8] >> entry->slot % 8 & 1;
}

/* Puts a footer's entries into slots[], to be linked when the ring order is known.  A slot of an
 * entry that counts has SLOT_PENDING until then. */
static void footer_stash(struct shard *shard, uint32_t index, const struct segment_footer *footer,
                         const struct segment_header *header)
{
    struct segment *segment = &shard->segments[index];

    segment->lsn_first = UINT64_MAX;
    segment->lsn_last = 0;
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        const struct entry *entry = &footer->entries[i];
        struct slot *slot;

        if (!recovery_entry_ok(shard, entry))
            continue;
        if (!recovery_entry_live(header, entry))
            continue;
        if (entry->kind == ENTRY_ABSENT) {
            segment->found |= FOUND_REPLAY;
            continue;
        }
        slot = &shard->slots[(index << shard->segment_shift) + entry->slot];
        slot_key_set(slot, key_of(entry->volume, entry->block));
        slot->crc = entry->crc;
        slot->bits = entry_bits(entry) | SLOT_PENDING;
        if (!(slot->bits & SLOT_DIRTY))
            continue;
        if (entry->lsn < segment->lsn_first)
            segment->lsn_first = entry->lsn;
        if (entry->lsn > segment->lsn_last)
            segment->lsn_last = entry->lsn;
    }
}

static void headers_digest(struct shard *shard, struct recovery_area *area)
{
    uint32_t index = area->segment;
    struct segment *segment = &shard->segments[index];
    struct segment_header *a = (void *)area->headers, *b = a + 1, *best = NULL;
    struct segment_footer *footer = (void *)area->footer;
    bool a_ok = header_ok(shard, a, index), b_ok = header_ok(shard, b, index);

    if (a_ok && b_ok)
        best = b->generation > a->generation ||
                       (b->generation == a->generation && b->map_sequence > a->map_sequence)
                   ? b
                   : a;
    else if (a_ok || b_ok)
        best = a_ok ? a : b;
    if (!a_ok || !b_ok || a->generation != b->generation || a->map_sequence != b->map_sequence)
        segment->found |= FOUND_REPAIR;
    if (best) {
        segment->generation = best->generation;
        segment->ring_sequence = best->ring_sequence;
        segment->map_sequence = best->map_sequence;
        if (best->map_valid & MAP_VALID)
            segment->found |= FOUND_MAP;
        segment->verdict = best->map_valid & MAP_VERDICT;
    }
    if (footer_ok(shard, footer, index) && footer->generation >= segment->generation) {
        bool lost = !best || footer->generation > best->generation;

        recovery_marks_note(shard, footer->watermark, footer->durable_lsn);
        if (lost) { /* there may be batches of a later generation still */
            recovery_generation_found(shard, index, footer->generation, footer->ring_sequence);
            segment->found |= FOUND_FOOTER | FOUND_REPLAY | FOUND_SCAN;
            return;
        }
        segment->found |= FOUND_FOOTER;
        if (segment->ring_sequence == 0)
            segment->ring_sequence = footer->ring_sequence;
        footer_stash(shard, index, footer, best);
        segment->state = SEGMENT_CLOSED;
    } else if (best) {
        segment->found |= FOUND_SCAN;
        if (segment->verdict)
            segment->found |= FOUND_LOST | FOUND_VERDICT;
    } else if (recovery_is_trace(shard, a) || recovery_is_trace(shard, b) ||
               recovery_is_trace(shard, footer)) {
        segment->found = FOUND_LOST | FOUND_SCAN;
        /* The first header is written to A, then to B: a power cut can have torn only one. */
        if (recovery_is_trace(shard, a) && recovery_is_trace(shard, b))
            segment->found |= FOUND_REPAIR;
    } else {
        segment->found = 0; /* never used */
    }
}

static void metadata_issue(struct shard *shard, struct recovery_area *area, struct actions *out)
{
    area->pending = 3;
    area->failed = false;
    area->headers_lost = 0;
    recovery_read(shard, area->segment, 0, 1, area->headers, area, out);
    recovery_read(shard, area->segment, 1, 1, area->headers + BLOCK_BYTES, area, out);
    recovery_read(shard, area->segment, shard->usable_end, shard->footer_slots, area->footer, area,
                  out);
}

static void metadata_next(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    for (uint32_t i = 0; i < recovery->area_count && recovery->next < shard->config.segments; i++) {
        struct recovery_area *area = &recovery->areas[i];

        if (area->segment != NONE)
            continue;
        while (recovery->next < shard->config.segments &&
               shard->segments[recovery->next].state == SEGMENT_RETIRED)
            recovery->next++;
        if (recovery->next == shard->config.segments)
            break;
        area->segment = recovery->next++;
        area->attempts = 0;
        recovery->areas_busy++;
        metadata_issue(shard, area, out);
    }
    if (recovery->areas_busy > 0)
        return;
    recovery->state = RECOVERY_SURVEY;
    recovery->next = 0;
    recovery->scan_segment = NONE;
    recovery_tick(shard, out);
}

static void metadata_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    struct recovery_area *area = event->action->owner;

    if (event->result < 0) { /* as if its checksum were wrong */
        memset(event->action->data, 0, event->action->length);
        area->failed = true;
        area->headers_lost += event->action->data != area->footer;
    }
    if (--area->pending > 0)
        return;
    if (area->failed && ++area->attempts < ATTEMPTS_MAX) {
        metadata_issue(shard, area, out);
        return;
    }
    if (area->headers_lost == SEGMENT_HEADER_SLOTS) {
        /* It may hide the newest version of a block: better not to serve at all than to serve an
         * older one (I24). */
        recovery_fail(shard, -EIO);
        return;
    }
    headers_digest(shard, area);
    area->segment = NONE;
    recovery->areas_busy--;
    metadata_next(shard, out);
}

/* ---- survey ------------------------------------------------------------------------------ */

static void survey_next(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    for (; recovery->next < shard->config.segments; recovery->next++) {
        struct segment *segment = &shard->segments[recovery->next];

        if (segment->state == SEGMENT_RETIRED || segment->state == SEGMENT_CLOSED)
            continue;
        if (segment->found & FOUND_SCAN) {
            recovery_scan_start(shard, recovery->next, false, out);
            return;
        }
    }
    recovery->order_count = 0;
    for (uint32_t i = 0; i < shard->config.segments; i++) {
        const struct segment *segment = &shard->segments[i];

        if (segment->found & (FOUND_FOOTER | FOUND_SCAN))
            shard->order[recovery->order_count++] =
                (struct window_item){.key = segment->ring_sequence, .slot = i};
    }
    window_sort(shard->order, recovery->order_count);
    recovery->state = RECOVERY_REPLAY;
    recovery->next = 0;
    recovery_tick(shard, out);
}

static void survey_done(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    struct segment *segment = &shard->segments[recovery->scan_segment];

    if (segment->found & FOUND_LOST && segment->generation == 0) {
        if (segment->found & FOUND_REPAIR)
            recovery_lost_note(shard, recovery->scan_segment);
        segment->found = 0;
    } else if (segment->found & FOUND_FOOTER) {
        segment->found &= (uint8_t)~FOUND_SCAN;
        segment->state = SEGMENT_CLOSED;
    } else if (!recovery->scan_any) {
        segment->found &= (uint8_t)~FOUND_SCAN; /* bumped and not used: free */
        if (segment->found & FOUND_VERDICT)
            recovery_lost_note(shard, recovery->scan_segment);
    }
    recovery->next = recovery->scan_segment + 1;
    survey_next(shard, out);
}

/* ---- replay ----------------------------------------------------------------------------- */

/* The list in the state directory names what counts: newer records were under way when the flash
 * failed, and their writes went to the backing store or were answered with an error. */
static bool keeps_versions(const struct shard *shard, uint64_t key)
{
    const struct shard_volume *volume = shard_volume(shard, key_volume(key));

    return volume && volume->policy.returns;
}

static void replay_next(struct shard *shard, struct actions *out);

static void absent_replay(struct shard *shard, const struct entry *entry)
{
    uint64_t key = key_of(entry->volume, entry->block);

    if (keeps_versions(shard, key) || MUTANT(110))
        return;
    if (entry->count <= shard->slot_count) {
        for (uint32_t i = 0; i < (MUTANT(10) ? 1 : entry->count); i++) {
            uint32_t id = index_flash(shard, key + i);

            if (id != NONE)
                index_drop(shard, id);
        }
        return;
    }
    for (uint32_t id = 0; id < shard->slot_count; id++)
        if (shard->slots[id].bits & SLOT_LINKED && slot_key(&shard->slots[id]) - key < entry->count)
            index_drop(shard, id);
}

/* Links a slot whose key, CRC and kind bits are set; the block's earlier record loses. */
static void slot_replay(struct shard *shard, uint32_t id, bool dirty)
{
    struct slot *slot = &shard->slots[id];
    uint64_t key = slot_key(slot);
    uint32_t older = index_flash(shard, key);

    if (older != NONE && !keeps_versions(shard, key))
        index_drop(shard, older);
    slot->bits &= (uint16_t) ~(SLOT_PENDING | SLOT_DIRTY);
    index_insert(shard, id, key);
    slot_segment(shard, id)->live++;
    shard->live_blocks++;
    share_add(shard, id);
    shard->recovery_entries++;
    if (dirty) {
        slot_dirty(shard, id);
        epoch_recovered(shard, id);
    }
}

void recovery_entry_replay(struct shard *shard, uint32_t index, const struct entry *entry)
{
    struct segment *segment = &shard->segments[index];
    uint32_t id;
    struct slot *slot;
    bool dirty;

    if (entry->kind == ENTRY_ABSENT) {
        absent_replay(shard, entry);
        return;
    }
    id = (index << shard->segment_shift) + entry->slot;
    slot = &shard->slots[id];
    if (slot->bits & SLOT_LINKED)
        return;
    slot_key_set(slot, key_of(entry->volume, entry->block));
    slot->crc = entry->crc;
    slot->bits = entry_bits(entry);
    dirty = slot->bits & SLOT_DIRTY && entry->lsn > shard->recovery.watermark;
    slot_replay(shard, id, dirty);
    if (dirty && (segment->lsn_first == 0 || entry->lsn < segment->lsn_first))
        segment->lsn_first = entry->lsn;
}

/* The stash of a segment whose entries are all on one side of the watermark. */
static void stash_replay(struct shard *shard, uint32_t index)
{
    struct segment *segment = &shard->segments[index];
    uint32_t base = index << shard->segment_shift;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        struct slot *slot = &shard->slots[base + i];

        if (slot->bits & SLOT_PENDING)
            slot_replay(shard, base + i,
                        slot->bits & SLOT_DIRTY && segment->lsn_first > shard->recovery.watermark);
    }
}

static void stash_forget(struct shard *shard, uint32_t index)
{
    uint32_t base = index << shard->segment_shift;

    for (uint32_t i = 0; i < shard->segment_slots; i++)
        shard->slots[base + i].bits = 0;
}

/* The copy in areas[0] that holds for this segment; NULL: none. */
struct segment_header *recovery_header_best(struct shard *shard, uint32_t index)
{
    struct segment_header *copy = (void *)shard->recovery.areas[0].headers;
    const struct segment *segment = &shard->segments[index];

    for (unsigned i = 0; i < 2; i++, copy++)
        if (header_ok(shard, copy, index) && copy->generation == segment->generation &&
            copy->map_sequence == segment->map_sequence)
            return copy;
    return NULL;
}

/* The footer that will list what a replay of this segment accepts. */
void recovery_footer_begin(struct shard *shard, uint32_t index, uint64_t lsn_last)
{
    shard->footers[0].segment = index;
    shard->footers[0].footer->entry_count = 0;
    shard->footers[0].footer->lsn_last = lsn_last;
}

/* The scan or the footer of a replayed segment is through: close it with what was accepted. */
static void replay_close(struct shard *shard, uint32_t index, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    shard->durable_lsn = recovery->durable_lsn;
    shard->watermark = recovery->watermark;
    shard->segments[index].state = SEGMENT_CLOSED;
    if (MUTANT(12)) {
        recovery->next++;
        replay_next(shard, out);
        return;
    }
    log_footer_write(shard, &shard->footers[0], out);
    out->list[out->count - 1].first = TAG_RECOVERY;
    /* The header that says that this footer counts must not be there without it. */
    if (shard->segments[index].found & FOUND_LOST && shard->config.flash_volatile)
        out->list[out->count - 1].flags |= ACTION_FUA;
}

/* The footer of a segment without a header: see recover-lost.c. */
static void lost_footer_replay(struct shard *shard, uint32_t index, struct actions *out)
{
    const struct segment_footer *footer = (const void *)shard->recovery.areas[0].footer;
    struct segment_footer *verdict = shard->footers[0].footer;

    recovery_footer_begin(shard, index, footer->lsn_last);
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        struct entry entry = footer->entries[i];

        if (!recovery_entry_ok(shard, &entry))
            continue;
        recovery_lost_entry(shard, index, &entry);
        verdict->entries[verdict->entry_count++] = entry;
        recovery_entry_replay(shard, index, &entry);
    }
    replay_close(shard, index, out);
}

static void footer_replay(struct shard *shard, uint32_t index)
{
    const struct segment_footer *footer = (const void *)shard->recovery.areas[0].footer;
    const struct segment_header *best = recovery_header_best(shard, index);
    struct segment *segment = &shard->segments[index];

    stash_forget(shard, index);
    segment->lsn_first = 0;
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        const struct entry *entry = &footer->entries[i];

        if (recovery_entry_ok(shard, entry) && recovery_entry_live(best, entry))
            recovery_entry_replay(shard, index, entry);
    }
}

static bool straddles(const struct shard *shard, const struct segment *segment)
{
    return segment->lsn_last > shard->recovery.watermark &&
           segment->lsn_first <= shard->recovery.watermark;
}

static void replay_next(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    uint32_t budget = 256;

    recovery->state = RECOVERY_REPLAY;
    while (recovery->next < recovery->order_count) {
        uint32_t index = shard->order[recovery->next].slot;
        struct segment *segment = &shard->segments[index];

        if (budget-- == 0) {
            out->again = true;
            tick_want(shard, shard->now_ns);
            return;
        }
        recovery->map = NULL;
        if (recovery->next + 1 == recovery->order_count &&
            !(segment->found & FOUND_VERDICT)) /* the newest one: see recover-lost.c */
            segment->found &= (uint8_t)~FOUND_LOST;
        if ((segment->found & (FOUND_SCAN | FOUND_MAP)) == (FOUND_SCAN | FOUND_MAP) ||
            (segment->found & FOUND_FOOTER &&
             (segment->found & FOUND_REPLAY || straddles(shard, segment)))) {
            segment->lsn_first = 0;
            recovery->state = RECOVERY_REPLAY_IO;
            recovery->areas[0].segment = index;
            recovery->areas[0].attempts = 0;
            metadata_issue(shard, &recovery->areas[0], out);
            return;
        }
        if (segment->found & FOUND_SCAN) {
            segment->lsn_first = 0;
            recovery->state = RECOVERY_REPLAY_IO;
            recovery_scan_start(shard, index, true, out);
            return;
        }
        stash_replay(shard, index);
        recovery->next++;
    }
    recovery->state = RECOVERY_REPAIR;
    recovery->next = 0;
    recovery_tick(shard, out);
}

static void replay_footer_read(struct shard *shard, const struct event *event, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    struct recovery_area *area = &recovery->areas[0];
    struct segment_footer *footer = (void *)area->footer;

    if (event->result < 0) {
        memset(event->action->data, 0, event->action->length);
        area->failed = true;
    }
    if (--area->pending > 0)
        return;
    if (shard->segments[area->segment].found & FOUND_SCAN &&
        recovery_header_best(shard, area->segment)) {
        uint32_t index = area->segment;

        /* The scratch memory is about to be overwritten.  Without its map dead records would be
         * taken for live ones. */
        *shard->reclaim.header.header = *recovery_header_best(shard, index);
        recovery->map = shard->reclaim.header.header;
        area->segment = NONE;
        recovery_scan_start(shard, index, true, out);
        return;
    }
    if (shard->segments[area->segment].found & FOUND_SCAN ||
        !footer_ok(shard, footer, area->segment) ||
        (shard->segments[area->segment].found & FOUND_MAP &&
         !recovery_header_best(shard, area->segment))) {
        if (++area->attempts >= ATTEMPTS_MAX)
            recovery_fail(shard, -EIO);
        else
            metadata_issue(shard, area, out);
        return;
    }
    if (shard->segments[area->segment].found & FOUND_LOST) {
        uint32_t index = area->segment;

        area->segment = NONE;
        lost_footer_replay(shard, index, out);
        return;
    }
    footer_replay(shard, area->segment);
    area->segment = NONE;
    recovery->next++;
    replay_next(shard, out);
}

/* ---- events ------------------------------------------------------------------------------ */

void recovery_tick(struct shard *shard, struct actions *out)
{
    switch (shard->recovery.state) {
    case RECOVERY_METADATA:
        if (shard->recovery.areas_busy == 0)
            metadata_next(shard, out);
        break;
    case RECOVERY_SURVEY:
        if (shard->recovery.scan_segment == NONE)
            survey_next(shard, out);
        break;
    case RECOVERY_REPLAY: replay_next(shard, out); break;
    case RECOVERY_REPAIR: recovery_repair_next(shard, out); break;
    default: break;
    }
}

static void scan_read_done(struct shard *shard, const struct event *event, struct actions *out)
{
    if (!recovery_scan_done(shard, event, out))
        return;
    if (shard->recovery.replaying)
        replay_close(shard, shard->recovery.scan_segment, out);
    else
        survey_done(shard, out);
}

void recovery_io_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    if (shard->failed)
        return;
    switch (recovery->state) {
    case RECOVERY_METADATA: metadata_done(shard, event, out); break;
    case RECOVERY_SURVEY: scan_read_done(shard, event, out); break;
    case RECOVERY_REPLAY_IO:
        if (event->action->kind == ACTION_WRITE_FLASH) {
            /* Without its footer the segment could be judged differently next time. */
            if (event->result < 0) {
                recovery_fail(shard, event->result);
                return;
            }
            recovery->next++;
            replay_next(shard, out);
        } else if (event->action->owner) {
            replay_footer_read(shard, event, out);
        } else {
            scan_read_done(shard, event, out);
        }
        break;
    case RECOVERY_REPAIR_IO: recovery_repair_done(shard, event, out); break;
    case RECOVERY_FLUSH:
        if (event->result < 0)
            recovery_fail(shard, event->result);
        else
            recovery_finish(shard, out);
        break;
    default: break;
    }
}
