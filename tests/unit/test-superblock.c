/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/superblock.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const uint8_t uuid_one[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t uuid_other[16] = {16, 15, 14};

static struct superblock one, copies[2];
static char why[256];

/* A sealed superblock with two volumes and a retired segment. */
static void make(struct superblock *sb, uint64_t device_bytes, uint32_t cores)
{
    struct superblock_geometry geometry = {.device_bytes = device_bytes, .cores = cores};

    ck_assert_int_eq(superblock_init(sb, &geometry, uuid_one, why, sizeof(why)), 0);
    ck_assert_ptr_nonnull(superblock_volume_add(sb, "db", uuid_other));
    ck_assert_ptr_nonnull(superblock_volume_add(sb, "vm1", uuid_other));
    sb->retired[sb->retired_count++] = 7;
    superblock_seal(sb);
}

/* What init makes of a geometry: segment size and shards, or the error. */
struct geometry_case {
    uint64_t device_bytes, segment_bytes;
    uint32_t shards, cores;
    int error;
    uint64_t got_segment_bytes;
    uint32_t got_shards, got_segments;
};

static const struct geometry_case geometry_cases[] = {
    /* Large enough: 8 MiB, twice the cores. */
    {16 * GIB, 0, 0, 2, 0, 8 * MIB, 4, 511},
    {16 * GIB, 0, 0, 1, 0, 8 * MIB, 2, 1023},
    {16 * GIB, 0, 0, 3, 0, 8 * MIB, 4, 511},
    {1024 * GIB, 0, 0, 1000, 0, 8 * MIB, 256, 511},
    {16 * GIB, 0, 0, 0, 0, 8 * MIB, 1, 2047},
    /* Smaller segments first, then fewer shards, until each has 256 segments. */
    {GIB, 0, 0, 2, 0, 512 * KIB, 4, 511},
    {256 * MIB, 0, 0, 2, 0, 256 * KIB, 2, 509},
    {66 * MIB, 0, 0, 2, 0, 256 * KIB, 1, 259},
    {64 * MIB, 0, 0, 2, 0, 256 * KIB, 1, 251},
    {64 * MIB, 0, 0, 1, 0, 256 * KIB, 1, 251},
    /* The smallest, and one block less. */
    {17 * MIB + 64 * KIB, 0, 0, 2, 0, 256 * KIB, 1, 64},
    {17 * MIB + 60 * KIB, 0, 0, 2, -ENOSPC, 0, 0, 0},
    {0, 0, 0, 2, -ENOSPC, 0, 0, 0},
    {MIB, 0, 0, 2, -ENOSPC, 0, 0, 0},
    /* What the user asks for stays. */
    {16 * GIB, MIB, 8, 2, 0, MIB, 8, 2047},
    {16 * GIB, 64 * MIB, 0, 2, 0, 64 * MIB, 1, 255},
    {GIB, 0, 16, 2, 0, 256 * KIB, 16, 255},
    {64 * MIB, 0, 8, 2, -ENOSPC, 0, 0, 0},
    {GIB, 64 * MIB, 0, 2, -ENOSPC, 0, 0, 0},
    /* The impossible. */
    {GIB, 3 * MIB, 0, 2, -EINVAL, 0, 0, 0},
    {GIB, 128 * KIB, 0, 2, -EINVAL, 0, 0, 0},
    {GIB, 128 * MIB, 0, 2, -EINVAL, 0, 0, 0},
    {GIB, 0, 3, 2, -EINVAL, 0, 0, 0},
    {1024 * GIB, 0, 512, 2, -EINVAL, 0, 0, 0},
};

START_TEST(geometry_is_chosen)
{
    const struct geometry_case *c = &geometry_cases[_i];
    struct superblock_geometry geometry = {c->device_bytes, c->segment_bytes, c->shards, c->cores};

    why[0] = '\0';
    ck_assert_int_eq(superblock_init(&one, &geometry, uuid_one, why, sizeof(why)), c->error);
    if (c->error) {
        ck_assert_str_ne(why, "");
        return;
    }
    ck_assert_uint_eq(one.segment_bytes, c->got_segment_bytes);
    ck_assert_uint_eq(one.shard_count, c->got_shards);
    ck_assert_uint_eq(one.segments_per_shard, c->got_segments);
    superblock_seal(&one);
    ck_assert_int_eq(superblock_check(&one, c->device_bytes, why, sizeof(why)), 0);
}
END_TEST

START_TEST(odd_device_sizes_keep_the_copies_aligned)
{
    struct superblock_geometry geometry = {.device_bytes = GIB + 1234, .cores = 2};

    ck_assert_int_eq(superblock_init(&one, &geometry, uuid_one, why, sizeof(why)), 0);
    ck_assert_uint_eq(one.device_bytes, GIB);
    ck_assert_uint_eq(superblock_offset(&one, 0), 0);
    ck_assert_uint_eq(superblock_offset(&one, 1), GIB - SUPERBLOCK_BYTES);
}
END_TEST

START_TEST(too_small_says_what_to_do)
{
    struct superblock_geometry geometry = {.device_bytes = 64 * MIB, .shards = 8, .cores = 2};

    superblock_init(&one, &geometry, uuid_one, why, sizeof(why));
    ck_assert_str_eq(why, "the device has 64 MiB, but 64 segments of 256 KiB for each of 8 shards "
                          "need 132160 KiB; use a larger device, or fewer shards");
}
END_TEST

START_TEST(sentences_are_cut_to_their_room)
{
    struct superblock_geometry geometry = {.device_bytes = 64 * MIB, .shards = 8, .cores = 2};
    char tight[10];

    memset(tight, 'x', sizeof(tight));
    superblock_init(&one, &geometry, uuid_one, tight, 5);
    ck_assert_str_eq(tight, "the ");
    ck_assert_int_eq(tight[5], 'x');
    superblock_init(&one, &geometry, uuid_one, NULL, 0);
}
END_TEST

START_TEST(a_sealed_copy_is_accepted)
{
    make(&one, GIB, 2);
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), 0);
    /* A device that has grown. */
    ck_assert_int_eq(superblock_check(&one, 2 * GIB, why, sizeof(why)), 0);
}
END_TEST

