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

static int write_some(struct host *host, uint32_t pass)
{
    int error = 0;

    for (uint64_t region = 0; region < HOST_BLOCKS / REGION_BLOCKS && error == 0; region++)
        error = host_write(host, region * REGION_BLOCKS + pass * 6, 6, 0, 0, 0);
    return error;
}

static uint64_t unreadable_blocks(struct host *host)
{
    uint64_t count = 0;

    for (uint64_t block = 0; block < HOST_BLOCKS; block++) {
        int error = host_read(host, block, 1, 0);

        ck_assert(error == 0 || error == -EIO);
        count += error != 0;
    }
    return count;
}

/* A block of each new segment rots, until each segment has had one.  What is left of them, that they
 * are lost, takes little room, and is still known after a restart. */
START_TEST(lost_blocks_pin_no_segment)
{
    struct host *host = host_new(MODE_WRITE_BACK, _i, 8);
    const struct flash_counters *flash = shard_flash_counters(host->shard);
    uint64_t lost, metadata;

    for (uint32_t pass = 0; pass < 10; pass++) {
        host->backing_error = -EIO; /* so that they are dirty when they rot */
        ck_assert_int_eq(write_some(host, pass), 0);
        for (uint32_t i = 0; i < host->config.segments; i++)
            memset(host->flash + DATA_OFFSET + (size_t)i * HOST_SEGMENT + (size_t)8 * BLOCK_BYTES,
                   0x5a, BLOCK_BYTES);
        host->backing_error = 0;
        shard_destage_all(host->shard, VOLUME_ALL);
        host_idle(host, 10000 * MS);
        ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL),
                          shard_lost_blocks(host->shard, HOST_VOLUME));
    }
    lost = shard_lost_blocks(host->shard, HOST_VOLUME);
    ck_assert_uint_gt(lost, host->config.segments);
    ck_assert_uint_eq(unreadable_blocks(host), lost);
    metadata = flash->flash_metadata_writes;
    host_idle(host, 60000 * MS);
    ck_assert_uint_le(flash->flash_metadata_writes, metadata + 16);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), lost);
    ck_assert_uint_eq(unreadable_blocks(host), lost);

    for (uint32_t pass = 0; pass < 10; pass++) {
        ck_assert_int_eq(write_some(host, pass), 0);
        host_idle(host, 1000 * MS);
    }
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 0);
    host_destage_all(host);
    host_read_all(host);
    ck_assert_uint_eq(host->notices[NOTICE_FLASH_FAILED], 0);
    host_free(host);
}
END_TEST

/* Dirty blocks that the flash does not return stay where they are: when they are everywhere, writes
 * must not wait for ever, nor must the hand look for ever. */
START_TEST(segments_of_unreadable_blocks_are_worn_out)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 8);
    uint64_t metadata;
    int error = 0;

    host->flash_read_error = -EIO;
    for (uint32_t pass = 0; pass < 10 && error == 0; pass++) {
        error = write_some(host, pass);
        shard_destage_all(host->shard, VOLUME_ALL);
        host_idle(host, 10000 * MS);
    }
    ck_assert_int_eq(error, -EIO);
    ck_assert_uint_eq(host->notices[NOTICE_FLASH_FAILED], 1);
    metadata = shard_flash_counters(host->shard)->flash_metadata_writes;
    host_idle(host, 60000 * MS);
    ck_assert_uint_eq(shard_flash_counters(host->shard)->flash_metadata_writes, metadata);
    host_free(host);
}
END_TEST

/* More unreadable blocks than are destaged at once do not hold up those behind them. */
START_TEST(unreadable_blocks_hold_up_no_others)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 10);
    uint64_t unreadable;

    ck_assert_int_eq(write_some(host, 0), 0);
    host->flash_read_error = -EIO;
    host->flash_error_offset = DATA_OFFSET;
    host->flash_error_bytes = 4 * HOST_SEGMENT;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 500 * MS);
    unreadable = shard_unreadable_blocks(host->shard, HOST_VOLUME);
    ck_assert_uint_ge(unreadable, 100);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, HOST_VOLUME), unreadable);
    host->flash_read_error = 0;
    host_idle(host, 10000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, HOST_VOLUME), 0);
    ck_assert_int_eq(memcmp(host->backing, host->model, (size_t)6 * BLOCK_BYTES), 0);
    host_free(host);
}
END_TEST

