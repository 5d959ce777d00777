/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle accepts what a disk may do, and finds what a broken cache would do. */
#include "tests/sim/sim-oracle.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "tests/unit/unit.h"

#define VOLUME_BYTES (16 * BLOCK_BYTES + 3 * SECTOR_BYTES)

enum {
    BLOCKS,
    SECTORS
}; /* the two volumes */

static struct oracle *oracle;

static void setup(void)
{
    static const struct oracle_volume volumes[] = {
        [BLOCKS] = {.bytes = VOLUME_BYTES, .atomic_blocks = true},
        [SECTORS] = {.bytes = VOLUME_BYTES, .atomic_blocks = false},
    };

    oracle = oracle_create();
    oracle_reset(oracle, volumes, 2);
}

static void teardown(void)
{
    oracle_destroy(oracle);
}

/* ---- a block as it could be read --------------------------------------------------------- */

struct block {
    unsigned char data[BLOCK_BYTES];
};

static void lay(struct block *block, const struct oracle_op *op, uint64_t number)
{
    for (uint64_t i = 0; i < BLOCK_BYTES; i++) {
        uint64_t at = number * BLOCK_BYTES + i;
        unsigned char sector[SECTOR_BYTES];

        if (at < op->offset || at >= op->offset + op->length)
            continue;
        content_fill(oracle_content(oracle), sector, op->volume, at / SECTOR_BYTES, op->id);
        block->data[i] = sector[at % SECTOR_BYTES];
    }
}

static struct oracle_op begin_at(uint16_t volume, uint64_t offset, uint64_t length)
{
    struct oracle_op op = {.volume = volume, .offset = offset, .length = length};

    oracle_write_begin(oracle, &op);
    return op;
}

static struct oracle_op write_at(uint16_t volume, uint64_t offset, uint64_t length)
{
    struct oracle_op op = begin_at(volume, offset, length);

    oracle_write_end(oracle, &op, 0);
    return op;
}

static void flush(uint16_t volume)
{
    struct oracle_op op = {.volume = volume};

    oracle_flush_begin(oracle, &op);
    oracle_flush_end(oracle, &op, 0);
}

static struct oracle_op read_begin(uint16_t volume, uint64_t block)
{
    struct oracle_op op = {.volume = volume, .offset = block * BLOCK_BYTES, .length = SECTOR_BYTES};

    oracle_read_begin(oracle, &op);
    return op;
}

static bool read_end(struct oracle_op *op, const struct block *seen)
{
    bool legal = oracle_read_block(oracle, op, op->offset / BLOCK_BYTES, seen->data);

    oracle_read_end(oracle, op);
    return legal;
}

static bool reads(uint16_t volume, uint64_t number, const struct block *seen)
{
    struct oracle_op op = read_begin(volume, number);

    return read_end(&op, seen);
}

/* ---- without a crash ---------------------------------------------------------------------- */

START_TEST(starts_with_zeros)
{
    struct block zeros = {{0}}, other = {{1}};

    ck_assert(reads(BLOCKS, 0, &zeros));
    ck_assert(!reads(BLOCKS, 0, &other));
}
END_TEST

START_TEST(finds_a_stale_read)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op second = write_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&old, &first, 0);
    lay(&new, &second, 0);
    ck_assert(!reads(BLOCKS, 0, &old));
    ck_assert(reads(BLOCKS, 0, &new));
}
END_TEST

START_TEST(finds_another_blocks_data)
{
    struct block foreign = {{0}};
    struct oracle_op op = write_at(BLOCKS, 0, 2 * BLOCK_BYTES);

    lay(&foreign, &op, 1);
    ck_assert(reads(BLOCKS, 1, &foreign));
    ck_assert(!reads(BLOCKS, 0, &foreign));
    ck_assert_ptr_nonnull(strstr(oracle_why(oracle), "(foreign)"));
}
END_TEST

START_TEST(a_concurrent_write_may_be_seen_or_not)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op op = begin_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&new, &op, 0);
    ck_assert(reads(BLOCKS, 0, &new));
    ck_assert(reads(BLOCKS, 0, &old));
    oracle_write_end(oracle, &op, 0);
    ck_assert(!reads(BLOCKS, 0, &old));
    ck_assert(reads(BLOCKS, 0, &new));
}
END_TEST

