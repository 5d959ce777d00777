/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verifies a flash image.
 *
 * What counts as durable: every batch header, footer and the superblock carry a mark, "of this
 * shard and session, all up to this LSN is durable" (I18).  A mark may come later in the image than
 * the record that it covers, so doubts are collected and judged in the end.
 */
#include "daemon/image-check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nothing newer in its segment says when it was durable. */
#define LSN_UNKNOWN UINT64_MAX

struct mark {
    uint16_t shard;
    uint64_t session, durable_lsn, newest_lsn;
};

/* Something that is wrong if a mark covers `lsn`, or else was cut off by a crash. */
struct doubt {
    struct image_problem problem;
    uint16_t shard;
    bool needs_footer; /* judged by sessions instead */
    bool absent;       /* there is no trace of it: nothing to be counted as unfinished */
    bool by_mark;      /* also after a clean stop */
    uint64_t session, lsn;
};

struct found {
    uint32_t slot;
    enum image_part_state state;
    const struct batch_header *header;
    uint64_t lsn; /* the first one that was new at or after this batch */
};

struct work {
    struct image_check *check;
    bool clean;
    struct mark *marks;
    size_t mark_count, mark_room, mark_last;
    struct doubt *doubts;
    size_t doubt_count, doubt_room;
    struct found *found; /* the batches of one segment */
    uint32_t found_count;
    unsigned char *covered; /* by slot of one segment: belongs to a valid batch */
    int error;
};

static uint64_t lsn_session(uint64_t lsn)
{
    return lsn >> LSN_SESSION_SHIFT;
}

/* ---- reporting ------------------------------------------------------------------------------ */

static void problem_tell(struct work *work, const struct image_problem *problem)
{
    work->check->counts.problems++;
    work->check->problem(work->check, problem);
}

static struct image_problem problem_at(const struct image_segment *segment, uint32_t slot,
                                       const char *what)
{
    uint64_t within = slot == IMAGE_NOWHERE ? 0 : (uint64_t)slot * BLOCK_BYTES;

    return (struct image_problem){segment->number, slot, segment->offset + within, what};
}

static void wrong(struct work *work, const struct image_segment *segment, uint32_t slot,
                  const char *what)
{
    struct image_problem problem = problem_at(segment, slot, what);

    problem_tell(work, &problem);
}

/* Room for one more element; NULL when memory is short, which ends the check. */
static void *one_more(struct work *work, void *array, size_t *room, size_t count, size_t bytes)
{
    void *larger;

    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 64;
    larger = realloc(array, *room * bytes);
    if (larger == NULL)
        work->error = -ENOMEM;
    return larger;
}

static void doubt_add(struct work *work, const struct doubt *doubt)
{
    struct doubt *doubts =
        one_more(work, work->doubts, &work->doubt_room, work->doubt_count, sizeof(*doubts));

    if (doubts == NULL)
        return;
    work->doubts = doubts;
    doubts[work->doubt_count++] = *doubt;
}

static void doubtful(struct work *work, const struct image_segment *segment, uint32_t slot,
                     uint64_t session, uint64_t lsn, const char *what)
{
    doubt_add(work, &(struct doubt){.problem = problem_at(segment, slot, what),
                                    .shard = segment->shard,
                                    .session = session,
                                    .lsn = lsn});
}

/* ---- marks ---------------------------------------------------------------------------------- */

static struct mark *mark_of(struct work *work, uint16_t shard, uint64_t session)
{
    struct mark *marks = work->marks;

    /* Neighbours on flash are mostly of one shard and session. */
    for (size_t n = 0; n < work->mark_count; n++) {
        size_t i = (work->mark_last + n) % work->mark_count;

        if (marks[i].shard == shard && marks[i].session == session) {
            work->mark_last = i;
            return &marks[i];
        }
    }
    marks = one_more(work, work->marks, &work->mark_room, work->mark_count, sizeof(*marks));
    if (marks == NULL)
        return NULL;
    work->marks = marks;
    marks[work->mark_count] = (struct mark){.shard = shard, .session = session};
    return &marks[work->mark_count++];
}

static void mark_note(struct work *work, uint16_t shard, uint64_t durable_lsn)
{
    struct mark *mark = mark_of(work, shard, lsn_session(durable_lsn));

    if (mark != NULL && durable_lsn > mark->durable_lsn)
        mark->durable_lsn = durable_lsn;
}

