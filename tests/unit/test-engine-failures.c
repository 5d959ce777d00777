/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine makes of errors of the flash and of the backing store (DESIGN 10). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define MS UINT64_C(1000000)

static void write_regions(struct host *host, uint64_t regions)
{
    for (uint64_t i = 0; i < regions; i++)
        ck_assert_int_eq(host_write(host, i * REGION_BLOCKS, 8, 0, 0, 0), 0);
}

/* Many writes that were under way when the backing store went away are one failure, not many. */
START_TEST(a_short_outage_costs_a_short_pause)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 1);

    write_regions(host, 40);
    host->backing_error = -EIO;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 50 * MS);
    ck_assert_uint_gt(shard_counters(host->shard, HOST_VOLUME)->destage_errors, 4);
    ck_assert(shard_backing_fails(host->shard, HOST_VOLUME));
    host->backing_error = 0;
    host_idle(host, 300 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    ck_assert(!shard_backing_fails(host->shard, HOST_VOLUME));
    host_free(host);
}
END_TEST

START_TEST(a_long_outage_is_asked_about_less_and_less)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 2);
    uint64_t first, second;

    write_regions(host, 1);
    host->backing_error = -EIO;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 10000 * MS);
    first = shard_counters(host->shard, HOST_VOLUME)->destage_errors;
    host_idle(host, 50000 * MS);
    second = shard_counters(host->shard, HOST_VOLUME)->destage_errors - first;
    ck_assert_uint_ge(first, 5);
    ck_assert_uint_ge(second, 8);
    ck_assert_uint_le(second, 12);
    host->backing_error = 0;
    host_destage_all(host);
    host_free(host);
}
END_TEST

/* Goes round the log, over itself, until reclaim has appended the first 20 blocks again; returns the
 * number of flash writes then. */
static uint64_t compact(struct host *host)
{
    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 0, 20, 0, 0, 0), 0); /* little of a segment */
    for (int i = 0; i < 100; i++) {
        for (uint64_t block = 128; block < 256; block += 64)
            ck_assert_int_eq(host_write(host, block, 64, 0, 0, 0), 0);
        host_idle(host, 50 * MS);
        if (shard_counters(host->shard, HOST_VOLUME)->flash_reinsert_blocks > 0)
            return host->flash_writes;
    }
    ck_abort_msg("nothing was appended again");
}

/* Dirty blocks that reclaim appends again, because the backing store is dead, are still where they
 * were when a power cut tears the copy: torn, it must not count as rot. */
START_TEST(torn_copies_of_dirty_blocks_lose_nothing)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 4);
    uint64_t last = compact(host);

    host_free(host);
    for (uint64_t tear = last - 8; tear <= last; tear++) {
        host = host_new(MODE_WRITE_BACK, false, 4);
        host->torn_flash = malloc(host->flash_bytes);
        host->torn_model = malloc((size_t)HOST_BLOCKS * BLOCK_BYTES);
        host->tear_write = tear;
        compact(host);
        memcpy(host->flash, host->torn_flash, host->flash_bytes);
        memcpy(host->model, host->torn_model, (size_t)HOST_BLOCKS * BLOCK_BYTES);
        ck_assert_int_eq(host_boot(host), 1);
        ck_assert_int_eq(host_read(host, 0, 20, 0), 0);
        free(host->torn_flash);
        free(host->torn_model);
        host_free(host);
    }
}
END_TEST

/* Whoever waits for room is told ENOSPC after stall_timeout_ns, so the store is asked several times
 * before. */
START_TEST(pauses_are_shorter_than_the_patience_of_writers)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 3);

    host->policy.stall_timeout_ns = 2000 * MS;
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    write_regions(host, 1);
    host->backing_error = -EIO;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 60000 * MS);
    host->backing_error = 0;
    host_idle(host, 700 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    host_free(host);
}
END_TEST

/* A store that is silent for the whole patience of writers, and then fails: the cache is full of
 * clean blocks, and only now their room may be taken; on a slow flash that takes its time, too. */
