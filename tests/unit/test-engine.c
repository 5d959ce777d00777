/* SPDX-License-Identifier: Apache-2.0 */
/* One shard on a well-behaved host: contents, modes, restarts, counts of I/Os. */
#include <errno.h>
#include <string.h>

#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

static void random_operation(struct host *host)
{
    uint64_t block = host_random(host) % HOST_BLOCKS;
    uint32_t count = 1 + (uint32_t)(host_random(host) % (host_random(host) & 3 ? 4 : 64));
    uint32_t dice = (uint32_t)(host_random(host) % 100);

    if (host_random(host) & 1)
        block %= 1024; /* a hot set that fits */
    if ((block & 63) + count > 64)
        count = 64 - (uint32_t)(block & 63);
    if (dice < 45)
        ck_assert_int_eq(host_read(host, block, count, 0), 0);
    else if (dice < 48)
        ck_assert_int_eq(host_read(host, block, count, PIECE_NO_FILL), 0);
    else if (dice < 85)
        ck_assert_int_eq(host_write(host, block, count, 0, 0, dice < 52 ? PIECE_FUA : 0), 0);
    else if (dice < 93)
        ck_assert_int_eq(host_write(host, block, count, (uint32_t)(host_random(host) % 2048),
                                    (uint32_t)(host_random(host) % 2048), 0),
                         0);
    else if (dice < 97)
        ck_assert_int_eq(host_zero(host, block, count, dice & 1 ? PIECE_HOLE : 0), 0);
    else if (dice < 99)
        ck_assert_int_eq(host_zero(host, block, count, PIECE_AROUND), 0);
    else
        host_invalidate(host, block, count, 0); /* -EBUSY is as good */
    if (host_random(host) % 500 == 0)
        host_idle(host, host_random(host) % 6000000000u);
}

/* Small cache, large working set: reclaim, reinsertion and destaging run all the time. */
START_TEST(contents_survive)
{
    enum volume_mode mode = (enum volume_mode)(_i / 2);
    struct host *host = host_new(mode, _i % 2, (uint64_t)_i + 1);

    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 1500; i++)
            random_operation(host);
        if (round % 3 == 1)
            host_stop(host);
        if (round % 3 != 0)
            ck_assert_int_eq(host_boot(host), 1);
    }
    host_read_all(host);
    host_destage_all(host);
    ck_assert(memcmp(host->backing, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES) == 0);
    host_free(host);
}
END_TEST

/* DESIGN 5: peers need two to four dependent writes for a durable 4 KiB write. */
START_TEST(one_durable_write_is_one_flash_write)
{
    struct host *host = host_new(MODE_WRITE_BACK, _i, 3);
    uint64_t writes, flushes, metadata = 0;

    ck_assert_int_eq(host_write(host, 0, 1, 0, 0, PIECE_FUA), 0);
    host_idle(host, 100000000); /* segments for later are ready */
    writes = host->flash_writes;
    flushes = host->flash_flushes;
    for (uint32_t i = 0; i < 20; i++) {
        ck_assert_int_eq(host_write(host, i, 1, 0, 0, PIECE_FUA), 0);
        ck_assert_uint_eq(host->flash_writes, ++writes);
    }
    ck_assert_uint_eq(host->backing_writes, 0);
    ck_assert_uint_eq(host->flash_flushes, flushes);
    /* Over many segments: footers and headers add little. */
    writes = host->flash_writes;
    for (uint32_t i = 0; i < 500; i++)
        ck_assert_int_eq(host_write(host, i, 1, 0, 0, PIECE_FUA), 0);
    metadata = host->flash_writes - writes - 500;
    ck_assert_uint_le(metadata, 3 * (2 * 500 / 59 + 2));
    host_free(host);
}
END_TEST

START_TEST(large_write_is_few_flash_writes)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 4);
    uint64_t writes;

    host_write(host, 0, 1, 0, 0, 0);
    host_idle(host, 100000000);
    writes = host->flash_writes;
    ck_assert_int_eq(host_write(host, 64, 40, 0, 0, 0), 0);
    ck_assert_uint_eq(host->flash_writes, writes + 1);
    host_free(host);
}
END_TEST

