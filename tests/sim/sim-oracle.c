/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "tests/sim/sim-oracle-unit.h"

#define CROWDED_PAST   (UNIT_PAST_MAX / 2)
#define CROWDED_STATES (UNIT_STATES_MAX / 2)
#define CROWDED_WRITES 3u

struct volume {
    struct oracle_volume config;
    uint64_t unit_count;
    uint32_t unit_sectors;
    uint64_t flushed; /* when the last flush that ended was sent */
    uint32_t *ids;    /* plain contents: unit_sectors per unit */
    uint16_t *reads;  /* in flight, per unit */
    /* Per unit: it was once written in part over something unknown.  What came of that has no name,
     * may be on the backing store, and comes back whenever nothing is known any more. */
    bool *nameless;
    struct unit **units; /* NULL: plain */
    struct unit *first;
};

struct oracle {
    struct content *content;
    struct volume volumes[ORACLE_VOLUMES_MAX];
    uint32_t volume_count;
    uint64_t clock; /* orders begins and ends */
    uint32_t next_id;
    struct unit *free;
    struct unit_reach reach;
    struct oracle_stats stats;
    char why[1024];
};

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL)
        exit(2);
    return memory;
}

/* ---- units ------------------------------------------------------------------------------- */

static struct unit *unit_get(struct oracle *oracle, uint16_t number, uint64_t index)
{
    struct volume *volume = &oracle->volumes[number];
    struct unit *unit = volume->units[index];

    if (unit != NULL)
        return unit;
    unit = oracle->free;
    if (unit != NULL)
        oracle->free = unit->next;
    else
        unit = allocate(1, sizeof(*unit));
    memset(unit, 0, offsetof(struct unit, pending));
    unit->index = index;
    unit->volume = number;
    unit->first_sector = index * volume->unit_sectors;
    unit->sectors = (uint16_t)volume->unit_sectors;
    if (unit->first_sector + unit->sectors > volume->config.bytes / SECTOR_BYTES)
        unit->sectors = (uint16_t)(volume->config.bytes / SECTOR_BYTES - unit->first_sector);
    unit->reads = volume->reads[index];
    unit->state_count = 1;
    memset(&unit->states[0], 0, sizeof(unit->states[0]));
    memcpy(unit->states[0].ids, volume->ids + index * volume->unit_sectors,
           volume->unit_sectors * sizeof(uint32_t));
    unit->next = volume->first;
    if (volume->first != NULL)
        volume->first->prev = unit;
    volume->first = unit;
    volume->units[index] = unit;
    return unit;
}

/* Forgets what it can, and all of it when only one content is left. */
static void unit_settle(struct oracle *oracle, struct unit *unit)
{
    struct volume *volume = &oracle->volumes[unit->volume];

    unit_forget(unit, volume->flushed);
    if (!unit_is_plain(unit) || unit->reads > 0)
        return;
    memcpy(volume->ids + unit->index * volume->unit_sectors, unit->states[0].ids,
           volume->unit_sectors * sizeof(uint32_t));
    if (unit->prev != NULL)
        unit->prev->next = unit->next;
    else
        volume->first = unit->next;
    if (unit->next != NULL)
        unit->next->prev = unit->prev;
    volume->units[unit->index] = NULL;
    unit->next = oracle->free;
    oracle->free = unit;
}

struct span {
    uint64_t first, last; /* units */
};

static struct span span_of(const struct oracle *oracle, uint16_t number, uint64_t offset,
                           uint64_t length)
{
    const struct volume *volume = &oracle->volumes[number];
    uint64_t bytes = volume->unit_sectors * SECTOR_BYTES;

    assert(number < oracle->volume_count && length > 0);
    assert(offset + length <= volume->config.bytes);
    return (struct span){offset / bytes, (offset + length - 1) / bytes};
}

/* ---- life -------------------------------------------------------------------------------- */

struct oracle *oracle_create(void)
{
    struct oracle *oracle = allocate(1, sizeof(*oracle));

    oracle->content = content_create();
    return oracle;
}

static void volumes_free(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->volume_count; i++) {
        struct volume *volume = &oracle->volumes[i];

        while (volume->first != NULL) {
            struct unit *unit = volume->first;

            volume->first = unit->next;
            unit->next = oracle->free;
            oracle->free = unit;
        }
        free(volume->ids);
        free(volume->reads);
        free(volume->nameless);
        free(volume->units);
    }
    oracle->volume_count = 0;
}

