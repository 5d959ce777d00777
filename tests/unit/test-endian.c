/* SPDX-License-Identifier: Apache-2.0 */
#include "common/endian.h"

#include <check.h>

#include "common/hash.h"
#include "tests/unit/unit.h"

START_TEST(byte_order_at_every_alignment)
{
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t memory[24];

    for (int at = 0; at < 16; at++) {
        memset(memory, 0xff, sizeof(memory));
        le64_store(memory + at, UINT64_C(0x0807060504030201));
        ck_assert_mem_eq(memory + at, bytes, 8);
        ck_assert_uint_eq(le64_load(memory + at), UINT64_C(0x0807060504030201));
        ck_assert_uint_eq(le32_load(memory + at), 0x04030201);
        ck_assert_uint_eq(le16_load(memory + at), 0x0201);
        ck_assert_uint_eq(be64_load(memory + at), UINT64_C(0x0102030405060708));
        ck_assert_uint_eq(be32_load(memory + at), 0x01020304);
        ck_assert_uint_eq(be16_load(memory + at), 0x0102);
        be64_store(memory + at, UINT64_C(0x0102030405060708));
        ck_assert_mem_eq(memory + at, bytes, 8);
    }
}
END_TEST

START_TEST(narrow_stores_leave_neighbours_alone)
{
    uint8_t memory[8];

    memset(memory, 0xee, sizeof(memory));
    le16_store(memory + 1, 0x1234);
    be32_store(memory + 3, 0x89abcdef);
    ck_assert_mem_eq(memory, ((const uint8_t[]){0xee, 0x34, 0x12, 0x89, 0xab, 0xcd, 0xef, 0xee}),
                     8);
    be16_store(memory + 1, 0x1234);
    le32_store(memory + 3, 0x89abcdef);
    ck_assert_mem_eq(memory, ((const uint8_t[]){0xee, 0x12, 0x34, 0xef, 0xcd, 0xab, 0x89, 0xee}),
                     8);
}
END_TEST

/* Each input bit flips between a quarter and three quarters of the output bits. */
START_TEST(hash_avalanche)
{
    for (uint64_t key = 0; key < 1000; key++) {
        for (int bit = 0; bit < 64; bit++) {
            uint64_t change = hash_mix64(key) ^ hash_mix64(key ^ UINT64_C(1) << bit);

            ck_assert_int_ge(__builtin_popcountll(change), 8);
            ck_assert_int_le(__builtin_popcountll(change), 56);
        }
    }
    ck_assert_uint_ne(hash_pair64(1, 2), hash_pair64(2, 1));
}
END_TEST

/* 64 shards get their share of consecutive regions of consecutive volumes. */
START_TEST(hash_spreads)
{
    int counts[64] = {0};

    for (uint64_t volume = 0; volume < 8; volume++)
        for (uint64_t region = 0; region < 8000; region++)
            counts[hash_pair64(volume, region) % 64]++;
    for (int i = 0; i < 64; i++) {
        ck_assert_int_gt(counts[i], 800);
        ck_assert_int_lt(counts[i], 1200);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("endian and hash");

    tcase_add_test(cases, byte_order_at_every_alignment);
    tcase_add_test(cases, narrow_stores_leave_neighbours_alone);
    tcase_add_test(cases, hash_avalanche);
    tcase_add_test(cases, hash_spreads);
    return unit_run("endian and hash", cases);
}