static void newest_note(struct work *work, uint16_t shard, uint64_t lsn)
{
    struct mark *mark = lsn != 0 ? mark_of(work, shard, lsn_session(lsn)) : NULL;

    if (mark != NULL && lsn > mark->newest_lsn)
        mark->newest_lsn = lsn;
}

static void entries_note(struct work *work, uint16_t shard, const struct entry *entries,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        newest_note(work, shard, entries[i].lsn);
}

static uint64_t durable_mark(const struct work *work, uint16_t shard, uint64_t session)
{
    for (size_t i = 0; i < work->mark_count; i++) {
        if (work->marks[i].shard == shard && work->marks[i].session == session)
            return work->marks[i].durable_lsn;
    }
    return 0;
}

/* The latest session that recorded something in this shard: it began after the recovery of all
 * earlier ones was complete. */
static uint64_t newest_session(const struct work *work, uint16_t shard)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < work->mark_count; i++) {
        if (work->marks[i].shard == shard && work->marks[i].newest_lsn != 0 &&
            work->marks[i].session > newest)
            newest = work->marks[i].session;
    }
    return newest;
}

/* ---- data ----------------------------------------------------------------------------------- */

/* Whether the data of an entry matches; counts it. */
static bool data_is_right(struct work *work, const struct image_segment *segment,
                          const struct entry *entry)
{
    work->check->counts.entries++;
    if (entry->flags & ENTRY_POISON)
        work->check->counts.poisoned++;
    if (!entry_has_data(entry))
        return true;
    work->check->counts.data_blocks++;
    return image_slot_matches(segment, entry);
}

/* ---- batches of one segment ------------------------------------------------------------------ */

/* The smallest LSN of an entry that was not reinserted, or LSN_UNKNOWN. */
static uint64_t first_new_lsn(const struct entry *entries, uint32_t count, uint64_t session)
{
    uint64_t first = LSN_UNKNOWN;

    for (uint32_t i = 0; i < count; i++) {
        if (lsn_session(entries[i].lsn) == session && entries[i].lsn < first)
            first = entries[i].lsn;
    }
    return first;
}

/* Finds the batches, and for each the LSN that decides whether it was durable: the log is durable
 * in order of LSNs, and within a segment batches are in that order, too. */
static void batches_find(struct work *work, const struct image_segment *segment)
{
    uint64_t next = LSN_UNKNOWN;

    work->found_count = 0;
    memset(work->covered, 0, segment->slots);
    for (uint32_t slot = SEGMENT_HEADER_SLOTS; slot < segment->usable;) {
        struct found *found = &work->found[work->found_count];

        found->slot = slot;
        found->state = image_batch_at(segment, slot, &found->header);
        if (found->state != PART_NONE)
            work->found_count++;
        if (found->state == PART_VALID) {
            memset(work->covered + slot, 1, 1 + found->header->slot_count);
            slot += found->header->slot_count;
        }
        slot++;
    }
    for (uint32_t i = work->found_count; i-- > 0;) {
        struct found *found = &work->found[i];
        uint64_t own = LSN_UNKNOWN;

        if (found->state == PART_VALID)
            own = first_new_lsn(found->header->entries, found->header->entry_count,
                                found->header->session);
        if (own != LSN_UNKNOWN)
            next = own;
        found->lsn = next;
    }
}

static int found_compare(const void *key, const void *element)
{
    uint32_t slot = *(const uint32_t *)key, other = ((const struct found *)element)->slot;

    return slot < other ? -1 : slot > other;
}

static const struct found *batch_find(const struct work *work, uint32_t slot)
{
    return bsearch(&slot, work->found, work->found_count, sizeof(*work->found), found_compare);
}

/* A batch repeats the entries of the one before it, which therefore must be there. */
static void echo_check(struct work *work, const struct image_segment *segment,
                       const struct found *found)
{
    const struct batch_header *header = found->header;
    const struct found *before = NULL;
    uint64_t lsn;

    if (header->echo_count == 0)
        return;
    before = batch_find(work, header->echo_slot);
    if (before != NULL && before->state == PART_DAMAGED)
        return; /* told by itself */
    if (before != NULL && before->header->entry_count == header->echo_count &&
        memcmp(before->header->entries, header->echo, header->echo_count * sizeof(struct entry)) ==
            0)
        return;
    lsn = first_new_lsn(header->echo, header->echo_count, header->session);
    doubtful(work, segment, header->echo_slot < segment->slots ? header->echo_slot : found->slot,
             header->session, lsn != LSN_UNKNOWN ? lsn : found->lsn, "a batch header is missing");
}