void oracle_destroy(struct oracle *oracle)
{
    volumes_free(oracle);
    while (oracle->free != NULL) {
        struct unit *unit = oracle->free;

        oracle->free = unit->next;
        free(unit);
    }
    content_destroy(oracle->content);
    free(oracle);
}

void oracle_reset(struct oracle *oracle, const struct oracle_volume *volumes, uint32_t count)
{
    assert(count <= ORACLE_VOLUMES_MAX);
    volumes_free(oracle);
    content_reset(oracle->content);
    oracle->volume_count = count;
    oracle->clock = 0;
    oracle->next_id = 1;
    oracle->stats = (struct oracle_stats){0};
    for (uint32_t i = 0; i < count; i++) {
        struct volume *volume = &oracle->volumes[i];
        uint64_t sectors = volumes[i].bytes / SECTOR_BYTES;

        volume->config = volumes[i];
        volume->unit_sectors = volumes[i].atomic_blocks ? UNIT_SECTORS : 1;
        volume->unit_count = (sectors + volume->unit_sectors - 1) / volume->unit_sectors;
        volume->flushed = 0;
        volume->first = NULL;
        volume->ids = allocate(volume->unit_count * volume->unit_sectors, sizeof(uint32_t));
        volume->reads = allocate(volume->unit_count, sizeof(uint16_t));
        volume->nameless = allocate(volume->unit_count, sizeof(bool));
        volume->units = allocate(volume->unit_count, sizeof(struct unit *));
    }
}

struct content *oracle_content(struct oracle *oracle)
{
    return oracle->content;
}

const struct oracle_stats *oracle_stats(const struct oracle *oracle)
{
    return &oracle->stats;
}

const char *oracle_why(const struct oracle *oracle)
{
    return oracle->why;
}

/* ---- writes and flushes ------------------------------------------------------------------ */

/* Whole blocks are written even if less is asked for: where units are sectors, the others of the
 * block take part with nothing, because a crash may turn them to garbage, too. */
static struct span write_span(const struct oracle *oracle, const struct oracle_op *op)
{
    const struct volume *volume = &oracle->volumes[op->volume];
    uint64_t offset = op->offset / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t end = (op->offset + op->length + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;

    if (end > volume->config.bytes)
        end = volume->config.bytes;
    return span_of(oracle, op->volume, offset, end - offset);
}

/* Bytes [from, to) of [begin, end) that the write covers; equal: none. */
static void cover(const struct oracle_op *op, uint64_t begin, uint64_t end,
                  struct unit_pending *pending)
{
    uint64_t from = op->offset > begin ? op->offset : begin;
    uint64_t to = op->offset + op->length < end ? op->offset + op->length : end;

