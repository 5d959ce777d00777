/* SPDX-License-Identifier: Apache-2.0 */
/* What volumes may take of the flash, and what others must leave them. */
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define QUIET_BLOCKS 1000u /* that are read of the quiet volume: a quarter of the flash */

static struct host *host_two(uint32_t min_percent, uint32_t noisy_max_percent, uint64_t seed)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, seed);

    host->policy.share_min_percent = min_percent;
    host->other = host->policy;
    host->other.share_min_percent = 0;
    host->other.share_max_percent = noisy_max_percent;
    ck_assert_int_eq(host_boot(host), 1);
    host_idle(host, 1000000000);
    return host;
}

static uint64_t capacity(const struct host *host)
{
    struct shard_status status;

    shard_status(host->shard, &status);
    return status.slots_total;
}

static void read_quiet(struct host *host)
{
    host->volume = HOST_VOLUME;
    for (uint32_t block = 0; block < QUIET_BLOCKS; block += 10)
        for (uint32_t i = 0; i < 10; i++) /* not in sequence */
            ck_assert_int_eq(host_read(host, block + i * 7 % 10, 1, 0), 0);
}

/* Many blocks, often. */
static void make_noise(struct host *host)
{
    host->volume = HOST_OTHER;
    for (uint32_t i = 0; i < 60000; i++)
        ck_assert_int_eq(host_read(host, host_random(host) % 5000, 1, 0), 0);
    host->volume = HOST_VOLUME;
}

/* With the share (_i 1) and, to see that it was needed, without. */
START_TEST(noise_does_not_push_below_the_minimum)
{
    struct host *host = host_two(_i ? 30 : 0, 0, 31);
    uint64_t missed;

    read_quiet(host);
    host_idle(host, 2000000000);
    ck_assert_uint_ge(shard_flash_blocks(host->shard, HOST_VOLUME), QUIET_BLOCKS);
    make_noise(host);
    missed = shard_counters(host->shard, HOST_VOLUME)->miss_blocks;
    read_quiet(host);
    missed = shard_counters(host->shard, HOST_VOLUME)->miss_blocks - missed;
    if (_i)
        ck_assert_uint_eq(missed, 0);
    else
        ck_assert_uint_ge(missed, QUIET_BLOCKS / 2);
    host_free(host);
}
END_TEST

/* What was promised is there to be taken, also when the flash is full of what is used more. */
START_TEST(a_volume_gets_what_it_was_promised)
{
    struct host *host = host_two(30, 0, 32);

    make_noise(host);
    for (int i = 0; i < 6; i++)
        read_quiet(host);
    make_noise(host);
    ck_assert_uint_ge(shard_flash_blocks(host->shard, HOST_VOLUME), QUIET_BLOCKS * 9 / 10);
    host_free(host);
}
END_TEST

START_TEST(a_volume_takes_no_more_than_its_maximum)
{
    struct host *host = host_two(0, 20, 33);
    uint64_t most = capacity(host) / 5;

    make_noise(host);
    ck_assert_uint_le(shard_flash_blocks(host->shard, HOST_OTHER), most + 64);
    ck_assert_uint_ge(shard_flash_blocks(host->shard, HOST_OTHER), most / 2);
    host_free(host);
}
END_TEST

/* More is promised than the log can give, and all of it is wanted: reclaim must not search for ever. */
START_TEST(too_many_promises_stop_nothing)
{
    struct host *host = host_two(50, 0, 34);

    host->other.share_min_percent = 50;
    ck_assert_int_eq(host_boot(host), 1);
    for (uint32_t block = 0; block < HOST_BLOCKS; block++)
        ck_assert_int_eq(host_read(host, block * 5 % HOST_BLOCKS, 1, 0), 0);
    make_noise(host);
    for (uint32_t i = 0; i < 6000; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % HOST_BLOCKS, 1, 0, 0, 0), 0);
    host_destage_all(host);
    host_read_all(host);
    host_free(host);
}
END_TEST

/* The counts are those of recovery, too. */
START_TEST(counts_survive)
{
    struct host *host = host_two(30, 50, 35);
    uint64_t quiet, noisy;

    read_quiet(host);
    make_noise(host);
    for (uint32_t i = 0; i < 500; i++)
        ck_assert_int_eq(host_write(host, host_random(host) % HOST_BLOCKS, 1, 0, 0, 0), 0);
    host_destage_all(host);
    host_stop(host);
    quiet = shard_flash_blocks(host->shard, HOST_VOLUME);
    noisy = shard_flash_blocks(host->shard, HOST_OTHER);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_uint_eq(shard_flash_blocks(host->shard, HOST_VOLUME), quiet);
    ck_assert_uint_eq(shard_flash_blocks(host->shard, HOST_OTHER), noisy);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("share");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, noise_does_not_push_below_the_minimum, 0, 2);
    tcase_add_test(cases, a_volume_gets_what_it_was_promised);
    tcase_add_test(cases, a_volume_takes_no_more_than_its_maximum);
    tcase_add_test(cases, too_many_promises_stop_nothing);
    tcase_add_test(cases, counts_survive);
    return unit_run("share", cases);
}