/* A cached block is not read from the backing store again, in RAM, on flash, or after a restart. */
START_TEST(cache_stays_warm)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 5);
    const struct counters *counters;

    host_idle(host, 100000000);
    for (uint64_t block = 0; block < 2048; block += 32) { /* the second half pushes out the first */
        ck_assert_int_eq(host_read(host, block, 32, 0), 0);
        host_idle(host, 10000000);
    }
    host_idle(host, 2000000000); /* the last batch of clean blocks does not wait for more */
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t block = 0; block < 1024; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    counters = shard_counters(host->shard, HOST_VOLUME);
    ck_assert_uint_eq(counters->flash_hit_blocks, 1024);
    ck_assert_uint_eq(counters->miss_blocks, 0);
    host_free(host);
}
END_TEST

/* However much was written, and whatever is cached: a recovery reads the headers and the footer of each
 * segment, and the rest of the few that were open or ready. */
START_TEST(recovery_reads_no_more_than_metadata)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 14);
    uint64_t metadata = host->config.segments * UINT64_C(3) * BLOCK_BYTES;

    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 3000; i++) {
            uint64_t block = host_random(host) % HOST_BLOCKS;

            ck_assert_int_eq(host_write(host, block, 1, 0, 0, 0), 0);
            ck_assert_int_eq(host_read(host, host_random(host) % HOST_BLOCKS, 1, 0), 0);
        }
        host->recovery_bytes = 0;
        ck_assert_int_eq(host_boot(host), 1);
        ck_assert_uint_ge(host->recovery_bytes, metadata / 2);
        ck_assert_uint_le(host->recovery_bytes, metadata + UINT64_C(8) * HOST_SEGMENT);
    }
    host_free(host);
}
END_TEST

START_TEST(write_through_is_on_both)
{
    struct host *host = host_new(MODE_WRITE_THROUGH, true, 6);

    ck_assert_int_eq(host_write(host, 5, 3, 0, 0, 0), 0);
    ck_assert(memcmp(host->backing + 5 * BLOCK_BYTES, host->model + 5 * BLOCK_BYTES,
                     3 * BLOCK_BYTES) == 0);
    ck_assert_uint_eq(shard_counters(host->shard, HOST_VOLUME)->flash_write_blocks, 3);
    ck_assert_uint_gt(host->flash_fua, 0); /* I3 */
    host_free(host);
}
END_TEST

START_TEST(write_around_drops_the_copy_durably)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 7);

    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    host_destage_all(host);
    host->policy.mode = MODE_WRITE_AROUND;
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    ck_assert_int_eq(host_boot(host), 1); /* the old copy must not come back */
    ck_assert_int_eq(host_read(host, 9, 1, 0), 0);
    host_free(host);
}
END_TEST

/* Volumes that left make room for others, and what is left of them does not belong to those. */
START_TEST(volumes_come_and_go)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 8);
    const struct volume_policy absent = {.present = false};

    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    for (unsigned i = 0; i < 3 * VOLUMES_MAX; i++) {
        uint16_t id = (uint16_t)(HOST_VOLUME + 1 + i);

        shard_volume_set(host->shard, id, &host->policy);
        ck_assert_ptr_nonnull(shard_counters(host->shard, id));
        ck_assert_uint_eq(shard_dirty_blocks(host->shard, id), 0);
        shard_volume_set(host->shard, id, &absent);
        ck_assert_ptr_null(shard_counters(host->shard, id));
    }
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, HOST_VOLUME), 1);
    ck_assert_int_eq(host_read(host, 9, 1, 0), 0);
    host_free(host);
}
END_TEST