START_TEST(a_read_that_began_before_may_see_the_old)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op write = begin_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op early = read_begin(BLOCKS, 0);
    struct oracle_op early_too = read_begin(BLOCKS, 0);
    struct oracle_op late;

    lay(&new, &write, 0);
    oracle_write_end(oracle, &write, 0);
    flush(BLOCKS);
    late = read_begin(BLOCKS, 0);
    ck_assert(read_end(&early, &old));
    ck_assert(read_end(&early_too, &new));
    ck_assert(!read_end(&late, &old));
}
END_TEST

START_TEST(finds_a_torn_block_where_blocks_are_atomic)
{
    struct block torn = {{0}};
    struct oracle_op op = begin_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op half;

    half = op;
    half.length = BLOCK_BYTES / 2;
    lay(&torn, &half, 0);
    ck_assert(!reads(BLOCKS, 0, &torn));
    op = begin_at(SECTORS, 0, BLOCK_BYTES);
    half = op;
    half.length = BLOCK_BYTES / 2;
    lay(&torn, &half, 0);
    ck_assert(reads(SECTORS, 0, &torn));
}
END_TEST

START_TEST(orders_of_concurrent_partial_writes)
{
    struct block both = {{0}}, lost = {{0}};
    struct oracle_op left = begin_at(BLOCKS, 0, 2048);
    struct oracle_op right = begin_at(BLOCKS, 2048, 2048);
    struct oracle_op over = begin_at(BLOCKS, 512, 1024);

    oracle_write_end(oracle, &right, 0);
    oracle_write_end(oracle, &left, 0);
    lay(&both, &left, 0);
    lay(&both, &right, 0);
    ck_assert(reads(BLOCKS, 0, &both)); /* `over` has not ended */
    lay(&both, &over, 0);
    ck_assert(reads(BLOCKS, 0, &both));
    oracle_write_end(oracle, &over, 0);
    ck_assert(reads(BLOCKS, 0, &both));
    lay(&lost, &left, 0);
    lay(&lost, &over, 0);
    ck_assert(!reads(BLOCKS, 0, &lost)); /* the right half's write is lost */
}
END_TEST

START_TEST(odd_bytes_merge)
{
    struct block seen = {{0}};
    struct oracle_op under = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op odd = write_at(BLOCKS, 100, 1000);

    lay(&seen, &under, 0);
    ck_assert(!reads(BLOCKS, 0, &seen));
    lay(&seen, &odd, 0);
    ck_assert(reads(BLOCKS, 0, &seen));
    seen.data[99] ^= 1;
    ck_assert(!reads(BLOCKS, 0, &seen));
}
END_TEST

START_TEST(the_last_block_may_be_short)
{
    struct block seen = {{0}};
    struct oracle_op op = write_at(BLOCKS, 16 * BLOCK_BYTES, 3 * SECTOR_BYTES);

    lay(&seen, &op, 16);
    memset(seen.data + 3 * SECTOR_BYTES, 0xee, SECTOR_BYTES); /* nobody looks */
    ck_assert(reads(BLOCKS, 16, &seen));
}
END_TEST

START_TEST(a_failed_write_may_have_happened)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op op = begin_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&new, &op, 0);
    oracle_write_end(oracle, &op, -EIO);
    ck_assert(reads(BLOCKS, 0, &new));
    ck_assert(!reads(BLOCKS, 0, &old)); /* but then it has */
}
END_TEST

/* ---- crashes ------------------------------------------------------------------------------ */

START_TEST(a_flushed_write_survives)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op op = write_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&new, &op, 0);
    flush(BLOCKS);
    oracle_crash(oracle, true, false);
    ck_assert(!reads(BLOCKS, 0, &old));
    ck_assert(reads(BLOCKS, 0, &new));
}
END_TEST