/* A block that was lost and can be read again, of a volume with ordered destaging. */
START_TEST(a_found_block_keeps_the_order)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 31);
    unsigned char *slot = host->flash + DATA_OFFSET + (size_t)3 * BLOCK_BYTES;
    const struct counters *counters;

    host->config.ordered_volumes = 1;
    host->config.epochs_max = 64;
    host->policy.destage = DESTAGE_ORDERED;
    ck_assert_int_eq(host_boot(host), 1);
    counters = shard_counters(host->shard, HOST_VOLUME);
    shard_epoch_begin(host->shard, HOST_VOLUME, 1, host->now_ns);
    shard_epoch_open(host->shard, HOST_VOLUME, 1, false, host->now_ns);
    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 0, 20, 0, 0, 0), 0);
    *slot ^= 1;
    ck_assert_int_eq(host_read(host, 0, 20, 0), -EIO);
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 1);
    *slot ^= 1;
    for (int i = 0; counters->flash_reinsert_blocks == 0; i++) {
        ck_assert_int_lt(i, 200);
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host_idle(host, 20 * MS);
    }
    host_idle(host, 1000 * MS);
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 0);
    ck_assert_int_eq(host_read(host, 0, 20, 0), 0);
    ck_assert_uint_ge(shard_epoch_begin(host->shard, HOST_VOLUME, 1, host->now_ns), 1);
    host->backing_error = 0;
    host_destage_all(host);
    ck_assert_int_eq(memcmp(host->backing, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES), 0);
    host_free(host);
}
END_TEST

/* The search for unreadable blocks ends where the last of them is: it begins again by itself. */
START_TEST(unreadable_blocks_are_tried_for_ever)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 32);

    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    host->flash_read_error = -EIO;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 60000 * MS);
    ck_assert_uint_eq(shard_unreadable_blocks(host->shard, HOST_VOLUME), 8);
    host->flash_read_error = 0;
    host_idle(host, 60000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    host_free(host);
}
END_TEST

static struct action read_begin(struct host *host, struct piece *piece, uint64_t block)
{
    static struct actions out;

    memset(piece, 0, sizeof(*piece));
    piece->op = PIECE_READ;
    piece->volume = HOST_VOLUME;
    piece->count = 1;
    piece->block = block;
    piece->data = host->data + BLOCK_BYTES;
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = piece}, 1,
               &out);
    ck_assert_uint_eq(out.count, 1);
    ck_assert_uint_eq(out.list[0].kind, ACTION_READ_FLASH);
    return out.list[0];
}

/* Of two reads of a block one brings wrong data and one an error: it is lost, and counts once. */
START_TEST(a_lost_block_is_not_unreadable)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 33);
    struct piece pieces[2];
    struct action reads[2];
    static struct actions out;

    ck_assert_int_eq(host_write(host, 5, 1, 0, 0, 0), 0);
    reads[0] = read_begin(host, &pieces[0], 5);
    reads[1] = read_begin(host, &pieces[1], 5);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .action = &reads[0], .bad_mask = 1}, 1, &out);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .action = &reads[1], .result = -EIO}, 1,
               &out);
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 1);
    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    host_idle(host, 20000 * MS);
    ck_assert_int_eq(host_write(host, 10, 1, 0, 0, 0), 0);
    ck_assert_uint_eq(shard_unreadable_blocks(host->shard, HOST_VOLUME), 0);
    host_free(host);
}
END_TEST

/* What was found to be rotten when it was on the backing store, and only a flush was missing, is
 * not lost. */
START_TEST(a_rotten_block_that_was_written_back_is_not_lost)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 34);
    const struct counters *counters = shard_counters(host->shard, HOST_VOLUME);

    ck_assert_int_eq(host_write(host, 0, 20, 0, 0, 0), 0);
    while (host->backing_writes == 0)
        host_idle(host, 10 * MS);
    ck_assert_uint_eq(host->backing_flushes, 0);
    ck_assert_int_eq(memcmp(host->backing, host->model, (size_t)20 * BLOCK_BYTES), 0);
    host->flash[DATA_OFFSET + (size_t)3 * BLOCK_BYTES] ^= 1;
    ck_assert_int_eq(host_read(host, 0, 1, 0), -EIO);
    for (int i = 0; counters->flash_reinsert_blocks + counters->segments_kept == 0; i++) {
        ck_assert_int_lt(i, 200);
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host_idle(host, MS);
        if (i == 30)
            host->backing_error = -EIO;
    }
    ck_assert_uint_eq(host->backing_flushes, 0);
    host_idle(host, 5 * MS);
    host->backing_error = 0;
    host_idle(host, 20000 * MS);
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 0);
    host_read_all(host);
    host_free(host);
}
END_TEST

/* The backing store died while each segment had something dirty and many hot clean blocks: these make
 * room, and soon. */
