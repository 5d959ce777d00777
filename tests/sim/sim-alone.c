/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-alone.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"

#define NEVER UINT64_MAX

struct write { /* moments are counted by `clock` */
    uint64_t begin, end, durable;
    uint32_t id;
    bool fua, answered;
};

struct sector {
    uint32_t *writes; /* by begin */
    uint32_t count, room;
};

struct alone {
    struct write *writes; /* the first: what was there before */
    uint32_t write_count, write_room;
    uint32_t volatile_first; /* older ones are durable, failed or given up */
    struct sector *sectors;
    uint64_t sector_count;
    uint64_t clock;
    uint64_t *ns; /* by moment */
    uint64_t ns_room;
    uint64_t *boundaries; /* moments */
    uint64_t boundary_count, boundary_room;
    uint64_t low; /* of the check under way */
    uint64_t low_sector, high, high_sector;
};

static void *grown(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (memory == NULL)
        exit(2);
    return memory;
}

struct alone *alone_create(void)
{
    struct alone *alone = grown(NULL, sizeof(*alone));

    memset(alone, 0, sizeof(*alone));
    return alone;
}

static void sectors_free(struct alone *alone)
{
    for (uint64_t i = 0; i < alone->sector_count; i++)
        free(alone->sectors[i].writes);
    free(alone->sectors);
    alone->sectors = NULL;
    alone->sector_count = 0;
}

void alone_destroy(struct alone *alone)
{
    sectors_free(alone);
    free(alone->writes);
    free(alone->ns);
    free(alone->boundaries);
    free(alone);
}

static uint64_t moment(struct alone *alone, uint64_t now_ns)
{
    uint64_t now = ++alone->clock;

    if (now >= alone->ns_room) {
        alone->ns_room = 2 * now + 64;
        alone->ns = grown(alone->ns, alone->ns_room * sizeof(*alone->ns));
    }
    alone->ns[now] = now_ns;
    return now;
}

static void boundary(struct alone *alone, uint64_t now)
{
    if (alone->boundary_count == alone->boundary_room) {
        alone->boundary_room = 2 * alone->boundary_room + 64;
        alone->boundaries =
            grown(alone->boundaries, alone->boundary_room * sizeof(*alone->boundaries));
    }
    alone->boundaries[alone->boundary_count++] = now;
}

static uint32_t write_add(struct alone *alone, const struct write *write)
{
    if (alone->write_count == alone->write_room) {
        alone->write_room = 2 * alone->write_room + 64;
        alone->writes = grown(alone->writes, alone->write_room * sizeof(*alone->writes));
    }
    alone->writes[alone->write_count] = *write;
    return alone->write_count++;
}

static void sector_add(struct sector *sector, uint32_t write)
{
    if (sector->count == sector->room) {
        sector->room = 2 * sector->room + 4;
        sector->writes = grown(sector->writes, sector->room * sizeof(*sector->writes));
    }
    sector->writes[sector->count++] = write;
}

void alone_reset(struct alone *alone, uint64_t bytes)
{
    sectors_free(alone);
    alone->sector_count = bytes / SECTOR_BYTES;
    alone->sectors = grown(NULL, alone->sector_count * sizeof(*alone->sectors));
    memset(alone->sectors, 0, alone->sector_count * sizeof(*alone->sectors));
    alone->clock = 0;
    alone->write_count = 0;
    alone->boundary_count = 0;
    write_add(alone, &(struct write){.id = CONTENT_ZEROS, .answered = true});
    moment(alone, 0);
    alone->volatile_first = 1;
    for (uint64_t i = 0; i < alone->sector_count; i++)
        sector_add(&alone->sectors[i], 0);
}

/* ---- history ----------------------------------------------------------------------------- */

