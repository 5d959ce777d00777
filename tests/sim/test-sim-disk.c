/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk keeps its promises, and no more than these. */
#include "tests/sim/sim-disk.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "tests/unit/unit.h"

#define DISK_BYTES (UINT64_C(4) << 20)
#define AT         DATA_OFFSET

static struct disk *disk;
static struct sim_trace trace;
static int last_result;
static unsigned done_count;

static void on_done(struct disk_io *io, int result)
{
    (void)io;
    last_result = result;
    done_count++;
}

static void setup(struct disk_traits traits, uint64_t seed)
{
    if (disk == NULL)
        disk = disk_create(0, DISK_BYTES);
    if (traits.delay_max_ns == 0)
        traits.delay_max_ns = 1000;
    done_count = 0;
    disk_reset(disk, &traits, seed, &trace);
}

static void submit(struct disk_io *io, enum disk_op op, uint64_t offset, void *data,
                   uint64_t length)
{
    disk_io_prepare(io, op, offset, data, length);
    io->done = on_done;
    disk_submit(disk, io, 0);
}

static void run_all(void)
{
    while (disk_run_one(disk, UINT64_MAX - 1))
        ;
}

static int carry_out(enum disk_op op, uint64_t offset, void *data, uint64_t length)
{
    struct disk_io io = {0};

    submit(&io, op, offset, data, length);
    run_all();
    return last_result;
}

static void write_byte(uint64_t offset, int byte, uint64_t length)
{
    unsigned char data[16384];

    memset(data, byte, length);
    ck_assert_int_eq(carry_out(DISK_WRITE, offset, data, length), 0);
}

static bool holds(uint64_t offset, int byte, uint64_t length)
{
    unsigned char data[16384];

    ck_assert_int_eq(carry_out(DISK_READ, offset, data, length), 0);
    for (uint64_t i = 0; i < length; i++)
        if (data[i] != byte)
            return false;
    return true;
}

START_TEST(reads_what_was_written)
{
    setup((struct disk_traits){.write_cache = true}, 1);
    ck_assert(holds(AT, 0, 8192));
    write_byte(AT, 7, 8192);
    write_byte(AT + 4096, 8, 4096);
    ck_assert(holds(AT, 7, 4096));
    ck_assert(holds(AT + 4096, 8, 4096));
    ck_assert_int_eq(carry_out(DISK_ZERO, AT + 512, NULL, 512), 0);
    ck_assert(holds(AT + 512, 0, 512));
    ck_assert(holds(AT + 1024, 7, 512));
}
END_TEST

START_TEST(completes_in_any_order)
{
    bool in_order = false, reversed = false;

    for (uint64_t seed = 0; seed < 50; seed++) {
        struct disk_io first = {0}, second = {0};
        unsigned char one[512], two[512];

        setup((struct disk_traits){0}, seed);
        memset(one, 1, sizeof(one));
        memset(two, 2, sizeof(two));
        submit(&first, DISK_WRITE, AT, one, 512);
        submit(&second, DISK_WRITE, AT, two, 512);
        run_all();
        ck_assert_uint_eq(done_count, 2);
        if (holds(AT, 2, 512))
            in_order = true;
        else
            reversed = true;
    }
    ck_assert(in_order && reversed);
}
END_TEST

START_TEST(takes_the_data_when_it_completes)
{
    struct disk_io io = {0};
    unsigned char data[512];

    setup((struct disk_traits){0}, 1);
    memset(data, 1, sizeof(data));
    submit(&io, DISK_WRITE, AT, data, 512);
    memset(data, 9, sizeof(data));
    run_all();
    ck_assert(holds(AT, 9, 512));
}
END_TEST

START_TEST(without_a_cache_completed_is_durable)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        setup((struct disk_traits){0}, seed);
        write_byte(AT, 5, 4096);
        disk_power_cut(disk);
        ck_assert(holds(AT, 5, 4096));
    }
}
END_TEST

