/* SPDX-License-Identifier: Apache-2.0 */
#include "common/uuid.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#define EXAMPLE "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"

START_TEST(print_and_parse)
{
    static const uint8_t expected[UUID_BYTES] = {0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0,
                                                 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6};
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;

    ck_assert_int_eq(uuid_parse(EXAMPLE, &uuid), 0);
    ck_assert_mem_eq(uuid.bytes, expected, UUID_BYTES);
    ck_assert_str_eq(uuid_print(text, &uuid), EXAMPLE);
    ck_assert_int_eq(uuid_parse("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", &uuid), 0);
    ck_assert_mem_eq(uuid.bytes, expected, UUID_BYTES);
}
END_TEST

/* Every cut and every spoilt character is noticed and leaves the result alone. */
START_TEST(parse_is_strict)
{
    struct uuid uuid, before;
    char text[UUID_TEXT_BYTES + 1];

    memset(&before, 0x5a, sizeof(before));
    uuid = before;
    for (size_t at = 0; at < strlen(EXAMPLE); at++) {
        strcpy(text, EXAMPLE);
        text[at] = '\0';
        ck_assert_int_eq(uuid_parse(text, &uuid), -EINVAL);
        strcpy(text, EXAMPLE);
        text[at] = text[at] == '-' ? '0' : 'g';
        ck_assert_int_eq(uuid_parse(text, &uuid), -EINVAL);
        strcpy(text, EXAMPLE);
        text[at] = text[at] == '-' ? ' ' : '-';
        ck_assert_int_eq(uuid_parse(text, &uuid), -EINVAL);
    }
    ck_assert_int_eq(uuid_parse(EXAMPLE " ", &uuid), -EINVAL);
    ck_assert_int_eq(uuid_parse(EXAMPLE "0", &uuid), -EINVAL);
    ck_assert(uuid_equal(&uuid, &before));
}
END_TEST

START_TEST(generate)
{
    struct uuid one, other, again;
    char text[UUID_TEXT_BYTES];

    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(uuid_generate(&one), 0);
        ck_assert_int_eq(uuid_generate(&other), 0);
        ck_assert(!uuid_equal(&one, &other));
        ck_assert(!uuid_is_null(&one));
        uuid_print(text, &one);
        ck_assert_int_eq(text[14], '4');
        ck_assert_ptr_nonnull(strchr("89ab", text[19]));
        ck_assert_int_eq(uuid_parse(text, &again), 0);
        ck_assert(uuid_equal(&one, &again));
    }
}
END_TEST

START_TEST(null)
{
    struct uuid uuid;

    memset(&uuid, 0, sizeof(uuid));
    ck_assert(uuid_is_null(&uuid));
    uuid.bytes[15] = 1;
    ck_assert(!uuid_is_null(&uuid));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("uuid");

    tcase_add_test(cases, print_and_parse);
    tcase_add_test(cases, parse_is_strict);
    tcase_add_test(cases, generate);
    tcase_add_test(cases, null);
    return unit_run("uuid", cases);
}
