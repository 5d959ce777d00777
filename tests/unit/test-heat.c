/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: what is worth a place on flash. */
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define OLD_BLOCKS 3000u /* three quarters of the flash */
#define NEW_FIRST  4000u
#define NEW_BLOCKS 2500u

/* Each once, not in sequence. */
static uint64_t round_of(struct host *host, uint32_t first, uint32_t blocks)
{
    uint64_t before = shard_counters(host->shard, HOST_VOLUME)->miss_blocks;

    for (uint32_t i = 0; i < blocks; i++)
        ck_assert_int_eq(host_read(host, first + i * 1237 % blocks, 1, 0), 0);
    return shard_counters(host->shard, HOST_VOLUME)->miss_blocks - before;
}

/* The more often used the lower its number, by a power law. */
static uint32_t popular(struct host *host)
{
    double place = (double)(host_random(host) % 1000000 + 1) / 1e6;

    return (uint32_t)((HOST_BLOCKS - 1) * place * place * place * place);
}

/* Of what was used twice much comes back, but later than what would have to go for it is used: what flash has
 * settles, and is not written over and over. */
START_TEST(flash_settles)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 51);
    const struct counters *counters;
    uint64_t missed, filled;

    ck_assert_int_eq(host_boot(host), 1);
    host_idle(host, 1000000000);
    counters = shard_counters(host->shard, HOST_VOLUME);
    for (uint32_t i = 0; i < 100000; i++)
        ck_assert_int_eq(host_read(host, popular(host), 1, 0), 0);
    missed = counters->miss_blocks;
    filled = counters->flash_fill_blocks + counters->flash_reinsert_blocks;
    for (uint32_t i = 0; i < 100000; i++)
        ck_assert_int_eq(host_read(host, popular(host), 1, 0), 0);
    missed = counters->miss_blocks - missed;
    filled = counters->flash_fill_blocks + counters->flash_reinsert_blocks - filled;
    ck_assert_uint_le(missed, 22500);
    ck_assert_uint_le(4 * filled, missed);
    host_free(host);
}
END_TEST

/* Blocks used twice each, once and never again: they do not push out what is in use. */
START_TEST(passers_by_stay_out)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 52);
    uint64_t missed, filled;

    host->other = host->policy;
    ck_assert_int_eq(host_boot(host), 1);
    host_idle(host, 1000000000);
    for (int i = 0; i < 8; i++)
        round_of(host, 0, OLD_BLOCKS);
    filled = shard_counters(host->shard, HOST_OTHER)->flash_fill_blocks;
    for (uint32_t block = 0; block < 8000; block += 200) {
        host->volume = HOST_OTHER;
        for (int k = 0; k < 2; k++)
            for (uint32_t i = 0; i < 200; i++)
                ck_assert_int_eq(host_read(host, block + i * 7 % 200, 1, 0), 0);
        host->volume = HOST_VOLUME;
        for (uint32_t i = 0; i < 400; i++)
            ck_assert_int_eq(host_read(host, host_random(host) % OLD_BLOCKS, 1, 0), 0);
    }
    filled = shard_counters(host->shard, HOST_OTHER)->flash_fill_blocks - filled;
    missed = round_of(host, 0, OLD_BLOCKS);
    ck_assert_uint_le(filled, HOST_BLOCKS / 10); /* while there was free room */
    ck_assert_uint_le(missed, OLD_BLOCKS / 20);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("heat");

    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, flash_settles);
    tcase_add_test(cases, passers_by_stay_out);
    return unit_run("heat", cases);
}