/* Counts what became of a 4 KiB write that was completed, not flushed. */
static void fates(bool garbage, unsigned counts[4])
{
    memset(counts, 0, 4 * sizeof(counts[0]));
    for (uint64_t seed = 0; seed < 600; seed++) {
        unsigned old = 0, new = 0;

        setup((struct disk_traits){.write_cache = true, .garbage = garbage}, seed);
        write_byte(AT, 1, 4096);
        ck_assert_int_eq(carry_out(DISK_FLUSH, 0, NULL, 0), 0);
        write_byte(AT, 2, 4096);
        disk_power_cut(disk);
        for (unsigned sector = 0; sector < 8; sector++) {
            old += holds(AT + sector * 512, 1, 512);
            new += holds(AT + sector * 512, 2, 512);
        }
        counts[new == 8 ? 0 : old == 8 ? 1 : old + new == 8 ? 2 : 3]++;
        ck_assert_int_eq(memcmp(disk_current(disk), disk_durable(disk), DISK_BYTES), 0);
    }
}

START_TEST(unflushed_lands_vanishes_or_tears)
{
    unsigned counts[4];

    fates(false, counts);
    ck_assert(counts[0] > 20 && counts[1] > 20 && counts[2] > 20);
    ck_assert_uint_eq(counts[3], 0);
    fates(true, counts);
    ck_assert(counts[0] > 20 && counts[1] > 20 && counts[2] > 10 && counts[3] > 10);
}
END_TEST

START_TEST(a_flush_covers_what_was_completed_before_it_was_submitted)
{
    bool late_lost = false;

    for (uint64_t seed = 0; seed < 100; seed++) {
        struct disk_io flush = {0}, late = {0};
        unsigned char data[512];

        setup((struct disk_traits){.write_cache = true, .delay_min_ns = 10, .delay_max_ns = 11},
              seed);
        write_byte(AT, 1, 512);
        memset(data, 2, sizeof(data));
        submit(&late, DISK_WRITE, AT + 512, data, 512); /* in flight: not covered */
        submit(&flush, DISK_FLUSH, 0, NULL, 0);
        run_all();
        disk_power_cut(disk);
        ck_assert(holds(AT, 1, 512));
        late_lost |= holds(AT + 512, 0, 512);
    }
    ck_assert(late_lost);
}
END_TEST

START_TEST(a_failed_flush_drops_writes_and_the_next_succeeds)
{
    struct disk_io late = {0};
    unsigned char data[512];

    setup((struct disk_traits){.write_cache = true, .flush_drops_percent = 100}, 1);
    write_byte(AT, 1, 512);
    ck_assert_int_eq(carry_out(DISK_FLUSH, 0, NULL, 0), 0);
    write_byte(AT, 2, 512);
    memset(data, 3, sizeof(data));
    disk_io_prepare(&late, DISK_WRITE, AT + 512, data, 512);
    late.done = on_done;
    late.fua = true;
    disk_submit(disk, &late, 0);
    run_all();
    disk_fail_nth(disk, 1);
    ck_assert_int_eq(carry_out(DISK_FLUSH, 0, NULL, 0), -EIO);
    ck_assert(holds(AT, 1, 512));
    ck_assert(holds(AT + 512, 3, 512));
    ck_assert_uint_eq(disk_stats(disk)->dropped, 1);
    ck_assert_int_eq(carry_out(DISK_FLUSH, 0, NULL, 0), 0);
    disk_power_cut(disk);
    ck_assert(holds(AT, 1, 512));
    ck_assert(holds(AT + 512, 3, 512));
}
END_TEST

