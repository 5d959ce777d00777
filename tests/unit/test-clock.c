/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <check.h>
#include <string.h>

#include "tests/unit/unit.h"

START_TEST(goes_on)
{
    uint64_t before_ns = clock_ns();
    struct timespec now;
    uint64_t now_ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    ck_assert_uint_le(before_ns, now_ns);
    ck_assert_uint_le(now_ns, clock_ns());
}
END_TEST

START_TEST(timespec)
{
    struct timespec time = clock_timespec(UINT64_C(7000000000) - 1);

    ck_assert_int_eq(time.tv_sec, 6);
    ck_assert_int_eq(time.tv_nsec, 999999999);
    time = clock_timespec(UINT64_C(7000000000));
    ck_assert_int_eq(time.tv_sec, 7);
    ck_assert_int_eq(time.tv_nsec, 0);
}
END_TEST

/* The time of day that a text tells; what follows the seconds goes to *rest. */
static time_t read_back(const char *text, const char **rest)
{
    struct tm parts = {0};

    *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    ck_assert_ptr_nonnull(*rest);
    return timegm(&parts);
}

static time_t time_of_day(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

START_TEST(print)
{
    char text[CLOCK_TEXT_BYTES];
    time_t before = time_of_day(), told;
    const char *rest;

    ck_assert_ptr_eq(clock_print(text), text);
    told = read_back(text, &rest);
    ck_assert_int_le(before, told);
    ck_assert_int_le(told, time_of_day());
    ck_assert_uint_eq(strlen(rest), strlen(".000Z"));
    ck_assert_int_eq(rest[0], '.');
    ck_assert_uint_eq(strspn(rest + 1, "0123456789"), 3);
    ck_assert_int_eq(rest[4], 'Z');
}
END_TEST

START_TEST(print_in)
{
    char text[CLOCK_TEXT_BYTES];
    time_t before = time_of_day(), told;
    const char *rest;

    ck_assert_ptr_eq(clock_print_in(text, 86400 * NS_PER_S), text);
    told = read_back(text, &rest);
    ck_assert_int_le(before + 86400, told);
    ck_assert_int_le(told, time_of_day() + 86400);
    ck_assert_str_eq(rest, "Z");
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("clock");

    tcase_add_test(cases, goes_on);
    tcase_add_test(cases, timespec);
    tcase_add_test(cases, print);
    tcase_add_test(cases, print_in);
    return unit_run("clock", cases);
}
