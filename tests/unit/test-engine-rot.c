/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rotten byte anywhere on flash: a healed block or -EIO for a dirty one, never wrong data (I6,
 * I8, I24).  The image has closed, kept, open and ready segments, dirty and clean blocks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define FLIPS_PER_BLOCK 2
#define MARK_NS         UINT64_C(1100000000) /* after it, the log says how far it is durable */

static struct host *image_new(uint64_t seed)
{
    struct host *host = host_new(MODE_WRITE_BACK, seed & 1, seed);

    for (int i = 0; i < 1200; i++) {
        uint64_t block = host_random(host) % 3000;

        if (i % 3 == 0)
            host_read(host, block, 1, 0);
        else
            host_write(host, block, 1 + (uint32_t)(i % 40 == 1) * (63 - (uint32_t)(block & 63)), 0,
                       0, PIECE_FUA);
        if (i == 700)
            host_destage_all(host);
    }
    host_idle(host, 1500000000); /* the mark that says how far the log is durable */
    return host;
}

/* Every block is right, or -EIO; returns how many were. */
static uint32_t read_all(struct host *host)
{
    uint32_t failed = 0;

    for (uint64_t block = 0; block < 3072; block += REGION_BLOCKS) {
        if (host_read(host, block, REGION_BLOCKS, PIECE_NO_FILL) == 0)
            continue;
        for (uint64_t one = block; one < block + REGION_BLOCKS; one++) {
            int error = host_read(host, one, 1, PIECE_NO_FILL);

            ck_assert(error == 0 || error == -EIO);
            failed += error != 0;
        }
    }
    return failed;
}

static bool is_metadata(const unsigned char *block)
{
    uint64_t magic;

    memcpy(&magic, block, sizeof(magic));
    return magic == SEGMENT_MAGIC || magic == BATCH_MAGIC || magic == FOOTER_MAGIC;
}

START_TEST(rotten_metadata_costs_nothing)
{
    struct host *host = image_new((uint64_t)_i + 11);
    unsigned char *good = malloc(host->flash_bytes), *store = malloc(HOST_BLOCKS * BLOCK_BYTES);
    uint32_t tried = 0;

    memcpy(good, host->flash, host->flash_bytes);
    memcpy(store, host->backing, HOST_BLOCKS * BLOCK_BYTES);
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES) {
        if (!is_metadata(good + at) || host_random(host) % 10 != 0)
            continue;
        for (int flip = 0; flip < FLIPS_PER_BLOCK; flip++) {
            size_t byte = flip ? host_random(host) % 300 : host_random(host) % BLOCK_BYTES;

            memcpy(host->flash, good, host->flash_bytes);
            memcpy(host->backing, store, HOST_BLOCKS * BLOCK_BYTES);
            host->flash[at + byte] ^= (unsigned char)(1u << host_random(host) % 8);
            ck_assert_int_eq(host_boot(host), 1);
            ck_assert_msg(read_all(host) == 0, "offset %zu, byte %zu", at, byte);
            tried++;
        }
    }
    ck_assert_uint_gt(tried, 50);
    free(good);
    free(store);
    host_free(host);
}
END_TEST

static unsigned char *header_of(struct host *host, unsigned char *flash, uint32_t segment)
{
    unsigned char *header = flash + DATA_OFFSET + segment * (size_t)HOST_SEGMENT;

    ck_assert_uint_lt(segment, host->config.segments);
    return header;
}

/* After a loss that recovery was to find: what cannot be read was declared, a second start knows as
 * much, also when the segment's new footer (UINT32_MAX: none) rots, and all is well again when it is
 * rewritten.  Returns how many blocks are lost. */