START_TEST(no_changed_byte_is_accepted)
{
    unsigned char *bytes = (unsigned char *)&one;

    make(&one, GIB, 2);
    for (size_t i = 0; i < sizeof(one); i += i < 1024 ? 1 : 5) {
        unsigned char old = bytes[i];

        bytes[i] ^= (unsigned char)(1u << i % 8);
        ck_assert_int_ne(superblock_check(&one, GIB, why, sizeof(why)), 0);
        bytes[i] = old;
    }
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), 0);
}
END_TEST

START_TEST(what_is_not_ours_is_told_apart)
{
    memset(&one, 0, sizeof(one));
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -ENODATA);
    ck_assert_str_eq(why, "it is not formatted; run blkcachectl format");
    memset(&one, 0x5a, sizeof(one));
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -EMEDIUMTYPE);
    make(&one, GIB, 2);
    one.crc ^= 1;
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -EBADMSG);
    make(&one, GIB, 2);
    one.version = 2;
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -EBADMSG);
    superblock_seal(&one);
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -EPROTONOSUPPORT);
    make(&one, GIB, 2);
    ck_assert_int_eq(superblock_check(&one, GIB - BLOCK_BYTES, why, sizeof(why)), -ENXIO);
}
END_TEST

/* Each breaks one field; the CRC is made right again, as by a program with a bug. */
static void break_device(struct superblock *sb)
{
    sb->device_bytes += 1;
}
static void break_segment(struct superblock *sb)
{
    sb->segment_bytes = 3 * MIB;
}
static void break_segment_zero(struct superblock *sb)
{
    sb->segment_bytes = 0;
}
static void break_shards(struct superblock *sb)
{
    sb->shard_count = 3;
}
static void break_shards_zero(struct superblock *sb)
{
    sb->shard_count = 0;
}
static void break_shards_many(struct superblock *sb)
{
    sb->shard_count = 512;
}
static void break_segments_few(struct superblock *sb)
{
    sb->segments_per_shard = 1;
}
static void break_segments_many(struct superblock *sb)
{
    sb->segments_per_shard += 1;
}
static void break_segments_huge(struct superblock *sb)
{
    sb->segments_per_shard = UINT32_MAX;
}
static void break_flags(struct superblock *sb)
{
    sb->flags = 2;
}
static void break_session(struct superblock *sb)
{
    sb->session = UINT64_MAX;
}
static void break_retired_count(struct superblock *sb)
{
    sb->retired_count = RETIRED_MAX + 1;
}
static void break_retired(struct superblock *sb)
{
    sb->retired[0] = 1000000;
}
static void break_next_zero(struct superblock *sb)
{
    sb->next_volume_id = 0;
}
static void break_next_low(struct superblock *sb)
{
    sb->next_volume_id = 2;
}
static void break_next_high(struct superblock *sb)
{
    sb->next_volume_id = VOLUME_ID_MAX + 2;
}
static void break_volume_state(struct superblock *sb)
{
    sb->volumes[9].state = 2;
}
static void break_volume_id(struct superblock *sb)
{
    sb->volumes[1].id = sb->volumes[0].id;
}
static void break_volume_id_zero(struct superblock *sb)
{
    sb->volumes[0].id = 0;
}
static void break_volume_name(struct superblock *sb)
{
    memcpy(sb->volumes[1].name, "db", 3);
}
static void break_volume_empty(struct superblock *sb)
{
    sb->volumes[1].name[0] = '\0';
}
static void break_volume_endless(struct superblock *sb)
{
    memset(sb->volumes[0].name, 'a', 128);
}
static void break_volume_bytes(struct superblock *sb)
{
    sb->volumes[0].bytes = UINT64_MAX;
}

