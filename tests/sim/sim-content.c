/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-content.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/hash.h"
#include "engine/format.h"

#define WORDS        (SECTOR_BYTES / 8)
#define LITERALS_MAX (1u << 15)
#define BUCKETS      (LITERALS_MAX * 2)
#define VOLUME_SHIFT 31
#define SECTOR_SHIFT 38 /* leaves 26 bits: 32 GiB */
#define VOLUME_MAX   ((1u << (SECTOR_SHIFT - VOLUME_SHIFT)) - 1)

struct content {
    uint32_t count;
    uint32_t buckets[BUCKETS]; /* index + 1; 0: empty */
    unsigned char literals[LITERALS_MAX][SECTOR_BYTES];
};

/* Word i of a pattern is word 0's name XOR this: no two words of a sector agree. */
static uint64_t masks[WORDS];

static uint64_t name_of(uint16_t volume, uint64_t sector, uint32_t id)
{
    return id | (uint64_t)volume << VOLUME_SHIFT | sector << SECTOR_SHIFT;
}

struct content *content_create(void)
{
    struct content *content = calloc(1, sizeof(*content));

    if (content == NULL)
        exit(2);
    for (unsigned i = 0; i < WORDS; i++)
        masks[i] = hash_mix64(0x626c6b + i);
    return content;
}

void content_destroy(struct content *content)
{
    free(content);
}

void content_reset(struct content *content)
{
    if (content->count > 0)
        memset(content->buckets, 0, sizeof(content->buckets));
    content->count = 0;
}

void content_fill(const struct content *content, unsigned char *data, uint16_t volume,
                  uint64_t sector, uint32_t id)
{
    uint64_t name = name_of(volume, sector, id);
    uint64_t words[WORDS];

    if (id == CONTENT_ZEROS) {
        memset(data, 0, SECTOR_BYTES);
        return;
    }
    if (id >= CONTENT_LITERALS) {
        assert(id - CONTENT_LITERALS < content->count);
        memcpy(data, content->literals[id - CONTENT_LITERALS], SECTOR_BYTES);
        return;
    }
    assert(volume <= VOLUME_MAX);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = name ^ masks[i];
    memcpy(data, words, SECTOR_BYTES);
}

/* Zeros, one pattern, or neither (CONTENT_FOREIGN). */
static uint32_t decode_pattern(const unsigned char *data, uint64_t *name)
{
    uint64_t words[WORDS];
    uint64_t wrong = 0, any = 0;

    memcpy(words, data, SECTOR_BYTES);
    *name = words[0] ^ masks[0];
    for (unsigned i = 0; i < WORDS; i++) {
        wrong |= words[i] ^ masks[i] ^ *name;
        any |= words[i];
    }
    if (any == 0)
        return CONTENT_ZEROS;
    return wrong == 0 ? (uint32_t)*name & CONTENT_ID_MAX : CONTENT_FOREIGN;
}

/* Its index, or where it would go (count). */
static uint32_t literal_find(const struct content *content, const unsigned char *data,
                             uint32_t *bucket)
{
    *bucket = crc32c(0, data, SECTOR_BYTES) % BUCKETS;
    while (content->buckets[*bucket] != 0) {
        uint32_t index = content->buckets[*bucket] - 1;

        if (memcmp(content->literals[index], data, SECTOR_BYTES) == 0)
            return index;
        *bucket = (*bucket + 1) % BUCKETS;
    }
    return content->count;
}

uint32_t content_decode(const struct content *content, const unsigned char *data, uint16_t volume,
                        uint64_t sector)
{
    uint64_t name;
    uint32_t id = decode_pattern(data, &name);
    uint32_t bucket, index;

    if (id == CONTENT_ZEROS)
        return id;
    if (id != CONTENT_FOREIGN)
        return name == name_of(volume, sector, id) ? id : CONTENT_FOREIGN;
    index = literal_find(content, data, &bucket);
    return index < content->count ? CONTENT_LITERALS + index : CONTENT_FOREIGN;
}

bool content_identify(const unsigned char *data, uint16_t *volume, uint64_t *sector, uint32_t *id)
{
    uint64_t name;

    *id = decode_pattern(data, &name);
    if (*id == CONTENT_ZEROS || *id == CONTENT_FOREIGN)
        return false;
    *volume = (uint16_t)(name >> VOLUME_SHIFT & VOLUME_MAX);
    *sector = name >> SECTOR_SHIFT;
    return true;
}

uint32_t content_literal(struct content *content, const unsigned char *data, uint16_t volume,
                         uint64_t sector)
{
    uint32_t id = content_decode(content, data, volume, sector);
    uint32_t bucket, index;

    if (id != CONTENT_FOREIGN)
        return id;
    index = literal_find(content, data, &bucket);
    if (index == LITERALS_MAX)
        return CONTENT_FOREIGN; /* full: the oracle treats it as unknown */
    memcpy(content->literals[index], data, SECTOR_BYTES);
    content->buckets[bucket] = ++content->count;
    return CONTENT_LITERALS + index;
}

uint32_t content_overlay(struct content *content, uint16_t volume, uint64_t sector, uint32_t base,
                         uint32_t top, uint32_t from, uint32_t to)
{
    unsigned char under[SECTOR_BYTES], over[SECTOR_BYTES];

    if (from == 0 && to == SECTOR_BYTES)
        return top;
    if (base == CONTENT_FOREIGN)
        return CONTENT_FOREIGN;
    content_fill(content, under, volume, sector, base);
    content_fill(content, over, volume, sector, top);
    memcpy(under + from, over + from, to - from);
    return content_literal(content, under, volume, sector);
}

/* A sector of several writes: runs of words that one pattern or zeros explain. */
static void describe_mixture(const unsigned char *data, char *text, size_t bytes)
{
    uint64_t words[WORDS], last = 0;
    size_t used = (size_t)snprintf(text, bytes, "a mixture:");

    memcpy(words, data, SECTOR_BYTES);
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t name = words[i] == 0 ? 0 : words[i] ^ masks[i];
        bool known = name == 0 || name >> SECTOR_SHIFT < 1u << 20;

        if ((i > 0 && name == last) || used + 40 > bytes)
            continue;
        last = name;
        used += (size_t)snprintf(text + used, bytes - used, " from %u %s%" PRIx64, i * 8,
                                 known ? "id " : "? ", known ? name & CONTENT_ID_MAX : words[i]);
    }
}

void content_describe(const unsigned char *data, uint16_t volume, uint64_t sector, char *text,
                      size_t bytes)
{
    uint16_t found_volume;
    uint64_t found_sector;
    uint32_t id;

    if (content_identify(data, &found_volume, &found_sector, &id))
        snprintf(text, bytes, "write %" PRIx32 "%s of volume %u sector %" PRIu64, id,
                 found_volume == volume && found_sector == sector ? "" : " (foreign)", found_volume,
                 found_sector);
    else if (id == CONTENT_ZEROS)
        snprintf(text, bytes, "zeros");
    else
        describe_mixture(data, text, bytes);
}