static uint32_t declared_loss(struct host *host, uint32_t segment)
{
    unsigned char *footer =
        host->flash + DATA_OFFSET + (segment + 1) * (size_t)HOST_SEGMENT - BLOCK_BYTES;
    uint64_t told = host->notices[NOTICE_RECORDS_LOST];
    uint32_t failed;

    ck_assert_int_eq(host_boot(host), 1);
    told = host->notices[NOTICE_RECORDS_LOST] - told;
    failed = read_all(host);
    ck_assert_uint_eq(failed, shard_lost_blocks(host->shard, VOLUME_ALL));
    ck_assert(failed == 0 || told > 0);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_uint_eq(read_all(host), failed);
    for (size_t at = 0; segment != UINT32_MAX && at < BLOCK_BYTES; at += 512)
        footer[at + 24 - (footer_slots(HOST_SEGMENT / BLOCK_BYTES) - 1) * (size_t)BLOCK_BYTES] ^= 1;
    ck_assert_int_eq(host_boot(host), 1);
    told = read_all(host);
    ck_assert_uint_ge(told, failed);
    failed = (uint32_t)told;
    for (uint64_t block = 0; failed > 0 && block < 3072; block += REGION_BLOCKS)
        ck_assert_int_eq(host_write(host, block, REGION_BLOCKS, 0, 0, 0), 0);
    host_destage_all(host);
    ck_assert_uint_eq(read_all(host), 0);
    return failed;
}

/* Both copies of a segment's header rot: whatever the segment is, open, closed, kept in its place
 * or ready, no older version comes back, and what is lost is told. */
START_TEST(a_lost_header_is_declared)
{
    struct host *host = image_new((uint64_t)_i + 51);
    unsigned char *good = malloc(host->flash_bytes), *store = malloc(HOST_BLOCKS * BLOCK_BYTES);
    unsigned char *model = malloc(HOST_BLOCKS * BLOCK_BYTES);
    uint32_t lost = 0, harmless = 0;

    host->backing_error = -EIO; /* nothing of what follows becomes clean */
    for (int i = 0; i < 500; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % 3000, 1, 0, 0, 0), 0);
    host->backing_error = 0;
    memcpy(good, host->flash, host->flash_bytes);
    memcpy(store, host->backing, HOST_BLOCKS * BLOCK_BYTES);
    memcpy(model, host->model, HOST_BLOCKS * BLOCK_BYTES);
    for (uint32_t segment = 0; segment < host->config.segments; segment++) {
        uint32_t failed;

        if (!is_metadata(header_of(host, good, segment)))
            continue;
        memcpy(host->flash, good, host->flash_bytes);
        memcpy(host->backing, store, HOST_BLOCKS * BLOCK_BYTES);
        memcpy(host->model, model, HOST_BLOCKS * BLOCK_BYTES);
        for (unsigned copy = 0; copy < SEGMENT_HEADER_SLOTS; copy++)
            header_of(host, host->flash,
                      segment)[copy * BLOCK_BYTES + 24 + host_random(host) % (BLOCK_BYTES - 24)] ^=
                4;
        failed = declared_loss(host, _i == 0 ? UINT32_MAX : segment);
        lost += failed > 0;
        harmless += failed == 0;
    }
    ck_assert_uint_gt(lost, 5);
    ck_assert_uint_gt(harmless, 0);
    free(good);
    free(store);
    free(model);
    host_free(host);
}
END_TEST

/* More is lost than may be dirty: it is rewritten all the same. */
START_TEST(all_headers_are_lost)
{
    struct host *host = image_new((uint64_t)_i + 71);

    host->backing_error = -EIO;
    for (int i = 0; i < 500; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % 3000, 1, 0, 0, 0), 0);
    host->backing_error = 0;
    for (uint32_t i = 0; i < host->config.segments * SEGMENT_HEADER_SLOTS; i++)
        header_of(host, host->flash, i / 2)[i % 2 * BLOCK_BYTES + 24] ^= 1;
    host->policy.dirty_max_percent = 1;
    ck_assert_uint_gt(declared_loss(host, UINT32_MAX), 200);
    host_free(host);
}
END_TEST

/* Neither copy of a new header reached its place: what the segment holds is of a later generation
 * than its header. */