/* The one place for ordered destaging goes from volume to volume, and each begins with no history. */
START_TEST(ordered_volumes_come_and_go)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 8);
    const struct volume_policy absent = {.present = false};

    host->config.ordered_volumes = 1;
    host->policy.destage = DESTAGE_ORDERED;
    ck_assert_int_eq(host_boot(host), 1);
    for (uint16_t id = HOST_VOLUME; id < HOST_VOLUME + 5; id++) {
        host->volume = id;
        if (id > HOST_VOLUME)
            shard_volume_set(host->shard, id, &host->policy);
        for (uint64_t epoch = 1; epoch <= 3; epoch++) {
            ck_assert_uint_eq(shard_epoch_begin(host->shard, id, epoch, host->now_ns), UINT64_MAX);
            ck_assert_uint_eq(shard_epoch_broken(host->shard, id), 0);
            shard_epoch_open(host->shard, id, epoch, false, host->now_ns);
            ck_assert_int_eq(host_write(host, 9 + epoch, 3, 0, 0, 0), 0);
            host_destage_all(host);
        }
        host_read_all(host);
        shard_volume_set(host->shard, id, &absent);
    }
    host_free(host);
}
END_TEST

/* What the flash had to do is no volume's: not that of the first, nor does it go when a volume does. */
START_TEST(what_the_flash_does_is_no_volumes)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 9);
    const struct volume_policy absent = {.present = false};
    struct flash_counters before;
    struct counters none = {0};

    host->other = host->policy;
    shard_volume_set(host->shard, HOST_OTHER, &host->other);
    host->volume = HOST_OTHER;
    for (uint64_t block = 0; block < 1024; block += 16)
        ck_assert_int_eq(host_read(host, block, 16, 0), 0);
    host_idle(host, 2000000000);
    ck_assert_mem_eq(shard_counters(host->shard, HOST_VOLUME), &none, sizeof(none));
    before = *shard_flash_counters(host->shard);
    ck_assert_uint_gt(before.flash_metadata_writes, 2);
    ck_assert_uint_gt(before.flash_bytes, 1024 * BLOCK_BYTES);
    for (uint16_t id = HOST_VOLUME; id <= HOST_OTHER; id++) {
        shard_volume_set(host->shard, id, &absent);
        shard_volume_set(host->shard, (uint16_t)(id + 2), &host->policy);
    }
    ck_assert_mem_eq(shard_flash_counters(host->shard), &before, sizeof(before));
    host_free(host);
}
END_TEST

/* What is owed to the backing store: what only the flash has, and nothing that is written through. */
START_TEST(owed_is_what_only_the_flash_has)
{
    struct host *host = host_new(MODE_WRITE_BACK, true, 8);
    uint64_t owed = 0;

    ck_assert_int_eq(host_write(host, 100, 7, 0, 0, 0), 0);
    host->policy.mode = MODE_WRITE_THROUGH;
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    ck_assert_int_eq(host_write(host, 200, 5, 0, 0, 0), 0);
    for (uint32_t cursor = 0; cursor != UINT32_MAX;)
        owed += shard_owed_blocks(host->shard, HOST_VOLUME, &cursor);
    ck_assert_uint_eq(owed, 7);
    ck_assert_uint_ge(shard_dirty_blocks(host->shard, HOST_VOLUME), 7);
    host_destage_all(host);
    for (uint32_t cursor = 0; cursor != UINT32_MAX;)
        ck_assert_uint_eq(shard_owed_blocks(host->shard, HOST_VOLUME, &cursor), 0);
    host_free(host);
}
END_TEST

START_TEST(dirty_block_is_not_invalidated)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 8);

    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    ck_assert_int_eq(host_invalidate(host, 9, 1, 0), -EBUSY);
    ck_assert_int_eq(host_read(host, 9, 1, 0), 0);
    ck_assert_int_eq(host_invalidate(host, 9, 1, PIECE_DISCARD), 0);
    memcpy(host->model + 9 * BLOCK_BYTES, host->backing + 9 * BLOCK_BYTES, BLOCK_BYTES);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_int_eq(host_read(host, 9, 1, 0), 0);
    host_free(host);
}
END_TEST

/* A volatile flash and a client that never flushes: after a while the log says that its FUA writes are
 * durable, so that rot of them is not taken for a tear (hazard 14). */
