/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-image.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/format.h"

#define RECORDS_MAX 8192u
#define ARENA_BYTES (8u << 20)
#define CHUNK_SHIFT 14 /* what a reset clears, touched or not */

struct record {
    uint64_t offset, length;
    uint64_t arena_begin, arena_end; /* positions that only grow; equal: zeros */
    bool durable;
};

struct image {
    unsigned char *current, *durable; /* the same without a cache */
    unsigned char *spare;             /* mapping of `durable`, kept while there is no cache */
    uint64_t bytes;
    unsigned char *touched; /* a byte per chunk */
    uint64_t chunks;
    struct record *records; /* a ring */
    uint64_t head, tail;    /* records [head, tail), counted since the reset */
    unsigned char *arena;   /* a ring, too */
    uint64_t arena_head, arena_tail;
};

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        perror("simulated disk");
        exit(2);
    }
    return memory;
}

struct image *image_create(uint64_t bytes)
{
    struct image *image = calloc(1, sizeof(*image));

    if (image == NULL)
        exit(2);
    image->bytes = bytes;
    image->chunks = (bytes + (1u << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT;
    image->current = map(bytes);
    image->spare = map(bytes);
    image->touched = map(image->chunks);
    image->records = map(RECORDS_MAX * sizeof(struct record));
    image->arena = map(ARENA_BYTES);
    image->durable = image->current;
    return image;
}

void image_destroy(struct image *image)
{
    munmap(image->current, image->bytes);
    munmap(image->spare, image->bytes);
    munmap(image->touched, image->chunks);
    munmap(image->records, RECORDS_MAX * sizeof(struct record));
    munmap(image->arena, ARENA_BYTES);
    free(image);
}

void image_reset(struct image *image, bool write_cache)
{
    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        uint64_t offset = chunk << CHUNK_SHIFT;
        uint64_t length = 1u << CHUNK_SHIFT;

        if (!image->touched[chunk])
            continue;
        if (offset + length > image->bytes)
            length = image->bytes - offset;
        memset(image->current + offset, 0, length);
        if (image->durable != image->current)
            memset(image->durable + offset, 0, length);
        image->touched[chunk] = 0;
    }
    image->durable = write_cache ? image->spare : image->current;
    image->head = image->tail = 0;
    image->arena_head = image->arena_tail = 0;
}

const unsigned char *image_current(const struct image *image)
{
    return image->current;
}

const unsigned char *image_durable(const struct image *image)
{
    return image->durable;
}

static void put(unsigned char *to, const unsigned char *data, uint64_t length)
{
    if (data != NULL)
        memcpy(to, data, length);
    else
        memset(to, 0, length);
}

static void touch(struct image *image, uint64_t offset, uint64_t length)
{
    assert(length > 0 && offset + length <= image->bytes);
    assert(offset % SECTOR_BYTES == 0 && length % SECTOR_BYTES == 0);
    for (uint64_t chunk = offset >> CHUNK_SHIFT; chunk <= (offset + length - 1) >> CHUNK_SHIFT;
         chunk++)
        image->touched[chunk] = 1;
}

/* ---- the queue of records ---------------------------------------------------------------- */

static struct record *record_at(const struct image *image, uint64_t n)
{
    return &image->records[n % RECORDS_MAX];
}

static const unsigned char *record_data(const struct image *image, const struct record *record)
{
    if (record->arena_begin == record->arena_end)
        return NULL;
    return image->arena + record->arena_begin % ARENA_BYTES;
}

static void oldest_record_becomes_durable(struct image *image)
{
    struct record *record = record_at(image, image->head++);

    put(image->durable + record->offset, record_data(image, record), record->length);
    image->arena_head = record->arena_end;
}

/* Where `length` bytes lie in one piece; the oldest records make room. */
static uint64_t arena_take(struct image *image, uint64_t length)
{
    uint64_t begin = image->arena_tail;

    assert(length <= ARENA_BYTES / 4);
    if (begin % ARENA_BYTES + length > ARENA_BYTES)
        begin += ARENA_BYTES - begin % ARENA_BYTES;
    while (begin + length - image->arena_head > ARENA_BYTES && image->head < image->tail)
        oldest_record_becomes_durable(image);
    if (image->head == image->tail)
        image->arena_head = begin;
    image->arena_tail = begin + length;
    return begin;
}

static void record_add(struct image *image, uint64_t offset, const unsigned char *data,
                       uint64_t length, bool durable)
{
    struct record *record;
    uint64_t begin = image->arena_tail;

    if (image->tail - image->head == RECORDS_MAX)
        oldest_record_becomes_durable(image);
    if (data != NULL) {
        begin = arena_take(image, length);
        memcpy(image->arena + begin % ARENA_BYTES, data, length);
    }
    record = record_at(image, image->tail++);
    *record = (struct record){offset, length, begin, image->arena_tail, durable};
}

void image_write(struct image *image, uint64_t offset, const unsigned char *data, uint64_t length,
                 bool durable)
{
    touch(image, offset, length);
    put(image->current + offset, data, length);
    if (image->durable == image->current)
        return;
    record_add(image, offset, data, length, durable);
    while (image->head < image->tail && record_at(image, image->head)->durable)
        oldest_record_becomes_durable(image);
}

uint64_t image_mark(const struct image *image)
{
    return image->tail;
}

void image_flush(struct image *image, uint64_t mark)
{
    while (image->head < mark)
        oldest_record_becomes_durable(image);
    while (image->head < image->tail && record_at(image, image->head)->durable)
        oldest_record_becomes_durable(image);
}

uint64_t image_drop(struct image *image, uint64_t mark, uint32_t percent, struct sim_random *random)
{
    uint64_t dropped = 0;

    image_power_cut_begin(image);
    for (uint64_t n = image->head; n < image->tail; n++) {
        struct record *record = record_at(image, n);

        if (n < mark && !record->durable && sim_random_percent(random, percent)) {
            record->length = 0;
            dropped++;
        }
        put(image->current + record->offset, record_data(image, record), record->length);
    }
    return dropped;
}

void image_damage(struct image *image, uint64_t offset, uint64_t length, struct sim_random *random)
{
    touch(image, offset, length);
    for (unsigned flips = sim_random_range(random, 1, 8); flips > 0; flips--) {
        uint64_t at = offset + sim_random_next(random) % length;
        unsigned char bit = (unsigned char)(1 << sim_random_below(random, 8));

        image->current[at] ^= bit;
        if (image->durable != image->current)
            image->durable[at] ^= bit;
    }
}

/* ---- the power cut ----------------------------------------------------------------------- */

uint64_t image_power_cut_begin(struct image *image)
{
    for (uint64_t n = image->head; n < image->tail; n++) {
        const struct record *record = record_at(image, n);

        memcpy(image->current + record->offset, image->durable + record->offset, record->length);
    }
    return image->tail - image->head;
}

bool image_power_cut_record(struct image *image, uint64_t n, uint64_t *offset, uint64_t *length)
{
    const struct record *record = record_at(image, image->head + n);

    *offset = record->offset;
    *length = record->length;
    if (record->length == 0) /* dropped */
        return false;
    if (!record->durable)
        return true;
    image_settle(image, record->offset, record_data(image, record), record->length, FATE_LANDS,
                 NULL);
    return false;
}

void image_power_cut_settle_record(struct image *image, uint64_t n, enum image_fate fate,
                                   struct sim_random *random)
{
    const struct record *record = record_at(image, image->head + n);