START_TEST(a_header_that_never_arrived_is_declared)
{
    struct host *host = image_new((uint64_t)_i + 61);
    unsigned char *before = malloc(host->flash_bytes), *good = malloc(host->flash_bytes);
    unsigned char *store = malloc(HOST_BLOCKS * BLOCK_BYTES);
    unsigned char *model = malloc(HOST_BLOCKS * BLOCK_BYTES);
    uint32_t tried = 0;

    memcpy(before, host->flash, host->flash_bytes);
    host_destage_all(host);
    for (int i = 0; i < 3000; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % 3000, 1, 0, 0, 0), 0);
    host_idle(host, MARK_NS);
    memcpy(good, host->flash, host->flash_bytes);
    memcpy(store, host->backing, HOST_BLOCKS * BLOCK_BYTES);
    memcpy(model, host->model, HOST_BLOCKS * BLOCK_BYTES);
    for (uint32_t segment = 0; segment < host->config.segments; segment++) {
        struct segment_header *was = (void *)header_of(host, before, segment);
        struct segment_header *is = (void *)header_of(host, good, segment);
        const struct batch_header *batch = (void *)(is + SEGMENT_HEADER_SLOTS);

        if (was->generation == is->generation || batch->generation != is->generation)
            continue;
        memcpy(host->flash, good, host->flash_bytes);
        memcpy(host->backing, store, HOST_BLOCKS * BLOCK_BYTES);
        memcpy(host->model, model, HOST_BLOCKS * BLOCK_BYTES);
        memcpy(header_of(host, host->flash, segment), was, SEGMENT_HEADER_SLOTS * BLOCK_BYTES);
        declared_loss(host, _i == 0 ? UINT32_MAX : segment);
        tried++;
    }
    ck_assert_uint_gt(tried, 5);
    free(before);
    free(good);
    free(store);
    free(model);
    host_free(host);
}
END_TEST

static void reseal(unsigned char *block)
{
    struct segment_footer *footer = (void *)block;
    struct segment_header *header = (void *)block;
    struct batch_header *batch = (void *)block;
    size_t bytes = BLOCK_BYTES;
    uint32_t *crc = &batch->crc, computed;

    if (header->magic == SEGMENT_MAGIC)
        crc = &header->crc;
    if (footer->magic == FOOTER_MAGIC) {
        crc = &footer->crc;
        bytes = sizeof(*footer) + footer->entry_count * sizeof(struct entry);
    }
    *crc = 0;
    computed = crc32c(0, block, bytes);
    *crc = computed;
}

/* Numbers that no session so far can have given out, under a right checksum.  Believed, they would
 * turn order in the ring around, make dirty blocks clean, or let older records win. */
/* The header of the newest batch that has entries. */
static struct batch_header *newest_batch(struct host *host)
{
    struct batch_header *newest = NULL;

    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES) {
        struct batch_header *header = (void *)(host->flash + at);

        if (header->magic == BATCH_MAGIC && header->entry_count > 0 &&
            (newest == NULL || header->lsn > newest->lsn))
            newest = header;
    }
    return newest;
}

/* Wherever in its segment an idle log stops: rot of its end is not taken for a torn write. */
START_TEST(the_end_of_an_idle_log_is_marked)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, (uint64_t)_i + 1);
    int error;

    ck_assert_int_eq(host_write(host, 7, 1, 0, 0, PIECE_FUA), 0);
    host_destage_all(host);
    for (int i = 0; i <= _i; i++)
        ck_assert_int_eq(host_write(host, 7, 1, 0, 0, PIECE_FUA), 0);
    host_idle(host, MARK_NS);
    newest_batch(host)->crc ^= 1;
    ck_assert_int_eq(host_boot(host), 1);
    error = host_read(host, 7, 1, 0); /* an echo may have saved it */
    ck_assert(error == 0 || error == -EIO);
    host_free(host);
}
END_TEST