START_TEST(an_unflushed_write_may_be_lost_and_a_read_tells)
{
    struct block zeros = {{0}}, one = {{0}}, two = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op second = write_at(BLOCKS, 0, BLOCK_BYTES);
    uint64_t blocks[4];

    lay(&one, &first, 0);
    lay(&two, &second, 0);
    oracle_crash(oracle, true, false);
    ck_assert_uint_eq(oracle_ambiguous(oracle, BLOCKS, blocks, 4), 1);
    ck_assert_uint_eq(blocks[0], 0);
    ck_assert(reads(BLOCKS, 0, &one));
    ck_assert_uint_eq(oracle_ambiguous(oracle, BLOCKS, blocks, 4), 0);
    ck_assert(!reads(BLOCKS, 0, &two));
    ck_assert(!reads(BLOCKS, 0, &zeros));
    oracle_crash(oracle, true, false); /* recovery's verdict is durable */
    ck_assert(!reads(BLOCKS, 0, &zeros));
    ck_assert(reads(BLOCKS, 0, &one));
}
END_TEST

START_TEST(a_flush_covers_what_ended_before_it_was_sent)
{
    struct block old = {{0}};
    struct oracle_op flush_op = {.volume = BLOCKS};
    struct oracle_op early = write_at(BLOCKS, 0, BLOCK_BYTES), late;

    (void)early;
    oracle_flush_begin(oracle, &flush_op);
    late = write_at(BLOCKS, BLOCK_BYTES, BLOCK_BYTES);
    (void)late;
    oracle_flush_end(oracle, &flush_op, 0);
    oracle_crash(oracle, true, false);
    ck_assert(!reads(BLOCKS, 0, &old));
    ck_assert(reads(BLOCKS, 1, &old));
}
END_TEST

/* It may have landed behind one that succeeded meanwhile, and that comes back at a power cut. */
START_TEST(a_failed_write_does_not_hide_what_it_ran_beside)
{
    struct block zeros = {{0}}, first = {{0}}, other = {{0}};
    struct oracle_op good = begin_at(BLOCKS, 0, BLOCK_BYTES),
                     bad = begin_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&first, &good, 0);
    lay(&other, &bad, 0);
    oracle_write_end(oracle, &bad, -EIO);
    oracle_write_end(oracle, &good, 0);
    ck_assert(!reads(BLOCKS, 0, &zeros));
    ck_assert(reads(BLOCKS, 0, &other));
    ck_assert(!reads(BLOCKS, 0, &zeros));
    oracle_crash(oracle, true, false);
    ck_assert(reads(BLOCKS, 0, &first));
}
END_TEST

START_TEST(a_failed_flush_covers_nothing_and_volumes_are_apart)
{
    struct block old = {{0}};
    struct oracle_op flush_op = {.volume = BLOCKS};

    write_at(BLOCKS, 0, BLOCK_BYTES);
    oracle_flush_begin(oracle, &flush_op);
    oracle_flush_end(oracle, &flush_op, -EIO);
    flush(SECTORS);
    oracle_crash(oracle, true, false);
    ck_assert(reads(BLOCKS, 0, &old));
}
END_TEST

START_TEST(fua_survives_alone)
{
    struct block old = {{0}}, new = {{0}};
    struct oracle_op op = {.volume = BLOCKS, .fua = true, .length = BLOCK_BYTES};

    write_at(BLOCKS, 0, BLOCK_BYTES);
    write_at(BLOCKS, BLOCK_BYTES, BLOCK_BYTES);
    oracle_write_begin(oracle, &op);
    oracle_write_end(oracle, &op, 0);
    lay(&new, &op, 0);
    oracle_crash(oracle, true, false);
    ck_assert(!reads(BLOCKS, 0, &old));
    ck_assert(reads(BLOCKS, 0, &new));
    ck_assert(reads(BLOCKS, 1, &old));
}
END_TEST

START_TEST(a_crash_tears_sectors_but_not_blocks)
{
    for (uint16_t volume = BLOCKS; volume <= SECTORS; volume++) {
        struct block torn = {{0}};
        struct oracle_op op = write_at(volume, 0, BLOCK_BYTES);

        op.length = 512;
        lay(&torn, &op, 0);
        oracle_crash(oracle, true, false);
        ck_assert_int_eq(reads(volume, 0, &torn), volume == SECTORS);
    }
}
END_TEST

START_TEST(a_write_in_flight_at_the_crash_may_land)
{
    struct block new = {{0}}, old = {{0}};
    struct oracle_op op = begin_at(BLOCKS, 0, BLOCK_BYTES);

    lay(&new, &op, 0);
    oracle_crash(oracle, true, false);
    ck_assert(reads(BLOCKS, 0, &new));
    ck_assert(!reads(BLOCKS, 0, &old));
}
END_TEST