static void batches_note(struct work *work, const struct image_segment *segment)
{
    for (uint32_t i = 0; i < work->found_count; i++) {
        const struct found *found = &work->found[i];

        if (found->state != PART_VALID)
            continue;
        work->check->counts.batches++;
        mark_note(work, segment->shard, found->header->durable_lsn);
        newest_note(work, segment->shard, found->header->lsn);
        entries_note(work, segment->shard, found->header->entries, found->header->entry_count);
    }
}

/* ---- segments ------------------------------------------------------------------------------- */

/* A segment that was being written: its batches are all there is. */
static void open_segment_check(struct work *work, const struct image_segment *segment)
{
    uint64_t session = 0;

    for (uint32_t i = 0; i < work->found_count; i++) {
        const struct found *found = &work->found[i];
        const struct batch_header *header = found->header;

        if (found->state == PART_DAMAGED) {
            uint64_t lsn = found->lsn;

            /* Nothing behind it tells, so its own words, of which one may be wrong, must do. */
            if (lsn == LSN_UNKNOWN && header->entry_count <= BATCH_ENTRIES_MAX)
                lsn = first_new_lsn(header->entries, header->entry_count, header->session);
            doubtful(work, segment, found->slot, header->session, lsn, "a batch header is damaged");
            continue;
        }
        session = header->session;
        echo_check(work, segment, found);
        for (uint32_t j = 0; j < header->entry_count; j++) {
            if (!data_is_right(work, segment, &header->entries[j]))
                doubtful(work, segment, header->entries[j].slot, header->session, found->lsn,
                         "a data block does not match its checksum");
        }
    }
    if (session == 0) {
        work->check->counts.empty++;
        return;
    }
    work->check->counts.open++;
    doubt_add(work, &(struct doubt){.problem = problem_at(segment, segment->usable,
                                                          "the footer is missing or damaged"),
                                    .shard = segment->shard,
                                    .needs_footer = true,
                                    .absent = segment->footer_state == PART_NONE,
                                    .session = session});
}

/* The session that appended to the segment: recovery of a later one may have written the footer. */
static uint64_t footer_appended_in(const struct segment_footer *footer)
{
    uint64_t session = 0;

    for (uint32_t i = 0; i < footer->entry_count; i++) {
        if (lsn_session(footer->entries[i].lsn) > session)
            session = lsn_session(footer->entries[i].lsn);
    }
    return session;
}

/* A footer vouches for every record in it.  One that recovery wrote may hold records whose batch
 * header was torn, which it had found in the echo. */
static void closed_segment_check(struct work *work, const struct image_segment *segment)
{
    static const char no_header[] = "the batch header before this block is missing or damaged";
    const struct segment_footer *footer = segment->footer;
    bool recovered = footer_appended_in(footer) != footer->session;
    bool told = false;

    work->check->counts.closed++;
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        const struct entry *entry = &footer->entries[i];
        bool covered = entry->slot >= segment->usable || work->covered[entry->slot];

        if (!data_is_right(work, segment, entry))
            wrong(work, segment, entry->slot, "a data block does not match its checksum");
        if (!covered && !told && recovered)
            doubt_add(work, &(struct doubt){.problem = problem_at(segment, entry->slot, no_header),
                                            .shard = segment->shard,
                                            .by_mark = true,
                                            .session = lsn_session(entry->lsn),
                                            .lsn = entry->lsn});
        else if (!covered && !told)
            wrong(work, segment, entry->slot, no_header);
        told = !covered; /* once for each batch */
    }
    mark_note(work, segment->shard, footer->durable_lsn);
    newest_note(work, segment->shard, footer->lsn_last);
    entries_note(work, segment->shard, footer->entries, footer->entry_count);
}

/* Copies are written one after the other, so a crash damages at most one; recovery repairs it where
 * the segment is in use. */