START_TEST(impossible_numbers_are_not_believed)
{
    static const size_t fields[3][4] = {
        {offsetof(struct segment_header, generation),
         offsetof(struct segment_header, ring_sequence), offsetof(struct segment_header, session),
         offsetof(struct segment_header, generation)},
        {offsetof(struct batch_header, ring_sequence), offsetof(struct batch_header, durable_lsn),
         offsetof(struct batch_header, watermark), offsetof(struct batch_header, session)},
        {offsetof(struct segment_footer, ring_sequence),
         offsetof(struct segment_footer, durable_lsn), offsetof(struct segment_footer, watermark),
         offsetof(struct segment_footer, session)}};
    struct host *host = image_new(40);
    unsigned char *good = malloc(host->flash_bytes);
    unsigned char *store = malloc(HOST_BLOCKS * BLOCK_BYTES);
    unsigned char *model = malloc(HOST_BLOCKS * BLOCK_BYTES);
    uint64_t dirty;

    for (uint64_t block = 0; block < 64; block++)
        ck_assert_int_eq(host_write(host, block * 40, 1, 0, 0, 0), 0);
    host_idle(host, MARK_NS);
    memcpy(good, host->flash, host->flash_bytes);
    memcpy(store, host->backing, HOST_BLOCKS * BLOCK_BYTES);
    memcpy(model, host->model, HOST_BLOCKS * BLOCK_BYTES);
    ck_assert_int_eq(host_boot(host), 1);
    dirty = shard_dirty_blocks(host->shard, VOLUME_ALL);
    ck_assert_uint_gt(dirty, 0);
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES) {
        uint64_t magic, number = UINT64_MAX - host_random(host) % 200;
        unsigned kind;

        memcpy(&magic, good + at, sizeof(magic));
        kind = magic == SEGMENT_MAGIC ? 0 : magic == BATCH_MAGIC ? 1 : 2;
        if (!is_metadata(good + at) || host_random(host) % 32 != (uint64_t)_i)
            continue;
        memcpy(host->flash, good, host->flash_bytes);
        memcpy(host->backing, store, HOST_BLOCKS * BLOCK_BYTES);
        memcpy(host->model, model, HOST_BLOCKS * BLOCK_BYTES);
        memcpy(host->flash + at + fields[kind][host_random(host) % 4], &number, sizeof(number));
        reseal(host->flash + at);
        ck_assert_int_eq(host_boot(host), 1);
        ck_assert_msg(shard_dirty_blocks(host->shard, VOLUME_ALL) >= dirty, "offset %zu", at);
        ck_assert_msg(read_all(host) == 0, "offset %zu", at);
        for (uint64_t block = 0; block < 3000; block += 100)
            ck_assert_int_eq(host_write(host, block, 1, 0, 0, PIECE_FUA), 0);
        ck_assert_int_eq(host_boot(host), 1);
        ck_assert_msg(read_all(host) == 0, "offset %zu, second start", at);
    }
    free(good);
    free(store);
    free(model);
    host_free(host);
}
END_TEST

START_TEST(rotten_data_are_never_returned)
{
    struct host *host = image_new((uint64_t)_i + 21);
    uint32_t healed_or_lost = 0;

    /* One byte in every eighth data block. */
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES)
        if (!is_metadata(host->flash + at) && at / BLOCK_BYTES % 8 == 0)
            host->flash[at + host_random(host) % BLOCK_BYTES] ^= 0x40;
    if (_i & 1)
        ck_assert_int_eq(host_boot(host), 1);
    read_all(host);
    healed_or_lost =
        (uint32_t)(host->notices[NOTICE_CLEAN_HEALED] + host->notices[NOTICE_DIRTY_LOST]);
    ck_assert_uint_gt(healed_or_lost, 0);
    /* A lost block is whole again when it is rewritten. */
    for (uint64_t block = 0; block < 3072; block += 64)
        ck_assert_int_eq(host_write(host, block, 64, 0, 0, 0), 0);
    ck_assert_uint_eq(read_all(host), 0);
    host_destage_all(host);
    host_free(host);
}
END_TEST

START_TEST(flash_of_zeros_or_noise_is_empty)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 31);

    for (size_t i = DATA_OFFSET; i < host->flash_bytes; i++)
        host->flash[i] = _i ? (unsigned char)host_random(host) : 0;
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_uint_eq(read_all(host), 0);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("engine-rot");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, rotten_metadata_costs_nothing, 0, 2);
    tcase_add_loop_test(cases, a_lost_header_is_declared, 0, 2);
    tcase_add_loop_test(cases, all_headers_are_lost, 0, 2);
    tcase_add_loop_test(cases, a_header_that_never_arrived_is_declared, 0, 2);
    tcase_add_loop_test(cases, the_end_of_an_idle_log_is_marked, 0, 70);
    tcase_add_loop_test(cases, impossible_numbers_are_not_believed, 0, 2);
    tcase_add_loop_test(cases, rotten_data_are_never_returned, 0, 4);
    tcase_add_loop_test(cases, flash_of_zeros_or_noise_is_empty, 0, 2);
    return unit_run("engine-rot", cases);
}