START_TEST(a_killed_process_loses_nothing_until_the_power_goes)
{
    for (unsigned recovered = 0; recovered < 2; recovered++) {
        struct block old = {{0}}, new = {{0}};
        struct oracle_op op = write_at(BLOCKS, recovered * BLOCK_BYTES, BLOCK_BYTES);

        lay(&new, &op, recovered);
        oracle_crash(oracle, false, false);
        ck_assert(!reads(BLOCKS, recovered, &old));
        ck_assert(reads(BLOCKS, recovered, &new));
        if (recovered)
            oracle_recovered(oracle);
        oracle_crash(oracle, true, false);
        ck_assert_int_eq(reads(BLOCKS, recovered, &old), !recovered);
    }
}
END_TEST

START_TEST(garbage_only_where_it_may_be)
{
    struct block garbage;

    memset(&garbage, 0xa7, sizeof(garbage));
    write_at(SECTORS, 0, BLOCK_BYTES);
    write_at(BLOCKS, 0, BLOCK_BYTES);
    oracle_crash(oracle, true, true);
    ck_assert(!reads(BLOCKS, 0, &garbage));
    ck_assert(!reads(SECTORS, 1, &garbage));
    ck_assert(reads(SECTORS, 0, &garbage));
    ck_assert(reads(SECTORS, 0, &garbage)); /* stays */
    garbage.data[0] ^= 1;
    ck_assert(!reads(SECTORS, 0, &garbage));
}
END_TEST

START_TEST(what_ended_a_doubt_may_become_garbage)
{
    struct block garbage;

    memset(&garbage, 0xa7, sizeof(garbage));
    for (uint16_t volume = BLOCKS; volume <= SECTORS; volume++) {
        oracle_doubt(oracle, volume, 0, 2 * BLOCK_BYTES, false);
        write_at(volume, 0, 2 * BLOCK_BYTES);
    }
    oracle_crash(oracle, true, true);
    ck_assert(!reads(BLOCKS, 0, &garbage));
    ck_assert(reads(SECTORS, 0, &garbage));
    oracle_doubt(oracle, SECTORS, BLOCK_BYTES, BLOCK_BYTES, false);
    write_at(SECTORS, BLOCK_BYTES, BLOCK_BYTES);
    flush(SECTORS);
    oracle_crash(oracle, true, true);
    ck_assert(!reads(SECTORS, 1, &garbage));
}
END_TEST

START_TEST(doubt_ends_with_a_write_or_a_read)
{
    struct block one = {{0}}, two = {{0}}, zeros = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op second;

    lay(&one, &first, 0);
    oracle_doubt(oracle, BLOCKS, 0, BLOCK_BYTES, false);
    ck_assert(reads(BLOCKS, 0, &zeros));
    ck_assert(!reads(BLOCKS, 0, &one));
    oracle_doubt(oracle, BLOCKS, 0, BLOCK_BYTES, false);
    second = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&two, &second, 0);
    ck_assert(!reads(BLOCKS, 0, &one));
    flush(BLOCKS);
    oracle_crash(oracle, true, false);
    ck_assert(!reads(BLOCKS, 0, &one));
    ck_assert(reads(BLOCKS, 0, &two));
}
END_TEST

/* A segment's footer and a batch header rot: the record before theirs counts, as a clean one.  What a
 * read sees of it is not what the backing store has. */
START_TEST(a_lost_record_shows_two_versions_until_a_write)
{
    struct block one = {{0}}, two = {{0}}, three = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op second = write_at(BLOCKS, 0, BLOCK_BYTES), third;

    lay(&one, &first, 0);
    lay(&two, &second, 0);
    flush(BLOCKS);
    ck_assert(!reads(BLOCKS, 0, &one));
    oracle_crash(oracle, true, false);
    oracle_lose(oracle, BLOCKS, 0, BLOCK_BYTES, false);
    oracle_recovered(oracle);
    ck_assert(reads(BLOCKS, 0, &one));
    ck_assert(reads(BLOCKS, 0, &two));
    ck_assert(reads(BLOCKS, 0, &one));
    third = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&three, &third, 0);
    ck_assert(!reads(BLOCKS, 0, &one));
    oracle_crash(oracle, true, false); /* the write was not flushed */
    ck_assert(reads(BLOCKS, 0, &one));
    ck_assert(reads(BLOCKS, 0, &two));
    third = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&three, &third, 0);
    flush(BLOCKS);
    oracle_crash(oracle, true, false);
    ck_assert(!reads(BLOCKS, 0, &one));
    ck_assert(reads(BLOCKS, 0, &three));
}
END_TEST