static void headers_check(struct work *work, const struct image_segment *segment, bool used)
{
    static const char *const whats[] = {"the first copy of the segment header is damaged",
                                        "the second copy of the segment header is damaged"};
    bool lost = segment->header == NULL && (used || (segment->header_states[0] == PART_DAMAGED &&
                                                     segment->header_states[1] == PART_DAMAGED));

    if (lost) {
        wrong(work, segment, 0, "both copies of the segment header are damaged or missing");
        return;
    }
    for (unsigned copy = 0; copy < SEGMENT_HEADER_SLOTS; copy++) {
        if (segment->header_states[copy] != PART_DAMAGED)
            continue;
        if (work->clean && used)
            wrong(work, segment, copy, whats[copy]);
        else
            work->check->counts.unfinished++;
    }
}

static void segment_check(struct work *work, const struct image_segment *segment)
{
    work->check->counts.segments++;
    if (segment->retired) {
        work->check->counts.retired++;
        return;
    }
    if (segment->generation == 0) {
        headers_check(work, segment, false);
        work->check->counts.empty++;
        return;
    }
    batches_find(work, segment);
    batches_note(work, segment);
    headers_check(work, segment, segment->footer_state == PART_VALID || work->found_count > 0);
    if (segment->footer_state == PART_VALID)
        closed_segment_check(work, segment);
    else
        open_segment_check(work, segment);
}

/* ---- the end -------------------------------------------------------------------------------- */

static bool doubt_is_problem(const struct work *work, const struct doubt *doubt)
{
    if (work->clean && !doubt->by_mark)
        return true;
    if (doubt->needs_footer)
        return newest_session(work, doubt->shard) > doubt->session;
    return doubt->lsn <= durable_mark(work, doubt->shard, doubt->session);
}

static void doubts_judge(struct work *work)
{
    for (size_t i = 0; i < work->doubt_count; i++) {
        if (doubt_is_problem(work, &work->doubts[i]))
            problem_tell(work, &work->doubts[i].problem);
        else if (!work->doubts[i].absent)
            work->check->counts.unfinished++;
    }
}

/* Of the present session nothing has been reclaimed that is newer than what is left. */
static void marks_judge(struct work *work)
{
    const struct superblock *sb = work->check->image->sb;
    uint64_t counted = (UINT64_C(1) << LSN_SESSION_SHIFT) - 1;

    for (size_t i = 0; i < work->mark_count; i++) {
        const struct mark *mark = &work->marks[i];
        struct image_problem problem = {
            .segment = mark->shard * sb->segments_per_shard,
            .slot = IMAGE_NOWHERE,
            .offset =
                image_segment_offset(work->check->image, mark->shard * sb->segments_per_shard),
            .what = "the newest durable records of the shard that begins here are missing",
        };

        if (mark->session == sb->session && mark->newest_lsn < mark->durable_lsn &&
            (mark->durable_lsn & counted) > 0)
            problem_tell(work, &problem);
    }
}

static void superblocks_check(struct work *work)
{
    const struct image *image = work->check->image;

    for (unsigned copy = 0; copy < 2; copy++) {
        struct image_problem problem = {IMAGE_NOWHERE, IMAGE_NOWHERE, image->copy_offsets[copy],
                                        image->copy_whys[copy]};

        if (image->copy_errors[copy])
            problem_tell(work, &problem);
    }
    for (uint32_t shard = 0; shard < image->sb->shard_count; shard++)
        mark_note(work, (uint16_t)shard, image->sb->shards[shard].durable_lsn);
}

static void work_free(struct work *work)
{
    free(work->marks);
    free(work->doubts);
    free(work->found);
    free(work->covered);
}

int image_check(struct image_check *check)
{
    uint32_t slots = (uint32_t)(check->image->sb->segment_bytes / BLOCK_BYTES);
    struct work work = {
        .check = check,
        .clean = (check->image->sb->flags & SUPERBLOCK_CLEAN) != 0,
        .found = calloc(slots, sizeof(*work.found)),
        .covered = calloc(slots, 1),
    };

    if (work.found == NULL || work.covered == NULL)
        work.error = -ENOMEM;
    if (!work.error)
        superblocks_check(&work);
    for (uint32_t i = 0; i < image_segments(check->image) && !work.error; i++) {
        struct image_segment segment;
        int error = image_segment_read(check->image, i, &segment);

        if (error)
            wrong(&work, &segment, IMAGE_NOWHERE, "the device fails to read it");
        else
            segment_check(&work, &segment);
        if (check->progress != NULL)
            check->progress(check, i + 1);
    }
    if (!work.error) {
        doubts_judge(&work);
        marks_judge(&work);
    }
    work_free(&work);
    return work.error;
}