static void break_sequence(struct superblock *sb)
{
    sb->sequence = UINT64_MAX - 1;
}
static void break_watermark(struct superblock *sb)
{
    sb->shards[1].watermark = (sb->session + 1) << LSN_SESSION_SHIFT;
}
static void break_durable_lsn(struct superblock *sb)
{
    sb->shards[0].durable_lsn = UINT64_MAX;
}

static void (*const breakages[])(struct superblock *) = {
    break_device,        break_segment,        break_segment_zero,   break_shards,
    break_shards_zero,   break_shards_many,    break_segments_few,   break_segments_many,
    break_segments_huge, break_flags,          break_session,        break_retired_count,
    break_retired,       break_next_zero,      break_next_low,       break_next_high,
    break_volume_state,  break_volume_id,      break_volume_id_zero, break_volume_name,
    break_volume_empty,  break_volume_endless, break_volume_bytes,   break_sequence,
    break_watermark,     break_durable_lsn,
};

START_TEST(impossible_fields_are_refused)
{
    make(&one, GIB, 2);
    breakages[_i](&one);
    superblock_seal(&one);
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(why, "impossible value"));
}
END_TEST

START_TEST(the_newer_copy_is_current)
{
    make(&copies[0], GIB, 2);
    copies[1] = copies[0];
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), 0);
    superblock_seal(&copies[1]);
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), 1);
    superblock_seal(&copies[0]);
    superblock_seal(&copies[0]);
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), 0);
}
END_TEST

START_TEST(one_good_copy_is_enough)
{
    make(&copies[0], GIB, 2);
    copies[1] = copies[0];
    superblock_seal(&copies[1]);
    copies[1].shards[0].watermark = 1;
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), 0);
    superblock_seal(&copies[1]);
    memset(&copies[0], 0, sizeof(copies[0]));
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), 1);
}
END_TEST

