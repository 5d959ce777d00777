/* SPDX-License-Identifier: Apache-2.0 */
#include "common/duration.h"

#include <check.h>
#include <errno.h>

#include "tests/unit/unit.h"

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

static const struct {
    const char *text;
    uint64_t ns;
} good[] = {
    {"0", 0},        {"1", S},          {"90", 90 * S},
    {"007s", 7 * S}, {"1ms", MS},       {"1500ms", 1500 * MS},
    {"2m", 120 * S}, {"3h", 10800 * S}, {"30d", 2592000 * S},
};

static const struct {
    const char *text;
    int error;
} bad[] = {
    {"", -EINVAL},
    {"s", -EINVAL},
    {"-1", -EINVAL},
    {" 1", -EINVAL},
    {"1 s", -EINVAL},
    {"1.5h", -EINVAL},
    {"1w", -EINVAL},
    {"1sm", -EINVAL},
    {"18446744073709551616ms", -ERANGE},
    {"18446744073709551615", -ERANGE},
    {"213504d", -ERANGE},
};

START_TEST(parse_good)
{
    uint64_t ns = 1;

    ck_assert_int_eq(duration_parse(good[_i].text, &ns), 0);
    ck_assert_uint_eq(ns, good[_i].ns);
}
END_TEST

START_TEST(parse_bad)
{
    uint64_t ns = 42;

    ck_assert_int_eq(duration_parse(bad[_i].text, &ns), bad[_i].error);
    ck_assert_uint_eq(ns, 42);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("duration");

    tcase_add_loop_test(cases, parse_good, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_loop_test(cases, parse_bad, 0, sizeof(bad) / sizeof(bad[0]));
    return unit_run("duration", cases);
}