/* The write of a part is merged with the rest, and its record counts: what a read sees then stays. */
START_TEST(a_write_of_a_part_ends_the_choice)
{
    struct block one = {{0}}, two = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES);
    struct oracle_op second = write_at(BLOCKS, 0, BLOCK_BYTES), part;

    lay(&one, &first, 0);
    lay(&two, &second, 0);
    oracle_lose(oracle, BLOCKS, 0, BLOCK_BYTES, false);
    part = write_at(BLOCKS, SECTOR_BYTES, SECTOR_BYTES);
    lay(&one, &part, 0);
    lay(&two, &part, 0);
    ck_assert(reads(BLOCKS, 0, &one));
    ck_assert(!reads(BLOCKS, 0, &two));
}
END_TEST

static void discard(uint16_t volume, bool garbage)
{
    struct oracle_op op = {.volume = volume, .length = BLOCK_BYTES};

    oracle_discard_begin(oracle, &op, garbage);
    oracle_discard_end(oracle, &op);
}

/* What destaging did not flush of them, a power cut before or after may have turned to garbage. */
START_TEST(discarded_blocks_may_be_garbage_where_the_store_leaves_some)
{
    for (unsigned garbage = 0; garbage < 2; garbage++) {
        struct block bad, other;

        memset(&bad, 0xa7, sizeof(bad));
        memset(&other, 0x7a, sizeof(other));
        write_at(BLOCKS, 0, BLOCK_BYTES);
        discard(BLOCKS, garbage);
        oracle_crash(oracle, true, garbage);
        ck_assert_int_eq(reads(BLOCKS, 0, &bad), garbage);
        ck_assert(!reads(BLOCKS, 1, &bad));
        if (garbage)
            ck_assert(!reads(BLOCKS, 0, &other)); /* stays */
    }
}
END_TEST

/* A part written over what nobody knows makes something that has no name; destaging may bring it to
 * the store, and a later discard shows it again, though the block was known in between. */
START_TEST(what_has_no_name_comes_back_with_a_discard)
{
    struct block mixture, known = {{0}};
    struct oracle_op op;

    memset(&mixture, 0xa7, sizeof(mixture));
    discard(BLOCKS, false);
    ck_assert(!oracle_matches(oracle, BLOCKS, 0, mixture.data));
    op = write_at(BLOCKS, 100, 100);
    lay(&mixture, &op, 0);
    op = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&known, &op, 0);
    ck_assert(!oracle_matches(oracle, BLOCKS, 0, mixture.data));
    ck_assert(reads(BLOCKS, 0, &known));
    flush(BLOCKS);
    discard(BLOCKS, false);
    ck_assert(reads(BLOCKS, 0, &mixture));
    ck_assert(!reads(BLOCKS, 0, &known)); /* stays */
}
END_TEST

/* A restart makes what it finds durable, but not what the backing store has in its cache. */
START_TEST(discarded_blocks_stay_at_stake_until_a_flush)
{
    for (unsigned flushed = 0; flushed < 2; flushed++) {
        struct block zeros = {{0}}, one = {{0}};
        struct oracle_op op = write_at(BLOCKS, 0, BLOCK_BYTES);

        lay(&one, &op, 0);
        flush(BLOCKS);
        discard(BLOCKS, false);
        oracle_crash(oracle, false, false);
        oracle_recovered(oracle);
        ck_assert(reads(BLOCKS, 0, &one));
        ck_assert(!reads(BLOCKS, 0, &zeros));
        if (flushed)
            flush(BLOCKS);
        oracle_crash(oracle, true, false);
        ck_assert_int_eq(reads(BLOCKS, 0, &zeros), !flushed);
    }
}
END_TEST