START_TEST(a_cache_of_clean_blocks_is_not_full)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 7);
    uint32_t written = 0;

    host->policy.stall_timeout_ns = 2000 * MS;
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    for (uint64_t block = 0; block < 4096; block += REGION_BLOCKS) {
        ck_assert_int_eq(host_write(host, block, REGION_BLOCKS, 0, 0, 0), 0);
        host_destage_all(host);
    }
    for (int hot = 0; hot < 3; hot++) /* so that the hand passes them, and meets what is dirty */
        for (uint64_t block = 0; block < 4096; block += REGION_BLOCKS)
            ck_assert_int_eq(host_read(host, block, REGION_BLOCKS, PIECE_NO_FILL), 0);
    host->flash_write_ns = (uint64_t)_i * 10 * MS;
    host->backing_error = -EIO;
    host->backing_error_ns = 2100 * MS;
    while (written < 2000 && host_write(host, 4096 + written, 8, 0, 0, 0) == 0) {
        written += 8;
        shard_destage_all(host->shard, VOLUME_ALL);
    }
    /* 70 % of some 3900 is where writers stop. */
    ck_assert_uint_ge(written, 2000);
    host_free(host);
}
END_TEST

/* What was read back from the backing store's cache before a flush failed may not be there any more
 * when the next flush succeeds: it must not become a clean block on flash. */
START_TEST(fills_of_lost_writes_do_not_reach_flash)
{
    struct host *host = host_new(MODE_WRITE_AROUND, false, 4);
    unsigned char *before = malloc((size_t)HOST_BLOCKS * BLOCK_BYTES);

    /* The flush after the first one is not at once. */
    ck_assert_int_eq(host_write(host, 5000, 1, 0, 0, 0), 0);
    host_idle(host, 10 * MS);
    host->backing_flushes = 0;
    memcpy(before, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES);
    ck_assert_int_eq(host_write(host, 100, 8, 0, 0, 0), 0);
    ck_assert_int_eq(host_read(host, 100, 8, 0), 0);
    /* The store loses it, and says so once. */
    memcpy(host->backing, before, (size_t)HOST_BLOCKS * BLOCK_BYTES);
    host->backing_error = -EIO;
    host_idle(host, 1500 * MS);
    ck_assert_uint_gt(host->backing_flushes, 0);
    host->backing_error = 0;
    host_idle(host, 10000 * MS);
    memcpy(host->model, before, (size_t)HOST_BLOCKS * BLOCK_BYTES);
    for (uint64_t block = 1024; block < 1024 + 4 * SHARD_FRAMES_MIN; block += 8)
        ck_assert_int_eq(host_read(host, block, 8, 0), 0);
    host_idle(host, 1000 * MS);
    ck_assert_uint_gt(shard_counters(host->shard, HOST_VOLUME)->flash_fill_blocks, 0);
    ck_assert_int_eq(host_boot(host), 1);
    host_read_all(host);
    free(before);
    host_free(host);
}
END_TEST

/* One unreadable block on flash costs that block, whatever is read together with it. */
START_TEST(an_unreadable_dirty_block_is_alone)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 5);
    uint64_t offset = 0;

    /* Clean ones, and behind them on flash eight dirty ones; the fourth cannot be read. */
    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    host_destage_all(host);
    ck_assert_int_eq(host_write(host, 8, 8, 0, 0, 0), 0);
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES)
        if (memcmp(host->flash + at, host->model + 11 * BLOCK_BYTES, BLOCK_BYTES) == 0)
            offset = at;
    ck_assert_uint_ne(offset, 0);
    host->flash_read_error = -EIO;
    host->flash_error_offset = offset;
    host->flash_error_bytes = BLOCK_BYTES;
    ck_assert_int_eq(host_read(host, 0, 8, 0), 0);
    ck_assert_int_eq(host_read(host, 8, 3, 0), 0);
    ck_assert_int_eq(host_read(host, 12, 4, 0), 0);
    ck_assert_uint_eq(host->notices[NOTICE_DIRTY_UNREADABLE], 0);
    ck_assert_int_eq(host_read(host, 8, 8, 0), -EIO);
    ck_assert_uint_eq(host->notices[NOTICE_DIRTY_UNREADABLE], 1);
    ck_assert_uint_eq(shard_unreadable_blocks(host->shard, HOST_VOLUME), 1);

    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 3000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 1);
    ck_assert_uint_eq(host->notices[NOTICE_DIRTY_UNREADABLE], 1);

    /* It was not for ever. */
    host->flash_read_error = 0;
    ck_assert_int_eq(host_read(host, 8, 8, 0), 0);
    host_destage_all(host);
    ck_assert_uint_eq(shard_unreadable_blocks(host->shard, VOLUME_ALL), 0);
    host_free(host);
}
END_TEST

