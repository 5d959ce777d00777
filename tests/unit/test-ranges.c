/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges: what they join to, what is left of them, and their texts. */
#include <errno.h>
#include <string.h>

#include "common/ranges.h"
#include "tests/unit/unit.h"

#define K UINT64_C(1024)

static void expect(const struct ranges *ranges, const char *text)
{
    char printed[RANGES_TEXT_BYTES];
    struct ranges again = {0};

    ck_assert_str_eq(ranges_print(printed, ranges), text);
    ck_assert_int_eq(ranges_parse(&again, printed), 0);
    ck_assert(ranges_same(ranges, &again));
}

START_TEST(they_are_joined_where_they_touch)
{
    struct ranges ranges = {0};

    expect(&ranges, "none");
    ck_assert_int_eq(ranges_add(&ranges, 8 * K, 12 * K), 0);
    ck_assert_int_eq(ranges_add(&ranges, 0, 4 * K), 0);
    ck_assert_int_eq(ranges_add(&ranges, 20 * K, 24 * K), 0);
    expect(&ranges, "0+4K,8K+4K,20K+4K");
    ck_assert_int_eq(ranges_add(&ranges, 4 * K, 8 * K), 0);
    expect(&ranges, "0+12K,20K+4K");
    ck_assert_int_eq(ranges_add(&ranges, 1 * K, 2 * K), 0);
    ck_assert_int_eq(ranges_add(&ranges, 5 * K, 5 * K), 0);
    expect(&ranges, "0+12K,20K+4K");
    ck_assert_int_eq(ranges_add(&ranges, 10 * K, UINT64_MAX), 0);
    expect(&ranges, "0-");
}
END_TEST

START_TEST(what_is_taken_out_is_gone)
{
    struct ranges ranges = {0};

    ck_assert_int_eq(ranges_parse(&ranges, "0-100K,200K-"), 0);
    ck_assert_int_eq(ranges_remove(&ranges, 10 * K, 20 * K), 0);
    expect(&ranges, "0+10K,20K+80K,200K-");
    ck_assert_int_eq(ranges_remove(&ranges, 5 * K, 5 * K), 0);
    expect(&ranges, "0+10K,20K+80K,200K-");
    ck_assert_int_eq(ranges_remove(&ranges, 90 * K, 300 * K), 0);
    expect(&ranges, "0+10K,20K+70K,300K-");
    ck_assert_int_eq(ranges_remove(&ranges, 0, 10 * K), 0);
    expect(&ranges, "20K+70K,300K-");
    ck_assert_uint_eq(ranges_sum(&ranges, UINT64_MAX), UINT64_MAX - 300 * K + 70 * K);
    ck_assert_uint_eq(ranges_sum(&ranges, 310 * K), 80 * K);
    ck_assert_uint_eq(ranges_sum(&ranges, 30 * K), 10 * K);
    ck_assert_int_eq(ranges_remove(&ranges, 0, UINT64_MAX), 0);
    expect(&ranges, "none");
}
END_TEST

START_TEST(what_they_have)
{
    struct ranges ranges = {0};

    ck_assert(!ranges_have(&ranges, 0));
    ck_assert_int_eq(ranges_parse(&ranges, "4K+4K,16K-20K"), 0);
    for (uint64_t at = 0; at < 32 * K; at += 512)
        ck_assert_int_eq(ranges_have(&ranges, at),
                         (at >= 4 * K && at < 8 * K) || (at >= 16 * K && at < 20 * K));
}
END_TEST

/* One more than fit: nothing has changed. */
START_TEST(there_are_so_many)
{
    struct ranges ranges = {0}, before;

    for (uint64_t i = 0; i < RANGES_MAX; i++)
        ck_assert_int_eq(ranges_add(&ranges, 10 * i, 10 * i + 5), 0);
    before = ranges;
    ck_assert_int_eq(ranges_add(&ranges, 1000, 1001), -ENOSPC);
    ck_assert_int_eq(ranges_add(&ranges, 7, 8), -ENOSPC);
    ck_assert_int_eq(ranges_remove(&ranges, 1, 2), -ENOSPC);
    ck_assert(ranges_same(&ranges, &before));
    ck_assert_int_eq(ranges_add(&ranges, 5, 10), 0);
    ck_assert_uint_eq(ranges.count, RANGES_MAX - 1);
}
END_TEST

START_TEST(longest_text_fits)
{
    char text[RANGES_TEXT_BYTES];
    struct ranges ranges = {0};

    for (uint64_t i = 0; i < RANGES_MAX; i++)
        ck_assert_int_eq(ranges_add(&ranges, UINT64_MAX - 4099 * (RANGES_MAX - i) - 1,
                                    UINT64_MAX - 4099 * (RANGES_MAX - i) + 4096),
                         0);
    ck_assert_uint_lt(strlen(ranges_print(text, &ranges)), sizeof(text));
    expect(&ranges, text);
}
END_TEST

START_TEST(texts_that_are_none)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", -EINVAL},
        {"1G", -EINVAL},
        {"1G-1G", -EINVAL},
        {"2G-1G", -EINVAL},
        {"0+0", -EINVAL},
        {"0+", -EINVAL},
        {"+1G", -EINVAL},
        {"-", -EINVAL},
        {"0-1G,", -EINVAL},
        {",0-1G", -EINVAL},
        {"0-1X", -EINVAL},
        {"0--1", -EINVAL},
        {"0-1G 2", -EINVAL},
        {"none,0-1G", -EINVAL},
        {"0-1G+2", -EINVAL},
        {"4K+18446744073709551615", -ERANGE},
        {"0-20000000T", -ERANGE},
    };
    struct ranges ranges = {0};

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(ranges_parse(&ranges, cases[i].text) == cases[i].error, "%s", cases[i].text);
        ck_assert_uint_eq(ranges.count, 0);
    }
    ck_assert_int_eq(ranges_parse(&ranges, "0-1G, 10G+512M"), 0);
    expect(&ranges, "0+1G,10G+512M");
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("ranges");

    tcase_add_test(cases, they_are_joined_where_they_touch);
    tcase_add_test(cases, what_is_taken_out_is_gone);
    tcase_add_test(cases, what_they_have);
    tcase_add_test(cases, there_are_so_many);
    tcase_add_test(cases, longest_text_fits);
    tcase_add_test(cases, texts_that_are_none);
    return unit_run("ranges", cases);
}