uint32_t alone_write_begin(struct alone *alone, uint64_t now_ns, uint64_t offset, uint64_t length,
                           uint32_t id, bool fua)
{
    struct write write = {
        .begin = moment(alone, now_ns), .end = NEVER, .durable = NEVER, .id = id, .fua = fua};
    uint32_t number = write_add(alone, &write);

    assert(offset % SECTOR_BYTES == 0 && length % SECTOR_BYTES == 0);
    for (uint64_t i = 0; i < length / SECTOR_BYTES; i++)
        sector_add(&alone->sectors[offset / SECTOR_BYTES + i], number);
    return number;
}

void alone_write_end(struct alone *alone, uint64_t now_ns, uint32_t number, int error)
{
    struct write *write = &alone->writes[number];

    if (error != 0)
        return; /* it may take effect at any time, or never */
    write->end = moment(alone, now_ns);
    write->answered = true;
    if (!write->fua)
        return;
    write->durable = write->end;
    boundary(alone, write->end);
}

uint64_t alone_flush_begin(struct alone *alone, uint64_t now_ns)
{
    uint64_t now = moment(alone, now_ns);

    boundary(alone, now);
    return now;
}

void alone_flush_end(struct alone *alone, uint64_t now_ns, uint64_t begun, int error)
{
    uint64_t now = moment(alone, now_ns);
    bool all = true;

    if (error != 0)
        return;
    for (uint32_t i = alone->volatile_first; i < alone->write_count; i++) {
        struct write *write = &alone->writes[i];

        if (write->answered && write->durable == NEVER && write->end < begun)
            write->durable = now;
        all &= write->durable != NEVER;
        if (all)
            alone->volatile_first = i + 1;
    }
}

void alone_crash(struct alone *alone, uint64_t now_ns)
{
    uint64_t now = moment(alone, now_ns);

    for (uint32_t i = alone->volatile_first; i < alone->write_count; i++)
        if (alone->writes[i].end == NEVER)
            alone->writes[i].end = now;
    alone->volatile_first = alone->write_count;
}

/* ---- checking ---------------------------------------------------------------------------- */

/* When another write makes it impossible that this one is what is left. */
static uint64_t until(const struct alone *alone, const struct sector *sector,
                      const struct write *write)
{
    uint64_t hi = NEVER;

    for (uint32_t i = sector->count; i-- > 0;) {
        const struct write *later = &alone->writes[sector->writes[i]];

        if (later->begin <= write->end)
            break;
        if (later->durable < hi)
            hi = later->durable;
    }
    return hi;
}

static bool legal_at(const struct alone *alone, const struct sector *sector, uint32_t id,
                     uint64_t at)
{
    for (uint32_t i = sector->count; i-- > 0;) {
        const struct write *write = &alone->writes[sector->writes[i]];

        if (write->id == id && write->begin <= at && at < until(alone, sector, write))
            return true;
    }
    return false;
}

/* The nearest moment, not before (after) `at`, at which zeros are legal; NEVER: there is none. */
static uint64_t next_legal(const struct alone *alone, const struct sector *sector, uint64_t at)
{
    uint64_t next = NEVER;

    for (uint32_t i = 0; i < sector->count; i++) {
        const struct write *write = &alone->writes[sector->writes[i]];
        uint64_t lo = write->begin > at ? write->begin : at;

        if (write->id == CONTENT_ZEROS && lo < until(alone, sector, write) && lo < next)
            next = lo;
    }
    return next;
}

static uint64_t last_legal(const struct alone *alone, const struct sector *sector, uint64_t at)
{
    uint64_t last = NEVER;

    for (uint32_t i = 0; i < sector->count; i++) {
        const struct write *write = &alone->writes[sector->writes[i]];
        uint64_t hi = until(alone, sector, write);

        hi = hi - 1 < at ? hi - 1 : at;
        if (write->id == CONTENT_ZEROS && write->begin <= hi && (last == NEVER || hi > last))
            last = hi;
    }
    return last;
}