START_TEST(fua_is_durable_alone)
{
    bool other_lost = false;

    for (uint64_t seed = 0; seed < 100; seed++) {
        struct disk_io io = {0};
        unsigned char data[512];

        setup((struct disk_traits){.write_cache = true}, seed);
        write_byte(AT, 1, 512);
        write_byte(AT + 512, 1, 512);
        memset(data, 2, sizeof(data));
        disk_io_prepare(&io, DISK_WRITE, AT, data, 512);
        io.done = on_done;
        io.fua = true;
        disk_submit(disk, &io, 0);
        run_all();
        disk_power_cut(disk);
        ck_assert(holds(AT, 2, 512));
        other_lost |= holds(AT + 512, 0, 512);
    }
    ck_assert(other_lost);
}
END_TEST

START_TEST(in_flight_has_a_fate_too)
{
    unsigned landed = 0, vanished = 0;

    for (uint64_t seed = 0; seed < 200; seed++) {
        struct disk_io io = {0};
        unsigned char data[512];

        setup((struct disk_traits){0}, seed);
        memset(data, 3, sizeof(data));
        submit(&io, DISK_WRITE, AT, data, 512);
        disk_power_cut(disk);
        ck_assert_uint_eq(done_count, 0);
        ck_assert_uint_eq(disk_in_flight(disk), 0);
        landed += holds(AT, 3, 512);
        vanished += holds(AT, 0, 512);
    }
    ck_assert(landed > 20 && vanished > 20 && landed + vanished == 200);
}
END_TEST

START_TEST(a_killed_owner_loses_nothing_it_submitted)
{
    struct disk_io io = {0};
    unsigned char data[512];

    setup((struct disk_traits){.write_cache = true}, 1);
    memset(data, 3, sizeof(data));
    submit(&io, DISK_WRITE, AT, data, 512);
    disk_owner_killed(disk);
    ck_assert_uint_eq(done_count, 0);
    ck_assert(holds(AT, 3, 512));
}
END_TEST

START_TEST(a_full_cache_writes_back_the_oldest)
{
    unsigned char data[4096];

    setup((struct disk_traits){.write_cache = true}, 1);
    for (unsigned i = 0; i < 20000; i++) {
        memset(data, (int)(i & 0xff), sizeof(data));
        ck_assert_int_eq(carry_out(DISK_WRITE, AT + i % 16 * 4096, data, sizeof(data)), 0);
    }
    for (unsigned i = 20000 - 16; i < 20000; i++)
        ck_assert(holds(AT + i % 16 * 4096, (int)(i & 0xff), 4096));
}
END_TEST

START_TEST(errors_are_reported_and_leave_a_part)
{
    bool part = false;

    for (uint64_t seed = 0; seed < 50; seed++) {
        unsigned char data[4096];
        unsigned new = 0;

        setup((struct disk_traits){0}, seed);
        memset(data, 1, sizeof(data));
        disk_fail_nth(disk, 1);
        ck_assert_int_eq(carry_out(DISK_WRITE, AT, data, 4096), -EIO);
        ck_assert_int_eq(carry_out(DISK_READ, AT, data, 4096), 0);
        for (unsigned sector = 0; sector < 8; sector++)
            new += data[sector * 512] == 1;
        part |= new > 0 && new < 8;
    }
    ck_assert(part);
}
END_TEST

START_TEST(stuck_until_healed)
{
    struct disk_io io = {0};
    unsigned char data[512] = {0};

    setup((struct disk_traits){.stuck_ppm = 1000000}, 1);
    submit(&io, DISK_READ, AT, data, 512);
    run_all();
    ck_assert_uint_eq(done_count, 0);
    disk_heal(disk, 100);
    ck_assert_uint_eq(disk_next_ns(disk), 100);
    run_all();
    ck_assert_uint_eq(done_count, 1);
    ck_assert_int_eq(last_result, 0);
}
END_TEST

START_TEST(removed_fails_and_changes_nothing)
{
    unsigned char data[512];

    setup((struct disk_traits){0}, 1);
    write_byte(AT, 1, 512);
    disk_remove(disk, 0);
    memset(data, 2, sizeof(data));
    ck_assert_int_eq(carry_out(DISK_WRITE, AT, data, 512), -EIO);
    ck_assert_int_eq(carry_out(DISK_READ, AT, data, 512), -EIO);
    disk_insert(disk);
    ck_assert(holds(AT, 1, 512));
}
END_TEST

