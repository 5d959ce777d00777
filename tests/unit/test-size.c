/* SPDX-License-Identifier: Apache-2.0 */
#include "common/size.h"

#include <check.h>
#include <errno.h>

#include "tests/unit/unit.h"

static const struct {
    const char *text;
    uint64_t bytes;
} good[] = {
    {"0", 0},
    {"1", 1},
    {"007", 7},
    {"4096", 4096},
    {"512K", 512 << 10},
    {"512k", 512 << 10},
    {"4M", 4 << 20},
    {"1G", 1 << 30},
    {"3T", UINT64_C(3) << 40},
    {"0T", 0},
    {"18446744073709551615", UINT64_MAX},
    {"18014398509481983K", UINT64_MAX - 1023},
    {"16777215T", UINT64_C(16777215) << 40},
};

static const struct {
    const char *text;
    int error;
} bad[] = {
    {"", -EINVAL},
    {"K", -EINVAL},
    {" 1", -EINVAL},
    {"1 ", -EINVAL},
    {"1 K", -EINVAL},
    {"-1", -EINVAL},
    {"+1", -EINVAL},
    {"1.5G", -EINVAL},
    {"1KB", -EINVAL},
    {"1KiB", -EINVAL},
    {"1P", -EINVAL},
    {"0x10", -EINVAL},
    {"1K1", -EINVAL},
    {"1KK", -EINVAL},
    {"18446744073709551616", -ERANGE},
    {"99999999999999999999999K", -ERANGE},
    {"18014398509481984K", -ERANGE},
    {"16777216T", -ERANGE},
};

static const struct {
    uint64_t bytes;
    const char *exact;
    const char *human;
} printed[] = {
    {0, "0", "0 B"},
    {1, "1", "1 B"},
    {1023, "1023", "1023 B"},
    {1024, "1K", "1.0 KiB"},
    {1536, "1536", "1.5 KiB"},
    {1536 << 10, "1536K", "1.5 MiB"},
    {8 << 20, "8M", "8.0 MiB"},
    {(1 << 30) - 1, "1073741823", "1.0 GiB"},
    {UINT64_C(5) << 50, "5120T", "5120.0 TiB"},
    {UINT64_MAX, "18446744073709551615", "16777216.0 TiB"},
};

START_TEST(parse_good)
{
    uint64_t bytes = 77;

    ck_assert_int_eq(size_parse(good[_i].text, &bytes), 0);
    ck_assert_uint_eq(bytes, good[_i].bytes);
}
END_TEST

START_TEST(parse_bad)
{
    uint64_t bytes = 77;

    ck_assert_int_eq(size_parse(bad[_i].text, &bytes), bad[_i].error);
    ck_assert_uint_eq(bytes, 77);
}
END_TEST

START_TEST(print)
{
    char text[SIZE_TEXT_BYTES];
    uint64_t bytes;

    ck_assert_str_eq(size_print(text, printed[_i].bytes), printed[_i].exact);
    ck_assert_int_eq(size_parse(text, &bytes), 0);
    ck_assert_uint_eq(bytes, printed[_i].bytes);
    ck_assert_str_eq(size_print_human(text, printed[_i].bytes), printed[_i].human);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
    TCase *cases = tcase_create("size");

    tcase_add_loop_test(cases, parse_good, 0, COUNT(good));
    tcase_add_loop_test(cases, parse_bad, 0, COUNT(bad));
    tcase_add_loop_test(cases, print, 0, COUNT(printed));
    return unit_run("size", cases);
}
