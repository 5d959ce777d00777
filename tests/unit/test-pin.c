/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned ranges: what of them is on flash stays there, up to the bound. */
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define PINNED_FIRST  2000u
#define PINNED_BLOCKS 1000u /* a quarter of the flash */

static void set(struct host *host)
{
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    shard_volume_set(host->shard, HOST_OTHER, &host->other);
    host_idle(host, 1000000000);
}

static struct host *host_pinned(uint64_t first, uint64_t end, uint64_t seed)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, seed);

    host->other = host->policy;
    if (first < end)
        ck_assert_int_eq(ranges_add(&host->policy.pins, first, end), 0);
    ck_assert_int_eq(host_boot(host), 1);
    host_idle(host, 1000000000);
    return host;
}

static struct shard_status status_of(const struct host *host)
{
    struct shard_status status;

    shard_status(host->shard, &status);
    return status;
}

/* Not in sequence. */
static void read_range(struct host *host)
{
    host->volume = HOST_VOLUME;
    for (uint32_t block = 0; block < PINNED_BLOCKS; block += 10)
        for (uint32_t i = 0; i < 10; i++)
            ck_assert_int_eq(host_read(host, PINNED_FIRST + block + i * 7 % 10, 1, 0), 0);
}

static uint64_t misses_of_range(struct host *host)
{
    uint64_t before = shard_counters(host->shard, HOST_VOLUME)->miss_blocks;

    read_range(host);
    return shard_counters(host->shard, HOST_VOLUME)->miss_blocks - before;
}

/* Blocks of the other volume, each often enough that all of it deserves flash: 15 times the flash. */
static void make_noise(struct host *host)
{
    host->volume = HOST_OTHER;
    for (uint32_t i = 0; i < 60000; i++)
        ck_assert_int_eq(host_read(host, host_random(host) % 5000, 1, 0), 0);
    host->volume = HOST_VOLUME;
}

/* Every block of both volumes once, in requests of ten: four times the flash. */
static void scan(struct host *host)
{
    for (uint32_t block = 0; block < HOST_BLOCKS; block += 8)
        for (host->volume = HOST_VOLUME; host->volume <= HOST_OTHER; host->volume++)
            ck_assert_int_eq(host_read(host, block, 8, 0), 0);
    host->volume = HOST_VOLUME;
}

/* With the pin (_i 1) and, to see that it was needed, without. */
START_TEST(pinned_blocks_stay)
{
    struct host *host = host_pinned(PINNED_FIRST, PINNED_FIRST + (_i ? PINNED_BLOCKS : 0), 41);

    read_range(host);
    host_idle(host, 2000000000);
    scan(host);
    make_noise(host);
    scan(host);
    ck_assert_uint_eq(shard_pinned_blocks(host->shard, HOST_VOLUME), _i ? PINNED_BLOCKS : 0);
    if (_i)
        ck_assert_uint_eq(misses_of_range(host), 0);
    else
        ck_assert_uint_ge(misses_of_range(host), PINNED_BLOCKS / 2);
    host_free(host);
}
END_TEST

/* Read once, when the flash is full of what is read often. */
START_TEST(one_read_is_enough)
{
    struct host *host = host_pinned(PINNED_FIRST, PINNED_FIRST + (_i ? PINNED_BLOCKS : 0), 42);

    make_noise(host);
    read_range(host);
    make_noise(host);
    if (_i)
        ck_assert_uint_eq(misses_of_range(host), 0);
    else
        ck_assert_uint_ge(misses_of_range(host), PINNED_BLOCKS / 2);
    host_free(host);
}
END_TEST

/* All of a volume that is larger than the flash is pinned: the other one still gets half of it, and
 * what is appended again is bounded as ever. */
START_TEST(they_take_half_at_most)
{
    struct host *host = host_pinned(0, UINT64_MAX, 43);
    uint64_t most = status_of(host).slots_total / 2, reinserted, filled;

    ck_assert_uint_eq(status_of(host).slots_pinned_max, most);
    for (int i = 0; i < 2; i++) {
        scan(host);
        make_noise(host);
        make_noise(host);
    }
    ck_assert_uint_le(shard_pinned_blocks(host->shard, HOST_VOLUME), most + 64);
    ck_assert_uint_ge(shard_pinned_blocks(host->shard, HOST_VOLUME), most * 9 / 10);
    ck_assert_uint_ge(shard_flash_blocks(host->shard, HOST_OTHER), most * 6 / 10);
    reinserted = shard_counters(host->shard, HOST_VOLUME)->flash_reinsert_blocks +
                 shard_counters(host->shard, HOST_OTHER)->flash_reinsert_blocks;
    filled = shard_counters(host->shard, HOST_VOLUME)->flash_fill_blocks +
             shard_counters(host->shard, HOST_OTHER)->flash_fill_blocks;
    ck_assert_uint_le(reinserted, filled * 3 / 2);
    host_free(host);
}
END_TEST

/* Minimums are kept before pins, but what is pinned of a volume is part of its own. */
START_TEST(minimums_come_first)
{
    struct host *host = host_pinned(0, UINT64_MAX, 44);
    uint64_t total = status_of(host).slots_total;

    host->other.share_min_percent = 60;
    set(host);
    ck_assert_uint_eq(status_of(host).slots_pinned_max, total * 80 / 100 - total * 60 / 100);
    host->other.share_min_percent = 0;
    host->policy.share_min_percent = 80;
    set(host);
    ck_assert_uint_eq(status_of(host).slots_pinned_max, total / 2);
    make_noise(host);
    read_range(host);
    make_noise(host);
    ck_assert_uint_eq(misses_of_range(host), 0);
    host_free(host);
}
END_TEST

