/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaim: how much it writes, and that it ends (docs/policy.md). */
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define SEGMENT_BLOCKS (HOST_SEGMENT / BLOCK_BYTES)
#define FLASH_BLOCKS   3600u /* fit on the host's flash for sure */

static const struct counters *counters(const struct host *host)
{
    return shard_counters(host->shard, HOST_VOLUME);
}

static const struct flash_counters *flash_counters(const struct host *host)
{
    return shard_flash_counters(host->shard);
}

static uint32_t segments_free(const struct host *host)
{
    struct shard_status status;

    shard_status(host->shard, &status);
    return (uint32_t)status.segments_free;
}

/* Half of the reads go to so few blocks that they are hot, but do not fit. */
static void read_at_random(struct host *host, uint32_t reads, uint32_t hot)
{
    for (uint32_t i = 0; i < reads; i++) {
        uint64_t range = host_random(host) & 1 ? hot : HOST_BLOCKS;

        ck_assert_int_eq(host_read(host, host_random(host) % range, 1, 0), 0);
    }
}

static uint64_t slots_taken(const struct host *host)
{
    const struct counters *c = counters(host);

    return c->flash_fill_blocks + c->flash_write_blocks + flash_counters(host)->flash_batches;
}

/* For 40 slots that are taken, by blocks that enter flash and by headers, at most 60 blocks are appended
 * again. */
START_TEST(what_is_appended_again_is_bounded)
{
    static const uint32_t hot[] = {1000, 3000, 4500, 7000};
    struct host *host = host_new(MODE_WRITE_BACK, false, 21);
    uint64_t taken, again;

    while (segments_free(host) > 6)
        read_at_random(host, 1000, HOST_BLOCKS);
    read_at_random(host, 1000, HOST_BLOCKS);
    taken = slots_taken(host);
    again = counters(host)->flash_reinsert_blocks;
    read_at_random(host, 60000, hot[_i]);
    for (uint32_t i = 0; i < 4000; i++) /* clients' writes make room the same way */
        ck_assert_int_eq(
            host_write(host, host_random(host) % HOST_BLOCKS, 1, 0, 0, i % 8 ? 0 : PIECE_FUA), 0);
    taken = slots_taken(host) - taken;
    again = counters(host)->flash_reinsert_blocks - again;
    ck_assert_uint_gt(again, 4000);
    ck_assert_uint_le(again, taken * 3 / 2 + SEGMENT_BLOCKS);
    host_free(host);
}
END_TEST

/* All blocks are used as often as counters can say, so that none deserves to go: writes get their room
 * within two rounds of the hand, and from then on it passes few segments for each that it takes. */
START_TEST(the_hand_ends_its_search)
{
    struct host *host = host_new(MODE_WRITE_BACK, _i, 22);
    uint64_t kept, reclaimed;

    for (int pass = 0; pass < 24; pass++)
        for (uint32_t block = 0; block < FLASH_BLOCKS; block += 16)
            ck_assert_int_eq(host_read(host, block, 16, 0), 0);
    kept = flash_counters(host)->segments_kept;
    for (uint32_t block = FLASH_BLOCKS; block < HOST_BLOCKS; block++)
        ck_assert_int_eq(host_write(host, block, 1, 0, 0, 0), 0);
    kept = flash_counters(host)->segments_kept - kept;
    reclaimed = flash_counters(host)->segments_reclaimed;
    ck_assert_uint_ge(kept, host->config.segments / 2); /* there was something to end */
    ck_assert_uint_ge(reclaimed, host->config.segments / 2);
    ck_assert_uint_le(kept, 2 * host->config.segments + 2 * reclaimed);
    host_destage_all(host);
    host_read_all(host);
    host_free(host);
}
END_TEST

static void read_often(struct host *host, uint64_t first, uint64_t end, int passes)
{
    for (int pass = 0; pass < passes; pass++)
        for (uint64_t block = first; block < end; block += 16)
            ck_assert_int_eq(host_read(host, block, 16, 0), 0);
}

/* The oldest segments are used most: the hand passes them, also when closing a segment takes a while. */
START_TEST(the_hand_passes_what_is_used_most)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 23);
    uint64_t most_used = 640;

    read_often(host, 0, most_used, 12);
    read_often(host, most_used, FLASH_BLOCKS - 1000, 3);
    ck_assert_uint_eq(flash_counters(host)->segments_reclaimed, 0);
    for (uint32_t i = 0; flash_counters(host)->segments_reclaimed < 4 && i < 4000; i++) {
        host->footers_held = _i;
        read_often(host, FLASH_BLOCKS + i % 120 * 16, FLASH_BLOCKS + i % 120 * 16 + 16, 1);
        if (i % 4 == 0)
            host_flash_release(host);
    }
    ck_assert_uint_eq(flash_counters(host)->segments_reclaimed, 4);
    ck_assert_uint_ge(flash_counters(host)->segments_kept, most_used / SEGMENT_BLOCKS - 1);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("reclaim");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, what_is_appended_again_is_bounded, 0, 4);
    tcase_add_loop_test(cases, the_hand_ends_its_search, 0, 2);
    tcase_add_loop_test(cases, the_hand_passes_what_is_used_most, 0, 2);
    return unit_run("reclaim", cases);
}