static const struct write *write_find(const struct alone *alone, const struct sector *sector,
                                      uint32_t id)
{
    for (uint32_t i = sector->count; i-- > 0;)
        if (alone->writes[sector->writes[i]].id == id)
            return &alone->writes[sector->writes[i]];
    return NULL;
}

/* Narrows [low, high) to what a sector with a write that is not zeros allows. */
static bool narrow(struct alone *alone, uint64_t number, uint32_t id)
{
    const struct sector *sector = &alone->sectors[number];
    const struct write *write = write_find(alone, sector, id);
    uint64_t hi;

    if (write == NULL)
        return false;
    hi = until(alone, sector, write);
    if (write->begin > alone->low) {
        alone->low = write->begin;
        alone->low_sector = number;
    }
    if (hi < alone->high) {
        alone->high = hi;
        alone->high_sector = number;
    }
    return true;
}

/* The first (last) moment in [low, high) that suits all sectors of zeros; NEVER: none does. */
static uint64_t settle(const struct alone *alone, const uint32_t *ids, bool forwards)
{
    uint64_t high = alone->high == NEVER ? alone->clock + 1 : alone->high;
    uint64_t at = forwards ? alone->low : high - 1, before;

    do {
        before = at;
        for (uint64_t i = 0; i < alone->sector_count; i++) {
            const struct sector *sector = &alone->sectors[i];

            if (ids[i] != CONTENT_ZEROS || legal_at(alone, sector, CONTENT_ZEROS, at))
                continue;
            at = forwards ? next_legal(alone, sector, at) : last_legal(alone, sector, at);
            if (at == NEVER || at < alone->low || at >= high)
                return NEVER;
        }
    } while (at != before);
    return at;
}

static void age_of(const struct alone *alone, uint64_t at, uint64_t now_ns, struct alone_age *age)
{
    *age = (struct alone_age){0};
    if (at >= alone->clock)
        return;
    age->ns = now_ns - alone->ns[at + 1]; /* until then nothing else had happened */
    for (uint64_t i = alone->boundary_count; i-- > 0 && alone->boundaries[i] > at;)
        age->boundaries++;
}

bool alone_check(struct alone *alone, struct content *content, uint16_t volume,
                 const unsigned char *image, bool garbage, uint64_t now_ns, struct alone_age *age,
                 char *why, size_t why_bytes)
{
    uint32_t *ids = grown(NULL, alone->sector_count * sizeof(*ids));
    uint64_t at;
    bool good = false;

    alone->low = 1;
    alone->high = NEVER;
    alone->low_sector = alone->high_sector = 0;
    for (uint64_t i = 0; i < alone->sector_count; i++) {
        ids[i] = content_decode(content, image + i * SECTOR_BYTES, volume, i);
        if (ids[i] == CONTENT_ZEROS || (garbage && ids[i] >= CONTENT_LITERALS))
            continue;
        if (!narrow(alone, i, ids[i])) {
            snprintf(why, why_bytes, "sector %" PRIu64 " holds %" PRIx32 ", which nobody wrote", i,
                     ids[i]);
            goto end;
        }
    }
    if (alone->low >= alone->high) {
        snprintf(why, why_bytes,
                 "sector %" PRIu64 " holds write %" PRIx32 " (begun at %" PRIu64
                 "), but sector %" PRIu64 " holds %" PRIx32 " (outdated durably at %" PRIu64 ")",
                 alone->low_sector, ids[alone->low_sector], alone->low, alone->high_sector,
                 ids[alone->high_sector], alone->high);
        goto end;
    }
    if (settle(alone, ids, true) == NEVER) {
        snprintf(why, why_bytes,
                 "no moment from %" PRIu64 " to %" PRIu64 " allows all the zeros; sector %" PRIu64
                 " holds %" PRIx32,
                 alone->low, alone->high, alone->low_sector, ids[alone->low_sector]);
        goto end;
    }
    at = settle(alone, ids, false);
    assert(at != NEVER);
    age_of(alone, at, now_ns, age);
    good = true;
end:
    free(ids);
    return good;
}
