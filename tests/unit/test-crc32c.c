/* SPDX-License-Identifier: Apache-2.0 */
#include "common/crc32c.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

/* Bit by bit, straight from the polynomial: what the fast one must agree with. */
static uint32_t reference_crc32c(const unsigned char *data, size_t bytes)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

START_TEST(check_value)
{
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
}
END_TEST

/* The examples of RFC 3720, B.4. */
START_TEST(rfc3720_examples)
{
    unsigned char data[32];

    memset(data, 0, sizeof(data));
    ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x8a9136aa);
    memset(data, 0xff, sizeof(data));
    ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)i;
    ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x46dd794e);
}
END_TEST

START_TEST(no_bytes_give_the_seed)
{
    ck_assert_uint_eq(crc32c(0, "", 0), 0);
    ck_assert_uint_eq(crc32c(0x12345678, "", 0), 0x12345678);
}
END_TEST

START_TEST(chains_at_every_cut_and_alignment)
{
    unsigned char data[300];

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 131 + 7);
    for (size_t start = 0; start < 16; start++) {
        size_t bytes = sizeof(data) - start;
        uint32_t whole = reference_crc32c(data + start, bytes);

        for (size_t cut = 0; cut <= bytes; cut++) {
            uint32_t first = crc32c(0, data + start, cut);

            ck_assert_uint_eq(crc32c(first, data + start + cut, bytes - cut), whole);
        }
    }
}
END_TEST

START_TEST(a_flipped_bit_shows)
{
    unsigned char block[4096] = {0};
    uint32_t good = crc32c(0, block, sizeof(block));

    for (size_t bit = 0; bit < sizeof(block) * 8; bit += 61) {
        block[bit / 8] ^= (unsigned char)(1 << bit % 8);
        ck_assert_uint_ne(crc32c(0, block, sizeof(block)), good);
        block[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("crc32c");

    tcase_add_test(cases, check_value);
    tcase_add_test(cases, rfc3720_examples);
    tcase_add_test(cases, no_bytes_give_the_seed);
    tcase_add_test(cases, chains_at_every_cut_and_alignment);
    tcase_add_test(cases, a_flipped_bit_shows);
    return unit_run("crc32c", cases);
}