START_TEST(the_more_telling_error_wins)
{
    memset(copies, 0, sizeof(copies));
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), -ENODATA);
    copies[1].magic[0] = 1;
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), -EMEDIUMTYPE);
    ck_assert_str_eq(why, "it is not a blkcached cache");
    make(&copies[0], GIB, 2);
    copies[0].crc ^= 1;
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), -EBADMSG);
    ck_assert_str_eq(why, "the superblock's checksum is wrong");
    make(&copies[1], GIB, 2);
    copies[1].version = 9;
    superblock_seal(&copies[1]);
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(copies_of_two_caches_are_refused)
{
    struct superblock_geometry geometry = {.device_bytes = GIB, .cores = 2};

    make(&copies[0], GIB, 2);
    ck_assert_int_eq(superblock_init(&copies[1], &geometry, uuid_other, why, sizeof(why)), 0);
    superblock_seal(&copies[1]);
    ck_assert_int_eq(superblock_pick(copies, GIB, why, sizeof(why)), -EBADMSG);
}
END_TEST

START_TEST(volumes_are_found_and_ids_never_used_again)
{
    struct superblock_volume *volume;

    make(&one, GIB, 2);
    ck_assert_ptr_null(superblock_volume_find(&one, "none"));
    ck_assert_ptr_null(superblock_volume_find(&one, ""));
    volume = superblock_volume_find(&one, "db");
    ck_assert_ptr_nonnull(volume);
    ck_assert_uint_eq(volume->id, 1);
    volume->state = VOLUME_FREE;
    ck_assert_ptr_null(superblock_volume_find(&one, "db"));
    volume = superblock_volume_add(&one, "db", uuid_one);
    ck_assert_ptr_nonnull(volume);
    ck_assert_uint_eq(volume->id, 3);
    ck_assert_ptr_null(superblock_volume_add(&one, "", uuid_one));
}
END_TEST

START_TEST(the_table_of_volumes_is_bounded)
{
    char name[VOLUME_NAME_BYTES + 1];
    struct superblock_geometry geometry = {.device_bytes = GIB, .cores = 2};

    ck_assert_int_eq(superblock_init(&one, &geometry, uuid_one, why, sizeof(why)), 0);
    memset(name, 'a', sizeof(name));
    name[VOLUME_NAME_BYTES] = '\0';
    ck_assert_ptr_null(superblock_volume_add(&one, name, uuid_one));
    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        snprintf(name, sizeof(name), "v%u", i);
        ck_assert_ptr_nonnull(superblock_volume_add(&one, name, uuid_one));
    }
    ck_assert_ptr_null(superblock_volume_add(&one, "more", uuid_one));
    superblock_seal(&one);
    ck_assert_int_eq(superblock_check(&one, GIB, why, sizeof(why)), 0);

    /* All ids given: a free place does not help. */
    one.volumes[3].state = VOLUME_FREE;
    one.next_volume_id = VOLUME_ID_MAX + 1;
    ck_assert_ptr_null(superblock_volume_add(&one, "more", uuid_one));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("superblock");

    tcase_add_loop_test(cases, geometry_is_chosen, 0,
                        (int)(sizeof(geometry_cases) / sizeof(geometry_cases[0])));
    tcase_add_test(cases, odd_device_sizes_keep_the_copies_aligned);
    tcase_add_test(cases, too_small_says_what_to_do);
    tcase_add_test(cases, sentences_are_cut_to_their_room);
    tcase_add_test(cases, a_sealed_copy_is_accepted);
    tcase_add_test(cases, no_changed_byte_is_accepted);
    tcase_add_test(cases, what_is_not_ours_is_told_apart);
    tcase_add_loop_test(cases, impossible_fields_are_refused, 0,
                        (int)(sizeof(breakages) / sizeof(breakages[0])));
    tcase_add_test(cases, the_newer_copy_is_current);
    tcase_add_test(cases, one_good_copy_is_enough);
    tcase_add_test(cases, the_more_telling_error_wins);
    tcase_add_test(cases, copies_of_two_caches_are_refused);
    tcase_add_test(cases, volumes_are_found_and_ids_never_used_again);
    tcase_add_test(cases, the_table_of_volumes_is_bounded);
    return unit_run("superblock", cases);
}