START_TEST(fua_writes_are_marked_durable)
{
    struct host *host = host_new(MODE_WRITE_BACK, true, 11);
    struct shard_status status;
    uint64_t durable;

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(host_write(host, 9 + i, 1, 0, 0, PIECE_FUA), 0);
    shard_status(host->shard, &status);
    ck_assert_uint_eq(status.durable_lsn, status.next_lsn - 1);
    durable = host->flash_writes;
    host_idle(host, 2000000000);
    ck_assert_uint_eq(host->flash_writes, durable + 1); /* the mark */

    ck_assert_int_eq(host_write(host, 20, 1, 0, 0, 0), 0);
    ck_assert_int_eq(host_write(host, 21, 1, 0, 0, PIECE_FUA), 0);
    shard_status(host->shard, &status);
    ck_assert_uint_lt(status.durable_lsn, status.next_lsn - 2); /* not that of 20 */
    shard_flush_end(host->shard, shard_flush_begin(host->shard));
    shard_status(host->shard, &status);
    ck_assert_uint_eq(status.durable_lsn, status.next_lsn - 1);
    host_free(host);
}
END_TEST

/* The segment with the `absent` also holds what a dead backing store does not take: reclaim keeps it and
 * gives it a place in the ring behind the block's newer record, which must not be hidden by that. */
START_TEST(absent_in_a_kept_segment_hides_nothing)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 10);

    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, 0), 0);
    host_destage_all(host);
    ck_assert_int_eq(host_invalidate(host, 9, 1, 0), 0);
    host->backing_error = -EIO;
    ck_assert_int_eq(host_write(host, 64, 48, 0, 0, 0), 0); /* most of the segment */
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(host_write(host, 128, 64, 0, 0, 0), 0);
    ck_assert_int_eq(host_write(host, 9, 1, 0, 0, PIECE_FUA), 0);
    for (int i = 0; i < _i; i++) { /* until one segment was passed and the other was not */
        ck_assert_int_eq(host_write(host, 128, 64, 0, 0, 0), 0);
        host_idle(host, 200000000);
    }
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_int_eq(host_read(host, 9, 1, 0), 0);
    host->backing_error = 0;
    host_destage_all(host);
    ck_assert(memcmp(host->backing, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES) == 0);
    host_free(host);
}
END_TEST

START_TEST(scan_does_not_wear_a_full_flash)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 9);
    uint64_t filled;

    for (int pass = 0; pass < 2; pass++) /* fill the flash, so that no free room is left */
        for (uint64_t block = 0; block < HOST_BLOCKS; block += 64)
            ck_assert_int_eq(host_write(host, block, 64, 0, 0, 0), 0);
    host_destage_all(host);
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t block = 0; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    filled = shard_counters(host->shard, HOST_VOLUME)->flash_fill_blocks;
    ck_assert_uint_le(filled, 64);
    host_free(host);
}
END_TEST

static uint64_t misses(const struct host *host)
{
    return shard_counters(host->shard, HOST_VOLUME)->miss_blocks;
}

START_TEST(what_was_read_outlives_the_process)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 11);

    for (uint64_t block = 0; block < 2048; block += 256) /* apart: no run */
        ck_assert_int_eq(host_read(host, block, 13, 0), 0);
    host_idle(host, 2000000000);
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t block = 0; block < 2048; block += 256)
        ck_assert_int_eq(host_read(host, block, 13, 0), 0);
    ck_assert_uint_eq(misses(host), 0);
    host_free(host);
}
END_TEST

