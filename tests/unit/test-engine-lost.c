/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty blocks that rotted on flash, and those that the flash does not return. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define MS UINT64_C(1000000)

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

/* The volume has its first epoch. */
static void boot_ordered(struct host *host)
{
    host->config.ordered_volumes = 1;
    host->config.epochs_max = 64;
    host->policy.destage = DESTAGE_ORDERED;
    ck_assert_int_eq(host_boot(host), 1);
    shard_epoch_begin(host->shard, HOST_VOLUME, 1, host->now_ns);
    shard_epoch_open(host->shard, HOST_VOLUME, 1, false, host->now_ns);
}

/* A block that was lost and can be read again, of a volume with ordered destaging. */
START_TEST(a_found_block_keeps_the_order)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 31);
    unsigned char *slot = host->flash + DATA_OFFSET + (size_t)3 * BLOCK_BYTES;
    const struct counters *counters;

    boot_ordered(host);
    counters = shard_counters(host->shard, HOST_VOLUME);
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
    for (int i = 0;
         counters->flash_reinsert_blocks + shard_flash_counters(host->shard)->segments_kept == 0;
         i++) {
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
    const struct flash_counters *counters;
    size_t slot = DATA_OFFSET;

    boot_ordered(host);
    counters = shard_flash_counters(host->shard);
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

/* What the hand reads wrong once, and right the next time, is not lost: it is the only copy. */
START_TEST(a_wrong_read_of_the_hand_destroys_nothing)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 36);

    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 0, 20, 0, 0, 0), 0);
    host_idle(host, 60000 * MS); /* destaging tries rarely by now */
    host->wrong_read_offset = DATA_OFFSET + 3 * BLOCK_BYTES;
    for (int i = 0; host->wrong_read_offset != 0; i++) {
        ck_assert_int_lt(i, 200);
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host_idle(host, 5 * MS);
    }
    ck_assert_uint_eq(host->notices[NOTICE_DIRTY_LOST], 1);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host_idle(host, 5 * MS);
    }
    ck_assert_uint_eq(shard_lost_blocks(host->shard, HOST_VOLUME), 0);
    ck_assert_int_eq(host_read(host, 0, 20, 0), 0);
    host->backing_error = 0;
    host_destage_all(host);
    ck_assert_int_eq(memcmp(host->backing, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES), 0);
    host_free(host);
}
END_TEST

/* Copies of dirty blocks are on their way when the blocks themselves reach the backing store: the volume
 * is not clean before the copies are there, and may not leave. */
START_TEST(copies_on_their_way_are_dirty)
{
    const struct volume_policy absent = {.present = false};
    struct host *host = host_new(MODE_WRITE_BACK, false, 33);
    const struct counters *counters;

    if (_i)
        boot_ordered(host);
    else
        ck_assert_int_eq(host_boot(host), 1);
    counters = shard_counters(host->shard, HOST_VOLUME);
    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 0, 20, 0, 0, 0), 0);
    for (int i = 0; counters->flash_reinsert_blocks == 0; i++) {
        ck_assert_int_lt(i, 500);
        host_flash_release(host);
        host_idle(host, MS);
        ck_assert_int_eq(host_write(host, 128 + i % 2 * 64, 64, 0, 0, 0), 0);
        host->flash_held = true;
        host_idle(host, 20 * MS);
    }
    ck_assert_uint_gt(host->waiting_count, 0);
    host->backing_error = 0;
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 10000 * MS);
    ck_assert_uint_gt(shard_dirty_blocks(host->shard, HOST_VOLUME), 0);
    host_flash_release(host);
    host_destage_all(host);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    shard_volume_set(host->shard, HOST_VOLUME, &absent);
    host_idle(host, 1000 * MS);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, VOLUME_ALL), 0);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("engine-lost");

    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, lost_blocks_pin_no_segment, 0, 2);
    tcase_add_test(cases, unreadable_blocks_hold_up_no_others);
    tcase_add_test(cases, segments_of_unreadable_blocks_are_worn_out);
    tcase_add_test(cases, a_found_block_keeps_the_order);
    tcase_add_test(cases, unreadable_blocks_are_tried_for_ever);
    tcase_add_test(cases, a_lost_block_is_not_unreadable);
    tcase_add_test(cases, a_rotten_block_that_was_written_back_is_not_lost);
    tcase_add_test(cases, hot_blocks_make_room_soon);
    tcase_add_test(cases, a_short_failure_of_the_flash_is_not_its_end);
    tcase_add_test(cases, a_moved_lost_block_hides_no_earlier_epoch);
    tcase_add_loop_test(cases, copies_on_their_way_are_dirty, 0, 2);
    tcase_add_test(cases, a_wrong_read_of_the_hand_destroys_nothing);
    return unit_run("engine-lost", cases);
}