    image_settle(image, record->offset, record_data(image, record), record->length, fate, random);
}

void image_power_cut_end(struct image *image)
{
    image->head = image->tail;
    image->arena_head = image->arena_tail;
}

static void put_both(struct image *image, uint64_t offset, const unsigned char *data,
                     uint64_t length)
{
    put(image->current + offset, data, length);
    if (image->durable != image->current)
        put(image->durable + offset, data, length);
}

/* One write in four tears at one place, as a drive that stops in the middle does; in the others
 * any set of sectors lands. */
static void settle_torn(struct image *image, uint64_t offset, const unsigned char *data,
                        uint64_t length, struct sim_random *random)
{
    uint64_t sectors = length / SECTOR_BYTES;
    bool one_cut = sim_random_below(random, 4) == 0;
    uint64_t cut = sim_random_next(random) % sectors;
    uint64_t bits = 0;

    for (uint64_t i = 0; i < sectors; i++) {
        uint64_t at = i * SECTOR_BYTES;

        if (i % 64 == 0)
            bits = sim_random_next(random);
        if (one_cut ? i < cut : bits >> (i % 64) & 1)
            put_both(image, offset + at, data != NULL ? data + at : NULL, SECTOR_BYTES);
    }
}

static void settle_garbage(struct image *image, uint64_t offset, const unsigned char *data,
                           uint64_t length, struct sim_random *random)
{
    for (uint64_t at = 0; at < length; at += SECTOR_BYTES) {
        unsigned char garbage[SECTOR_BYTES];
        uint32_t choice = sim_random_below(random, 4);

        if (choice == 0)
            put_both(image, offset + at, data != NULL ? data + at : NULL, SECTOR_BYTES);
        if (choice < 2)
            continue;
        for (unsigned i = 0; i < SECTOR_BYTES; i += 8) {
            uint64_t word = sim_random_next(random);

            memcpy(garbage + i, &word, 8);
        }
        put_both(image, offset + at, garbage, SECTOR_BYTES);
    }
}

void image_settle(struct image *image, uint64_t offset, const unsigned char *data, uint64_t length,
                  enum image_fate fate, struct sim_random *random)
{
    touch(image, offset, length);
    switch (fate) {
    case FATE_LANDS: put_both(image, offset, data, length); break;
    case FATE_TORN: settle_torn(image, offset, data, length, random); break;
    case FATE_GARBAGE: settle_garbage(image, offset, data, length, random); break;
    case FATE_VANISHES:
    case FATES: break;
    }
}