START_TEST(a_durable_write_ends_a_discard)
{
    struct block zeros = {{0}}, one = {{0}};
    struct oracle_op op;

    discard(BLOCKS, true);
    op = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&one, &op, 0);
    oracle_crash(oracle, false, false);
    oracle_recovered(oracle);
    oracle_crash(oracle, true, true);
    ck_assert(!reads(BLOCKS, 0, &zeros));
    ck_assert(reads(BLOCKS, 0, &one));
}
END_TEST

START_TEST(what_a_lost_cache_leaves)
{
    struct block old = {{0}}, one = {{0}}, two = {{0}};
    struct oracle_op first = write_at(BLOCKS, 0, BLOCK_BYTES), second;

    lay(&one, &first, 0);
    flush(BLOCKS);
    second = write_at(BLOCKS, 0, BLOCK_BYTES);
    lay(&two, &second, 0);
    ck_assert(oracle_survives(oracle, BLOCKS, 0, two.data));
    ck_assert(oracle_survives(oracle, BLOCKS, 0, one.data));
    ck_assert(!oracle_survives(oracle, BLOCKS, 0, old.data));
    second.length = 1024;
    lay(&one, &second, 0); /* the backing store may tear */
    ck_assert(oracle_survives(oracle, BLOCKS, 0, one.data));
    ck_assert(!oracle_matches(oracle, BLOCKS, 0, one.data));
    ck_assert(oracle_matches(oracle, BLOCKS, 0, two.data));
}
END_TEST

START_TEST(says_when_it_is_crowded)
{
    for (unsigned i = 0; !oracle_crowded(oracle, BLOCKS, 0, BLOCK_BYTES); i++) {
        ck_assert_uint_lt(i, 100);
        write_at(BLOCKS, 0, BLOCK_BYTES);
    }
    flush(BLOCKS);
    ck_assert(!oracle_crowded(oracle, BLOCKS, 0, BLOCK_BYTES));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("sim-oracle");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, starts_with_zeros);
    tcase_add_test(cases, finds_a_stale_read);
    tcase_add_test(cases, finds_another_blocks_data);
    tcase_add_test(cases, a_concurrent_write_may_be_seen_or_not);
    tcase_add_test(cases, a_read_that_began_before_may_see_the_old);
    tcase_add_test(cases, finds_a_torn_block_where_blocks_are_atomic);
    tcase_add_test(cases, orders_of_concurrent_partial_writes);
    tcase_add_test(cases, odd_bytes_merge);
    tcase_add_test(cases, the_last_block_may_be_short);
    tcase_add_test(cases, a_failed_write_may_have_happened);
    tcase_add_test(cases, a_flushed_write_survives);
    tcase_add_test(cases, an_unflushed_write_may_be_lost_and_a_read_tells);
    tcase_add_test(cases, a_flush_covers_what_ended_before_it_was_sent);
    tcase_add_test(cases, a_failed_write_does_not_hide_what_it_ran_beside);
    tcase_add_test(cases, a_failed_flush_covers_nothing_and_volumes_are_apart);
    tcase_add_test(cases, fua_survives_alone);
    tcase_add_test(cases, a_crash_tears_sectors_but_not_blocks);
    tcase_add_test(cases, a_write_in_flight_at_the_crash_may_land);
    tcase_add_test(cases, a_killed_process_loses_nothing_until_the_power_goes);
    tcase_add_test(cases, garbage_only_where_it_may_be);
    tcase_add_test(cases, what_ended_a_doubt_may_become_garbage);
    tcase_add_test(cases, doubt_ends_with_a_write_or_a_read);
    tcase_add_test(cases, a_lost_record_shows_two_versions_until_a_write);
    tcase_add_test(cases, a_write_of_a_part_ends_the_choice);
    tcase_add_test(cases, discarded_blocks_may_be_garbage_where_the_store_leaves_some);
    tcase_add_test(cases, what_has_no_name_comes_back_with_a_discard);
    tcase_add_test(cases, discarded_blocks_stay_at_stake_until_a_flush);
    tcase_add_test(cases, a_durable_write_ends_a_discard);
    tcase_add_test(cases, what_a_lost_cache_leaves);
    tcase_add_test(cases, says_when_it_is_crowded);
    return unit_run("sim-oracle", cases);
}