/* A change at run time holds for what is on flash. */
START_TEST(ranges_change)
{
    struct host *host = host_pinned(0, 0, 45);

    read_range(host);
    host_idle(host, 2000000000);
    ck_assert_int_eq(ranges_add(&host->policy.pins, PINNED_FIRST, PINNED_FIRST + 400), 0);
    ck_assert_int_eq(ranges_add(&host->policy.pins, PINNED_FIRST + 500, UINT64_MAX), 0);
    set(host);
    ck_assert_uint_eq(shard_pinned_blocks(host->shard, HOST_VOLUME), PINNED_BLOCKS - 100);
    ck_assert_int_eq(ranges_add(&host->policy.pins, PINNED_FIRST, UINT64_MAX), 0);
    set(host);
    make_noise(host);
    ck_assert_uint_eq(misses_of_range(host), 0);
    host->policy.pins.count = 0;
    set(host);
    ck_assert_uint_eq(status_of(host).slots_pinned, 0);
    make_noise(host);
    ck_assert_uint_ge(misses_of_range(host), PINNED_BLOCKS / 2);
    host_free(host);
}
END_TEST

/* Counted right while they are counted again: blocks come and go meanwhile. */
START_TEST(counting_goes_on)
{
    struct host *host = host_pinned(0, 0, 46);
    uint64_t pinned;

    read_range(host);
    host_idle(host, 2000000000);
    for (int i = 0; i < 20; i++) {
        host->policy.pins.count = 0;
        ck_assert_int_eq(ranges_add(&host->policy.pins, PINNED_FIRST + 10 * i, UINT64_MAX), 0);
        shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
        for (uint32_t k = 0; k < 5; k++)
            ck_assert_int_eq(
                host_write(host, PINNED_FIRST + host_random(host) % PINNED_BLOCKS, 1, 0, 0, 0), 0);
    }
    host_destage_all(host);
    host_idle(host, 2000000000);
    pinned = shard_pinned_blocks(host->shard, HOST_VOLUME);
    host->policy.pins.list[0].first--;
    set(host);
    ck_assert_uint_eq(shard_pinned_blocks(host->shard, HOST_VOLUME), pinned + 1);
    host_stop(host);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_uint_eq(shard_pinned_blocks(host->shard, HOST_VOLUME), pinned + 1);
    host_free(host);
}
END_TEST

/* More is promised than the log can give, and all of it is wanted: nothing waits for ever. */
START_TEST(writes_go_on)
{
    struct host *host = host_pinned(0, UINT64_MAX, 47);

    host->other.pins = host->policy.pins;
    host->policy.share_min_percent = host->other.share_min_percent = 50;
    host->policy.dirty_max_percent = 95;
    set(host);
    scan(host);
    make_noise(host);
    for (uint32_t i = 0; i < 6000; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % HOST_BLOCKS, 1, 0, 0, 0), 0);
    host->volume = HOST_OTHER;
    host_destage_all(host);
    host->volume = HOST_VOLUME;
    host_read_all(host);
    host_free(host);
}
END_TEST

/* A stream past the cutoff fills what is pinned; while filling is paused nothing does. */
START_TEST(streams_fill_what_is_pinned)
{
    struct host *host = host_pinned(64, 128, 48);

    ck_assert_int_eq(host_read(host, 64, 64, PIECE_NO_FILL), 0);
    host_idle(host, 2000000000);
    ck_assert_uint_eq(shard_flash_blocks(host->shard, HOST_VOLUME), 0);
    for (uint64_t block = 0; block < 256; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, PIECE_BEYOND | PIECE_SEQUENTIAL), 0);
    host_idle(host, 2000000000);
    ck_assert_uint_eq(shard_flash_blocks(host->shard, HOST_VOLUME), 64);
    ck_assert_uint_eq(shard_pinned_blocks(host->shard, HOST_VOLUME), 64);
    host_free(host);
}
END_TEST

/* When pins hold all that they may, what is pinned beyond that is a stream as any other: it does not push
 * out of RAM what is used. */
START_TEST(streams_fill_no_more_than_fits)
{
    struct host *host = host_pinned(0, UINT64_MAX, 49);
    const struct counters *counters = shard_counters(host->shard, HOST_VOLUME);
    uint64_t filled, block = 0;

    for (; status_of(host).slots_pinned < status_of(host).slots_pinned_max; block += 64) {
        ck_assert_uint_lt(block, HOST_BLOCKS / 2);
        ck_assert_int_eq(host_read(host, block, 64, 0), 0);
        host_idle(host, 100000000);
    }
    filled = counters->fill_blocks;
    for (; block < HOST_BLOCKS; block += 64)
        ck_assert_int_eq(host_read(host, block, 64, PIECE_BEYOND | PIECE_SEQUENTIAL), 0);
    ck_assert_uint_eq(counters->fill_blocks, filled);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("pin");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, pinned_blocks_stay, 0, 2);
    tcase_add_loop_test(cases, one_read_is_enough, 0, 2);
    tcase_add_test(cases, they_take_half_at_most);
    tcase_add_test(cases, minimums_come_first);
    tcase_add_test(cases, ranges_change);
    tcase_add_test(cases, counting_goes_on);
    tcase_add_test(cases, writes_go_on);
    tcase_add_test(cases, streams_fill_what_is_pinned);
    tcase_add_test(cases, streams_fill_no_more_than_fits);
    return unit_run("pin", cases);
}