START_TEST(what_is_in_flight_fails_when_it_is_removed)
{
    struct disk_io io = {0};
    unsigned char data[512] = {0};

    setup((struct disk_traits){.delay_min_ns = 1000, .delay_max_ns = 1000}, 1);
    submit(&io, DISK_READ, AT, data, 512);
    disk_remove(disk, 10);
    run_all();
    ck_assert_uint_eq(done_count, 1);
    ck_assert_int_eq(last_result, -EIO);
    disk_insert(disk);
    ck_assert_int_eq(carry_out(DISK_READ, AT, data, 512), 0);
    ck_assert_uint_eq(disk_stats(disk)->removals, 1);
    ck_assert_uint_eq(disk_stats(disk)->insertions, 1);
    ck_assert_uint_eq(disk_stats(disk)->read_errors, 1);
}
END_TEST

START_TEST(what_others_write_is_durable_and_newer)
{
    unsigned char data[512];

    for (uint64_t seed = 0; seed < 50; seed++) {
        setup((struct disk_traits){.write_cache = true}, seed);
        write_byte(AT, 1, 512);
        memset(data, 2, sizeof(data));
        disk_poke(disk, AT, data, 512);
        disk_power_cut(disk);
        ck_assert(holds(AT, 2, 512));
    }
}
END_TEST

START_TEST(misdirected_lands_elsewhere)
{
    setup((struct disk_traits){.misdirect_ppm = 1000000}, 3);
    write_byte(AT, 1, 4096);
    ck_assert_uint_eq(disk_stats(disk)->misdirected, 1);
    ck_assert(holds(AT, 0, 4096));
}
END_TEST

START_TEST(rot_flips_bits_for_good)
{
    unsigned char data[4096];
    unsigned wrong = 0;

    setup((struct disk_traits){.write_cache = true}, 1);
    write_byte(AT, 1, 4096);
    ck_assert_int_eq(carry_out(DISK_FLUSH, 0, NULL, 0), 0);
    disk_rot(disk, AT, 4096);
    disk_power_cut(disk);
    ck_assert_int_eq(carry_out(DISK_READ, AT, data, 4096), 0);
    for (unsigned i = 0; i < 4096; i++)
        wrong += data[i] != 1;
    ck_assert(wrong >= 1 && wrong <= 8);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("sim-disk");

    tcase_add_test(cases, reads_what_was_written);
    tcase_add_test(cases, completes_in_any_order);
    tcase_add_test(cases, takes_the_data_when_it_completes);
    tcase_add_test(cases, without_a_cache_completed_is_durable);
    tcase_add_test(cases, unflushed_lands_vanishes_or_tears);
    tcase_add_test(cases, a_flush_covers_what_was_completed_before_it_was_submitted);
    tcase_add_test(cases, a_failed_flush_drops_writes_and_the_next_succeeds);
    tcase_add_test(cases, fua_is_durable_alone);
    tcase_add_test(cases, in_flight_has_a_fate_too);
    tcase_add_test(cases, a_killed_owner_loses_nothing_it_submitted);
    tcase_add_test(cases, a_full_cache_writes_back_the_oldest);
    tcase_add_test(cases, errors_are_reported_and_leave_a_part);
    tcase_add_test(cases, stuck_until_healed);
    tcase_add_test(cases, removed_fails_and_changes_nothing);
    tcase_add_test(cases, what_is_in_flight_fails_when_it_is_removed);
    tcase_add_test(cases, what_others_write_is_durable_and_newer);
    tcase_add_test(cases, misdirected_lands_elsewhere);
    tcase_add_test(cases, rot_flips_bits_for_good);
    return unit_run("sim-disk", cases);
}