    pending->from = from < to ? (uint16_t)(from - begin) : 0;
    pending->to = from < to ? (uint16_t)(to - begin) : 0;
}

void oracle_write_begin(struct oracle *oracle, struct oracle_op *op)
{
    struct span span = write_span(oracle, op);
    uint64_t bytes = oracle->volumes[op->volume].unit_sectors * SECTOR_BYTES;

    op->begun = ++oracle->clock;
    op->id = op->zeros ? CONTENT_ZEROS : oracle->next_id++;
    for (uint64_t index = span.first; index <= span.last; index++) {
        struct unit_pending pending = {.begun = op->begun, .id = op->id, .fua = op->fua};
        struct unit *unit = unit_get(oracle, op->volume, index);

        cover(op, index * bytes, (index + 1) * bytes, &pending);
        unit_write_begin(unit, &pending);
        oracle->volumes[op->volume].nameless[index] |= unit->unknown && unit->garbage;
    }
}

void oracle_write_end(struct oracle *oracle, const struct oracle_op *op, int error)
{
    struct span span = write_span(oracle, op);
    uint64_t now = ++oracle->clock;

    for (uint64_t index = span.first; index <= span.last; index++) {
        struct unit *unit = unit_get(oracle, op->volume, index);

        if (!unit_write_end(oracle->content, unit, &oracle->reach, op->begun, error, now))
            oracle->stats.lost_track++;
        unit_settle(oracle, unit);
    }
}

void oracle_flush_begin(struct oracle *oracle, struct oracle_op *op)
{
    op->begun = ++oracle->clock;
}

static void durable_until(struct oracle *oracle, struct volume *volume, uint64_t begun)
{
    volume->flushed = begun;
    for (struct unit *unit = volume->first, *next; unit != NULL; unit = next) {
        next = unit->next;
        unit_settle(oracle, unit);
    }
}

void oracle_flush_end(struct oracle *oracle, const struct oracle_op *op, int error)
{
    struct volume *volume = &oracle->volumes[op->volume];

    if (error != 0 || op->begun <= volume->flushed)
        return;
    for (struct unit *unit = volume->first; unit != NULL; unit = unit->next)
        if (unit->discarded < op->begun)
            unit->discarded = 0;
    durable_until(oracle, volume, op->begun);
}

/* ---- reads ------------------------------------------------------------------------------- */

static void count_reads(struct oracle *oracle, const struct oracle_op *op, int change)
{
    struct volume *volume = &oracle->volumes[op->volume];
    uint64_t offset = op->offset / BLOCK_BYTES * BLOCK_BYTES; /* whole blocks are looked at */
    uint64_t end = (op->offset + op->length + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    struct span span;

    if (end > volume->config.bytes)
        end = volume->config.bytes;
    span = span_of(oracle, op->volume, offset, end - offset);
    for (uint64_t index = span.first; index <= span.last; index++) {
        struct unit *unit = volume->units[index];

        volume->reads[index] = (uint16_t)(volume->reads[index] + change);
        if (unit != NULL) {
            unit->reads = volume->reads[index];
            if (unit->reads == 0)
                unit_settle(oracle, unit);
        }
    }
}

void oracle_read_begin(struct oracle *oracle, struct oracle_op *op)
{
    op->begun = ++oracle->clock;
    count_reads(oracle, op, 1);
}

void oracle_read_end(struct oracle *oracle, const struct oracle_op *op)
{
    count_reads(oracle, op, -1);
}

/* One unit of a block as it was read; oracle->reach is what it may be. */
struct view {
    uint64_t index;
    uint32_t sectors; /* within the volume */
    uint32_t ids[UNIT_SECTORS];
};

static struct view view_of(struct oracle *oracle, uint16_t number, uint64_t block, uint32_t part,
                           const unsigned char *data)
{
    const struct volume *volume = &oracle->volumes[number];
    struct view view = {.index = block * (UNIT_SECTORS / volume->unit_sectors) + part};
    uint64_t sector = block * UNIT_SECTORS + part * volume->unit_sectors;
    uint64_t sectors = volume->config.bytes / SECTOR_BYTES;

    /* First, because it makes the literals of sectors that are written in part. */
    if (sector < sectors && volume->units[view.index] != NULL)
        unit_reach(oracle->content, volume->units[view.index], &oracle->reach);
    for (uint32_t i = 0; i < volume->unit_sectors; i++, sector++) {
        if (sector >= sectors)
            continue; /* stays zeros, as in the states */
        view.sectors++;
        view.ids[i] = content_decode(oracle->content, data + sector % UNIT_SECTORS * SECTOR_BYTES,
                                     number, sector);
    }
    return view;
}

static void why_add(struct oracle *oracle, size_t *used, const char *text)
{
    int n = snprintf(oracle->why + *used, sizeof(oracle->why) - *used, "%s", text);

    *used += n > 0 && *used + (size_t)n < sizeof(oracle->why) ? (size_t)n : 0;
}

static void why_ids(struct oracle *oracle, size_t *used, const char *what, const uint32_t *ids,
                    uint32_t sectors)
{
    char text[40];

    why_add(oracle, used, what);
    for (uint32_t i = 0; i < sectors; i++) {
        snprintf(text, sizeof(text), " %" PRIx32, ids[i]);
        why_add(oracle, used, text);
    }
}

/* "volume 1 block 7: read ids ...; may be ... or ..." with write ids in hex. */
static void explain(struct oracle *oracle, uint16_t number, uint64_t block, const struct view *view,
                    const unsigned char *data)
{
    const struct volume *volume = &oracle->volumes[number];
    uint32_t sectors = volume->unit_sectors;
    const struct unit *unit = volume->units[view->index];
    char text[400];
    size_t used = 0;

    snprintf(text, sizeof(text), "volume %u block %" PRIu64 " unit %" PRIu64 ":", number, block,
             view->index);
    why_add(oracle, &used, text);
    why_ids(oracle, &used, " read", view->ids, sectors);
    if (unit == NULL) {
        why_ids(oracle, &used, "; must be", volume->ids + view->index * sectors, sectors);
    } else {
        unit_reach(oracle->content, unit, &oracle->reach);
        for (uint32_t i = 0; i < oracle->reach.count && i < 6; i++)
            why_ids(oracle, &used, i == 0 ? "; may be" : " or", oracle->reach.states[i].ids,
                    sectors);
        for (uint32_t i = 0; i < unit->past_count && i < 4; i++)
            why_ids(oracle, &used, i == 0 ? "; history" : ",", unit->past[i].ids, sectors);
    }
    for (uint32_t i = 0; i < sectors; i++) {
        uint64_t sector = view->index * sectors + i;
        char found[300];

        if (view->ids[i] != CONTENT_FOREIGN || sector * SECTOR_BYTES >= volume->config.bytes)
            continue;
        content_describe(data + sector % UNIT_SECTORS * SECTOR_BYTES, number, sector, found,
                         sizeof(found));
        snprintf(text, sizeof(text), "; sector %" PRIu64 " holds %s", sector, found);
        why_add(oracle, &used, text);
    }
}

/* The ids of garbage that is legal from now on. */
static void keep_garbage(struct oracle *oracle, uint16_t number, struct view *view,
                         const unsigned char *data)
{
    uint32_t sectors = oracle->volumes[number].unit_sectors;

    for (uint32_t i = 0; i < view->sectors; i++) {
        uint64_t sector = view->index * sectors + i;

        if (view->ids[i] == CONTENT_FOREIGN)
            view->ids[i] = content_literal(
                oracle->content, data + sector % UNIT_SECTORS * SECTOR_BYTES, number, sector);
    }
}

static bool read_unit(struct oracle *oracle, const struct oracle_op *op, struct view *view,
                      const unsigned char *data)
{
    struct volume *volume = &oracle->volumes[op->volume];
    struct unit *unit = volume->units[view->index];

    if (unit == NULL)
        return memcmp(view->ids, volume->ids + view->index * volume->unit_sectors,
                      volume->unit_sectors * sizeof(uint32_t)) == 0;
    if (!unit_may_read(unit, &oracle->reach, view->ids, op->begun))
        return false;
    if (unit->pending_mask == 0 && unit->changed < op->begun &&
        (unit->unknown || unit->state_count > 1)) {
        keep_garbage(oracle, op->volume, view, data);
        unit_collapse(unit, view->ids, ++oracle->clock);
        unit_settle(oracle, unit);
    }
    return true;
}

bool oracle_read_block(struct oracle *oracle, const struct oracle_op *op, uint64_t block,
                       const unsigned char *data)
{
    uint32_t parts = UNIT_SECTORS / oracle->volumes[op->volume].unit_sectors;

    oracle->stats.blocks_checked++;
    for (uint32_t part = 0; part < parts; part++) {
        struct view view = view_of(oracle, op->volume, block, part, data);

        if (view.sectors > 0 && !read_unit(oracle, op, &view, data)) {
            explain(oracle, op->volume, block, &view, data);
            return false;
        }
    }
    return true;
}

static bool check_unit(struct oracle *oracle, uint16_t number, const struct view *view,
                       bool survives)
{
    struct volume *volume = &oracle->volumes[number];
    const struct unit *unit = volume->units[view->index];

    if (unit == NULL)
        return memcmp(view->ids, volume->ids + view->index * volume->unit_sectors,
                      volume->unit_sectors * sizeof(uint32_t)) == 0;
    return survives ? unit_may_survive(unit, &oracle->reach, view->ids, volume->flushed)
                    : unit_may_read(unit, &oracle->reach, view->ids, oracle->clock);
}

static bool check_block(struct oracle *oracle, uint16_t volume, uint64_t block,
                        const unsigned char *data, bool survives)
{
    uint32_t parts = UNIT_SECTORS / oracle->volumes[volume].unit_sectors;

    oracle->stats.blocks_checked++;
    for (uint32_t part = 0; part < parts; part++) {
        struct view view = view_of(oracle, volume, block, part, data);

        if (view.sectors > 0 && !check_unit(oracle, volume, &view, survives)) {
            explain(oracle, volume, block, &view, data);
            return false;
        }
    }
    return true;
}

bool oracle_matches(struct oracle *oracle, uint16_t volume, uint64_t block,
                    const unsigned char *data)
{
    return check_block(oracle, volume, block, data, false);
}

bool oracle_survives(struct oracle *oracle, uint16_t volume, uint64_t block,
                     const unsigned char *data)
{
    return check_block(oracle, volume, block, data, true);
}

/* ---- crashes ----------------------------------------------------------------------------- */

void oracle_crash(struct oracle *oracle, bool power, bool garbage)
{
    ++oracle->clock;
    for (uint32_t i = 0; i < oracle->volume_count; i++) {
        struct volume *volume = &oracle->volumes[i];

        for (struct unit *unit = volume->first, *next; unit != NULL; unit = next) {
            next = unit->next;
            if (power)
                unit_crash(oracle->content, unit, &oracle->reach, volume->flushed,
                           garbage && volume->unit_sectors == 1);
            else
                unit_kill(oracle->content, unit, &oracle->reach, oracle->clock);
            oracle->stats.ambiguous += unit->state_count > 1 || unit->unknown;
            unit_settle(oracle, unit);
        }
    }
}

void oracle_recovered(struct oracle *oracle)
{
    for (uint16_t i = 0; i < oracle->volume_count; i++) {
        struct volume *volume = &oracle->volumes[i];

        if (!volume->config.atomic_blocks)
            continue;
        for (struct unit *unit = volume->first; unit != NULL; unit = unit->next)
            unit_recovered(unit);
        durable_until(oracle, volume, ++oracle->clock);
    }
}

static void doubt(struct oracle *oracle, uint16_t number, uint64_t offset, uint64_t length,
                  bool garbage, int discards)
{
    struct span span = span_of(oracle, number, offset, length);

    ++oracle->clock;
    for (uint64_t index = span.first; index <= span.last; index++) {
        struct unit *unit = unit_get(oracle, number, index);

        /* Neither a read nor a write that is under way tells what is there afterwards. */
        unit_doubt(unit,
                   garbage || unit->pending_mask != 0 || oracle->volumes[number].nameless[index]);
        unit->changed = unit->ended = oracle->clock;
        unit->discards += (uint32_t)discards;
        if (discards < 0)
            unit->discarded = oracle->clock;
    }
}

void oracle_doubt(struct oracle *oracle, uint16_t number, uint64_t offset, uint64_t length,
                  bool garbage)
{
    doubt(oracle, number, offset, length, garbage, 0);
}

void oracle_lose(struct oracle *oracle, uint16_t number, uint64_t offset, uint64_t length,
                 bool garbage)
{
    struct span span = span_of(oracle, number, offset, length);

    doubt(oracle, number, offset, length, garbage, 0);
    for (uint64_t index = span.first; index <= span.last; index++)
        unit_lose(unit_get(oracle, number, index));
}

void oracle_discard_begin(struct oracle *oracle, const struct oracle_op *op, bool garbage)
{
    doubt(oracle, op->volume, op->offset, op->length, garbage, 1);
}

void oracle_discard_end(struct oracle *oracle, const struct oracle_op *op)
{
    doubt(oracle, op->volume, op->offset, op->length, false, -1);
}

bool oracle_crowded(struct oracle *oracle, uint16_t number, uint64_t offset, uint64_t length)
{
    struct oracle_op op = {.volume = number, .offset = offset, .length = length};
    struct span span = write_span(oracle, &op);

    for (uint64_t index = span.first; index <= span.last; index++) {
        const struct unit *unit = oracle->volumes[number].units[index];

        if (unit != NULL &&
            (__builtin_popcount(unit->pending_mask) >= (int)CROWDED_WRITES ||
             unit->past_count >= CROWDED_PAST || unit->state_count >= CROWDED_STATES))
            return true;
    }
    return false;
}

uint32_t oracle_ambiguous(const struct oracle *oracle, uint16_t number, uint64_t *blocks,
                          uint32_t max)
{
    const struct volume *volume = &oracle->volumes[number];
    uint32_t parts = UNIT_SECTORS / volume->unit_sectors;
    uint32_t count = 0;

    for (const struct unit *unit = volume->first; unit != NULL && count < max; unit = unit->next) {
        uint64_t block = unit->index / parts;

        if ((unit->state_count > 1 || unit->unknown) && (count == 0 || blocks[count - 1] != block))
            blocks[count++] = block;
    }
    return count;
}
