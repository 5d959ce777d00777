/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of backing stores that lost their cache: what is legal, and what is not. */
#include <string.h>

#include "engine/format.h"
#include "tests/sim/sim-alone.h"
#include "tests/unit/unit.h"

#define SECTORS 4u

static struct alone *alone;
static struct content *content;
static unsigned char image[SECTORS * SECTOR_BYTES];
static struct alone_age age;
static uint64_t now;

static void set_up(void)
{
    alone = alone_create();
    content = content_create();
    alone_reset(alone, sizeof(image));
    memset(image, 0, sizeof(image));
    now = 1000;
}

static void tear_down(void)
{
    alone_destroy(alone);
    content_destroy(content);
}

/* The sector holds write `id`. */
static void holds(uint64_t sector, uint32_t id)
{
    content_fill(content, image + sector * SECTOR_BYTES, 0, sector, id);
}

static bool legal(void)
{
    char why[300];

    return alone_check(alone, content, 0, image, false, now, &age, why, sizeof(why));
}

static uint32_t begin(uint64_t sector, uint32_t id, bool fua)
{
    return alone_write_begin(alone, now++, sector * SECTOR_BYTES, SECTOR_BYTES, id, fua);
}

static void end(uint32_t write)
{
    alone_write_end(alone, now++, write, 0);
}

static void put(uint64_t sector, uint32_t id)
{
    end(begin(sector, id, false));
}

static void flush(void)
{
    alone_flush_end(alone, now + 1, alone_flush_begin(alone, now), 0);
    now += 2;
}

START_TEST(nothing_is_always_a_past)
{
    put(0, 1);
    flush();
    put(1, 2);
    flush();
    ck_assert(legal());
    ck_assert_uint_eq(age.boundaries, 1); /* until the first flush was answered */
    ck_assert_uint_gt(age.ns, 0);
}
END_TEST

START_TEST(what_a_flush_did_not_cover_is_free)
{
    put(0, 1);
    put(1, 2);
    holds(1, 2);
    ck_assert(legal()); /* without the first */
    holds(0, 1);
    ck_assert(legal());
    ck_assert_uint_eq(age.boundaries, 0);
    ck_assert_uint_eq(age.ns, 0);
}
END_TEST

START_TEST(an_epoch_needs_the_one_before)
{
    put(0, 1);
    flush();
    put(1, 2);
    holds(1, 2);
    ck_assert(!legal());
    holds(0, 1);
    ck_assert(legal());
}
END_TEST

START_TEST(the_version_of_the_epoch_counts)
{
    put(0, 1);
    put(1, 2);
    flush();
    put(0, 3);
    flush();
    put(2, 4);
    holds(0, 3); /* the newest, but of an epoch whose predecessor is not there */
    ck_assert(!legal());
    holds(1, 2);
    ck_assert(legal());
    holds(0, 1);
    ck_assert(legal());
    ck_assert_uint_eq(age.boundaries, 0); /* until the second flush was answered */
    ck_assert_uint_gt(age.ns, 0);
    holds(2, 4);
    ck_assert(!legal());
}
END_TEST

START_TEST(fua_promises_itself_only)
{
    put(0, 1);
    end(begin(1, 2, true));
    put(2, 3);
    holds(2, 3);
    ck_assert(!legal());
    holds(1, 2);
    ck_assert(legal());
}
END_TEST

START_TEST(a_write_under_way_may_be_anywhere)
{
    uint32_t write = begin(0, 1, false);

    flush();
    put(1, 2);
    flush();
    holds(1, 2);
    ck_assert(legal());
    holds(0, 1);
    ck_assert(legal());
    end(write);
    flush();
    holds(0, 0);
    ck_assert(legal()); /* a past again */
    put(2, 3);
    holds(2, 3);
    ck_assert(!legal());
}
END_TEST

START_TEST(zeros_have_several_times)
{
    put(0, 1);
    flush();
    put(0, CONTENT_ZEROS);
    put(1, 2);
    flush();
    put(2, 3);
    holds(2, 3);
    ck_assert(!legal()); /* 1 must hold 2 */
    holds(1, 2);
    ck_assert(legal());
    put(0, 4);
    flush();
    put(3, 5);
    holds(3, 5);
    ck_assert(!legal()); /* zeros are too old by now */
}
END_TEST

START_TEST(a_crash_frees_what_was_not_flushed)
{
    put(0, 1);
    flush();
    put(0, 2);
    alone_crash(alone, now++);
    put(1, 3);
    flush();
    put(2, 4);
    holds(1, 3);
    holds(2, 4);
    ck_assert(!legal());
    holds(0, 1); /* the crash lost write 2, and nobody wrote the sector again */
    ck_assert(legal());
    holds(0, 2);
    ck_assert(legal());
}
END_TEST

START_TEST(foreign_content_is_illegal)
{
    memset(image, 0x55, SECTOR_BYTES);
    ck_assert(!legal());
    content_fill(content, image, 0, 0, 77); /* nobody wrote that */
    ck_assert(!legal());
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("alone");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, nothing_is_always_a_past);
    tcase_add_test(cases, what_a_flush_did_not_cover_is_free);
    tcase_add_test(cases, an_epoch_needs_the_one_before);
    tcase_add_test(cases, the_version_of_the_epoch_counts);
    tcase_add_test(cases, fua_promises_itself_only);
    tcase_add_test(cases, a_write_under_way_may_be_anywhere);
    tcase_add_test(cases, zeros_have_several_times);
    tcase_add_test(cases, a_crash_frees_what_was_not_flushed);
    tcase_add_test(cases, foreign_content_is_illegal);
    return unit_run("alone", cases);
}