START_TEST(hot_blocks_make_room_soon)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 35);
    uint64_t began, bad = HOST_BLOCKS - 128;
    uint32_t written = 0;
    struct shard_status status;

    host->backing_bad_offset = bad * BLOCK_BYTES;
    do {
        ck_assert_int_eq(host_write(host, written * REGION_BLOCKS, 40, 0, 0, 0), 0);
        ck_assert_int_eq(host_write(host, bad + written, 1, 0, 0, 0), 0);
        written++;
        host_idle(host, 20 * MS);
        shard_status(host->shard, &status);
    } while (status.segments_free > 8);
    host_idle(host, 20000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), written);
    host->backing_error = -EIO;
    for (uint32_t pass = 0; pass < 20; pass++)
        for (uint32_t i = 0; i < written; i++)
            ck_assert_int_eq(host_read(host, i * REGION_BLOCKS, 40, 0), 0);
    began = host->now_ns;
    for (uint32_t i = 0; i < 16; i++)
        ck_assert_int_eq(host_write(host, (80 + i) * REGION_BLOCKS, 40, 0, 0, 0), 0);
    ck_assert_uint_lt(host->now_ns - began, 5000 * MS);
    host_free(host);
}
END_TEST

/* The flash returned nothing for a second while the backing store was dead and each segment had
 * something dirty: it works again. */
START_TEST(a_short_failure_of_the_flash_is_not_its_end)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 36);

    host->policy.stall_timeout_ns = 1000 * MS;
    ck_assert_int_eq(host_boot(host), 1);
    host->backing_error = -EIO;
    for (uint64_t block = 0; block < 2640; block += 8)
        ck_assert_int_eq(host_write(host, block, 8, 0, 0, 0), 0);
    while (host_write(host, host_random(host) % 2640, 1, 0, 0, 0) == 0)
        ;
    host_idle(host, 10000 * MS);
    ck_assert_uint_eq(host->notices[NOTICE_FLASH_FAILED], 0);
    host->flash_read_error = -EIO;
    host_idle(host, 2000 * MS);
    host->flash_read_error = 0;
    host_idle(host, 60000 * MS);
    ck_assert_uint_eq(host->notices[NOTICE_FLASH_FAILED], 0);
    host->backing_error = 0;
    host_idle(host, 60000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    host_free(host);
}
END_TEST

/* That a block is lost moves; its older version, which the end of an earlier epoch needs, stays. */
START_TEST(a_moved_lost_block_hides_no_earlier_epoch)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 37);
    unsigned char older[BLOCK_BYTES], newer[BLOCK_BYTES];
    const struct counters *counters;
    size_t slot = DATA_OFFSET;

    host->config.ordered_volumes = 1;
    host->config.epochs_max = 64;
    host->policy.destage = DESTAGE_ORDERED;
    ck_assert_int_eq(host_boot(host), 1);
    counters = shard_counters(host->shard, HOST_VOLUME);
    shard_epoch_begin(host->shard, HOST_VOLUME, 1, host->now_ns);
    shard_epoch_open(host->shard, HOST_VOLUME, 1, false, host->now_ns);
    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 0, 2, 0, 0, 0), 0);
    memcpy(older, host->model, BLOCK_BYTES);
    shard_epoch_begin(host->shard, HOST_VOLUME, 2, host->now_ns);
    ck_assert_int_eq(host_write(host, 128, 64, 0, 0, 0), 0); /* to another segment */
    ck_assert_int_eq(host_write(host, 0, 1, 0, 0, 0), 0);
    memcpy(newer, host->model, BLOCK_BYTES);
    while (memcmp(host->flash + slot, newer, BLOCK_BYTES) != 0)
        slot += BLOCK_BYTES;
    host->flash[slot] ^= 1;
    ck_assert_int_eq(host_read(host, 0, 1, 0), -EIO);
    for (int i = 0; counters->segments_kept < 1 || i < 80; i++) {
        ck_assert_int_lt(i, 200);
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host_idle(host, 20 * MS);
    }
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 1);
    host->backing_error = 0;
    host_idle(host, 20000 * MS);
    ck_assert_int_eq(memcmp(host->backing, older, BLOCK_BYTES), 0);
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
    tcase_add_loop_test(cases, lost_blocks_pin_no_segment, 0, 2);
    tcase_add_test(cases, unreadable_blocks_hold_up_no_others);
    tcase_add_test(cases, segments_of_unreadable_blocks_are_worn_out);
    tcase_add_loop_test(cases, a_cache_of_clean_blocks_is_not_full, 0, 2);
    tcase_add_test(cases, a_found_block_keeps_the_order);
    tcase_add_test(cases, unreadable_blocks_are_tried_for_ever);
    tcase_add_test(cases, a_lost_block_is_not_unreadable);
    tcase_add_test(cases, a_rotten_block_that_was_written_back_is_not_lost);
    tcase_add_test(cases, hot_blocks_make_room_soon);
    tcase_add_test(cases, a_short_failure_of_the_flash_is_not_its_end);
    tcase_add_test(cases, a_moved_lost_block_hides_no_earlier_epoch);
    return unit_run("engine-failures", cases);
}