/* A flush of the backing store fails, and drops what was written before: a block, too, whose write
 * is still under way as far as the shard knows.  The next flush does not bring it back. */
START_TEST(a_failed_flush_takes_back_writes_under_way)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 12);

    host->backing_error = -EIO; /* until they end */
    host->backing_error_ns = 20 * MS;
    ck_assert_int_eq(host_write(host, 5000, 1, 0, 0, 0), 0);
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 10 * MS);
    ck_assert_uint_eq(host->late_count, 1);
    host->backing_error_ns = 10000 * MS;
    ck_assert_int_eq(host_write(host, 0, 1, 0, 0, 0), 0);
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 5 * MS);
    ck_assert_uint_eq(host->late_count, 2);
    host->backing_error = 0;
    host_idle(host, 10 * MS);
    ck_assert_uint_eq(host->late_count, 1);

    host->backing_error = -EIO;
    host->backing_error_ns = 0;
    host->backing_flushes = 0;
    host_idle(host, 3000 * MS);
    ck_assert_uint_gt(host->backing_flushes, 0);
    ck_assert_uint_eq(host->late_count, 1);
    host->backing_error = 0;
    host_idle(host, 10000 * MS);
    ck_assert_uint_eq(host->late_count, 0);
    host_destage_all(host);
    ck_assert_int_eq(memcmp(host->backing, host->model, BLOCK_BYTES), 0);
    host_free(host);
}
END_TEST

START_TEST(an_unreadable_clean_block_is_alone)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 6);
    uint64_t offset = 0;

    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    host_destage_all(host);
    ck_assert_int_eq(host_write(host, 4, 1, 0, 0, 0), 0);
    ck_assert_int_eq(host_write(host, 5, 1, 0, 0, 0), 0);
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES)
        if (memcmp(host->flash + at, host->model + 2 * BLOCK_BYTES, BLOCK_BYTES) == 0)
            offset = at;
    host->flash_read_error = -EIO;
    host->flash_error_offset = offset;
    host->flash_error_bytes = BLOCK_BYTES;
    ck_assert_int_eq(host_read(host, 0, 8, 0), 0);
    ck_assert_uint_eq(shard_counters(host->shard, HOST_VOLUME)->healed_blocks, 1);
    ck_assert_int_eq(host_read(host, 0, 8, 0), 0);
    ck_assert_uint_eq(shard_counters(host->shard, HOST_VOLUME)->healed_blocks, 1);
    host_free(host);
}
END_TEST

/* Most segments are retired: writes must not wait for room that never comes, after a restart as
 * before it. */
START_TEST(worn_out_flash_takes_no_writes_after_a_restart)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 7);
    int error = 0;

    host->policy.stall_timeout_ns = 100 * MS;
    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    for (uint32_t i = 0; i < host->config.segments - 4; i++)
        host->retired[host->retired_count++] = host->config.segments - 1 - i;
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t i = 1; i <= 20 && error == 0; i++)
        error = host_write(host, i * REGION_BLOCKS, 60, 0, 0, 0);
    ck_assert_int_eq(error, -EIO);
    ck_assert_uint_eq(host->notices[NOTICE_FLASH_FAILED], 1);
    host_destage_all(host); /* what is dirty there is not lost */
    ck_assert_int_eq(host_read(host, 0, 8, 0), 0);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("engine-failures");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, torn_copies_of_dirty_blocks_lose_nothing);
    tcase_add_test(cases, a_short_outage_costs_a_short_pause);
    tcase_add_test(cases, a_long_outage_is_asked_about_less_and_less);
    tcase_add_test(cases, pauses_are_shorter_than_the_patience_of_writers);
    tcase_add_test(cases, fills_of_lost_writes_do_not_reach_flash);
    tcase_add_test(cases, an_unreadable_dirty_block_is_alone);
    tcase_add_test(cases, a_failed_flush_takes_back_writes_under_way);
    tcase_add_test(cases, an_unreadable_clean_block_is_alone);
    tcase_add_test(cases, worn_out_flash_takes_no_writes_after_a_restart);
    tcase_add_loop_test(cases, a_cache_of_clean_blocks_is_not_full, 0, 2);
    return unit_run("engine-failures", cases);
}