/* Nor does it say anything of hits: what is there already was not read either. */
START_TEST(prefetching_is_no_reading)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 15);
    const struct counters *counters = shard_counters(host->shard, HOST_VOLUME);

    ck_assert_int_eq(host_write(host, 0, 8, 0, 0, 0), 0);
    ck_assert_int_eq(host_zero(host, 8, 8, 0), 0);
    host_idle(host, 1000000000);
    ck_assert_int_eq(host_prefetch(host, 0, 64), 0);
    ck_assert_int_eq(host_prefetch(host, 0, 64), 0);
    ck_assert_uint_eq(counters->fill_blocks, 48);
    ck_assert_uint_eq(counters->read_pieces + counters->read_blocks + counters->miss_blocks, 0);
    ck_assert_uint_eq(
        counters->ram_hit_blocks + counters->flash_hit_blocks + counters->zero_hit_blocks, 0);
    ck_assert_int_eq(host_read(host, 0, 64, 0), 0);
    ck_assert_uint_eq(counters->read_blocks, 64);
    ck_assert_uint_eq(misses(host), 0);
    host_free(host);
}
END_TEST

/* Reads do not wait for the flash; RAM keeps what it can until the flash takes it. */
START_TEST(fills_wait_for_a_slow_flash)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 12);
    struct shard_status status;

    host_idle(host, 1000000000);
    host->flash_held = true;
    for (uint64_t block = 0; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    shard_status(host->shard, &status);
    ck_assert_uint_eq(status.slots_used, 0);
    ck_assert_uint_eq(shard_counters(host->shard, HOST_VOLUME)->overrun_blocks,
                      HOST_BLOCKS - status.frames_used);
    host_flash_release(host);
    host_idle(host, 2000000000);
    shard_status(host->shard, &status);
    ck_assert_uint_ge(status.slots_used, SHARD_FRAMES_MIN * 9 / 10);
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t block = 0; block < SHARD_FRAMES_MIN * 9 / 10; block++)
        ck_assert_int_eq(host_read(host, block, 1, 0), 0);
    ck_assert_uint_eq(misses(host), 0);
    host_free(host);
}
END_TEST

/* What waits for the flash leaves RAM enough for what is read meanwhile. */
START_TEST(ram_serves_while_fills_wait)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 14);
    uint64_t before;

    host_ram(host, 4096);
    host_idle(host, 1000000000);
    host->flash_held = true;
    for (uint64_t block = 0; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    before = misses(host);
    for (uint64_t block = HOST_BLOCKS - 512; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    ck_assert_uint_eq(misses(host), before);
    host_flash_release(host);
    host_free(host);
}
END_TEST

/* While fills keep the flash busy, a write still finds a batch. */
START_TEST(fills_leave_room_for_writes)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 13);

    host_idle(host, 1000000000);
    ck_assert_int_eq(host_write(host, 0, 1, 0, 0, 0), 0);
    host->flash_held = true;
    for (uint64_t block = 64; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
    ck_assert_uint_le(host->waiting_count, 4); /* three batches, a segment header */
    host_flash_release(host);
    host_idle(host, 2000000000);
    host_read_all(host);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("engine");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, contents_survive, 0, 8);
    tcase_add_loop_test(cases, one_durable_write_is_one_flash_write, 0, 2);
    tcase_add_test(cases, large_write_is_few_flash_writes);
    tcase_add_test(cases, cache_stays_warm);
    tcase_add_test(cases, recovery_reads_no_more_than_metadata);
    tcase_add_test(cases, write_through_is_on_both);
    tcase_add_test(cases, write_around_drops_the_copy_durably);
    tcase_add_test(cases, volumes_come_and_go);
    tcase_add_test(cases, ordered_volumes_come_and_go);
    tcase_add_test(cases, what_the_flash_does_is_no_volumes);
    tcase_add_test(cases, owed_is_what_only_the_flash_has);
    tcase_add_test(cases, dirty_block_is_not_invalidated);
    tcase_add_test(cases, fua_writes_are_marked_durable);
    tcase_add_loop_test(cases, absent_in_a_kept_segment_hides_nothing, 38, 50);
    tcase_add_test(cases, scan_does_not_wear_a_full_flash);
    tcase_add_test(cases, what_was_read_outlives_the_process);
    tcase_add_test(cases, prefetching_is_no_reading);
    tcase_add_test(cases, fills_wait_for_a_slow_flash);
    tcase_add_test(cases, ram_serves_while_fills_wait);
    tcase_add_test(cases, fills_leave_room_for_writes);
    return unit_run("engine", cases);
}
