/* SPDX-License-Identifier: Apache-2.0 */
/* What a start does with a volume (docs/attachment.md), and the file that it depends on. */
#include "io/attachment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/shard.h"
#include "tests/unit/unit.h"

/* ---- decisions ---------------------------------------------------------------------------- */

#define DISCARD ATTACH_DISCARD
#define TRUST   ATTACH_TRUST

struct row {
    uint8_t state, file_flash, dirty;
    uint64_t file_epoch;
    bool here, known;
    uint8_t flash, replaces;
    uint64_t flash_epoch;
    unsigned force;
    uint8_t verdict;
    bool discards;
    uint64_t epoch;
};

/* clang-format off */
static const struct row rows[] = {
    /* file: state, flash, dirty, epoch      flash: here, known, uuid, replaces, epoch   force  */
    {ATTACHMENT_NONE,     0, 0, 0,  true,  false, 1, 0, 0, 0,       ATTACH_NEW,     false, 1},
    {ATTACHMENT_ATTACHED, 1, 0, 1,  true,  true,  1, 0, 1, 0,       ATTACH_NORMAL,  false, 1},
    {ATTACHMENT_STOPPED,  1, 3, 4,  true,  true,  1, 0, 4, 0,       ATTACH_NORMAL,  false, 4},
    /* written to the state directory, and not to the flash */
    {ATTACHMENT_ATTACHED, 1, 0, 1,  true,  false, 1, 0, 0, 0,       ATTACH_NEW,     false, 2},
    /* the flash that was lost comes back; the last step of that was interrupted */
    {ATTACHMENT_DETACHED, 1, 3, 5,  true,  true,  1, 0, 4, 0,       ATTACH_RETURNS, false, 5},
    {ATTACHMENT_DETACHED, 1, 3, 5,  true,  true,  1, 0, 4, DISCARD, ATTACH_RETURNS, false, 5},
    {ATTACHMENT_DETACHED, 1, 3, 5,  true,  true,  1, 0, 5, 0,       ATTACH_NORMAL,  false, 5},
    /* another flash */
    {ATTACHMENT_STOPPED,  1, 0, 4,  true,  false, 2, 0, 0, 0,       ATTACH_NEW,     false, 5},
    {ATTACHMENT_STOPPED,  1, 3, 4,  true,  false, 2, 0, 0, 0,       ATTACH_BLOCKS,  false, 4},
    {ATTACHMENT_DETACHED, 1, 0, 4,  true,  false, 2, 0, 0, 0,       ATTACH_NEW,     false, 5},
    {ATTACHMENT_DETACHED, 1, 3, 4,  true,  false, 2, 0, 0, 0,       ATTACH_BLOCKS,  false, 4},
    {ATTACHMENT_DETACHED, 1, 3, 4,  true,  false, 2, 0, 0, TRUST,   ATTACH_BLOCKS,  false, 4},
    {ATTACHMENT_DETACHED, 1, 3, 4,  true,  false, 2, 0, 0, DISCARD, ATTACH_NEW,     true,  5},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  true,  false, 2, 0, 0, 0,       ATTACH_UNKNOWN, false, 4},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  true,  false, 2, 0, 0, DISCARD, ATTACH_NEW,     true,  5},
    /* ... that was formatted over the one before */
    {ATTACHMENT_ATTACHED, 1, 0, 4,  true,  false, 2, 1, 0, 0,       ATTACH_NEW,     false, 5},
    {ATTACHMENT_DETACHED, 1, 3, 4,  true,  false, 2, 1, 0, 0,       ATTACH_NEW,     false, 5},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  true,  false, 2, 3, 0, 0,       ATTACH_UNKNOWN, false, 4},
    /* the same one, which does not know the volume any more */
    {ATTACHMENT_DETACHED, 1, 3, 4,  true,  false, 1, 0, 0, 0,       ATTACH_BLOCKS,  false, 4},
    /* a flash that was left behind */
    {ATTACHMENT_ATTACHED, 2, 0, 5,  true,  true,  1, 0, 4, 0,       ATTACH_STALE,   false, 5},
    {ATTACHMENT_DETACHED, 2, 0, 5,  true,  true,  1, 0, 4, 0,       ATTACH_STALE,   false, 5},
    {ATTACHMENT_ATTACHED, 1, 0, 5,  true,  true,  1, 0, 4, 0,       ATTACH_STALE,   false, 5},
    {ATTACHMENT_ATTACHED, 2, 0, 5,  true,  true,  1, 0, 4, DISCARD, ATTACH_RETURNS, true,  6},
    {ATTACHMENT_ATTACHED, 2, 0, 5,  true,  true,  1, 0, 4, TRUST,   ATTACH_NORMAL,  false, 5},
    /* the state directory is lost, old, or another machine's */
    {ATTACHMENT_NONE,     0, 0, 0,  true,  true,  1, 0, 4, 0,       ATTACH_STATE,   false, 4},
    {ATTACHMENT_ATTACHED, 1, 0, 3,  true,  true,  1, 0, 4, 0,       ATTACH_STATE,   false, 4},
    {ATTACHMENT_ATTACHED, 2, 0, 4,  true,  true,  1, 0, 4, 0,       ATTACH_STATE,   false, 4},
    {ATTACHMENT_NONE,     0, 0, 0,  true,  true,  1, 0, 4, TRUST,   ATTACH_NORMAL,  false, 4},
    {ATTACHMENT_ATTACHED, 1, 0, 3,  true,  true,  1, 0, 4, DISCARD, ATTACH_RETURNS, true,  5},
    /* no flash */
    {ATTACHMENT_STOPPED,  1, 3, 4,  false, false, 0, 0, 0, 0,       ATTACH_WITHOUT, false, 5},
    {ATTACHMENT_DETACHED, 1, 3, 5,  false, false, 0, 0, 0, 0,       ATTACH_WITHOUT, false, 5},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  false, false, 0, 0, 0, 0,       ATTACH_UNKNOWN, false, 4},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  false, false, 0, 0, 0, TRUST,   ATTACH_UNKNOWN, false, 4},
    {ATTACHMENT_ATTACHED, 1, 0, 4,  false, false, 0, 0, 0, DISCARD, ATTACH_WITHOUT, true,  5},
    {ATTACHMENT_NONE,     0, 0, 0,  false, false, 0, 0, 0, 0,       ATTACH_STATE,   false, 0},
    {ATTACHMENT_NONE,     0, 0, 0,  false, false, 0, 0, 0, DISCARD, ATTACH_WITHOUT, true,  1},
};
/* clang-format on */

START_TEST(decisions)
{
    const struct row *row = &rows[_i];
    struct attachment file = {
        .state = row->state, .epoch = row->file_epoch, .dirty_count = row->dirty};
    struct attach_flash flash = {.here = row->here, .known = row->known, .epoch = row->flash_epoch};
    struct attach_plan plan;

    memset(file.flash, row->file_flash, sizeof(file.flash));
    memset(flash.uuid, row->flash, sizeof(flash.uuid));
    memset(flash.replaces, row->replaces, sizeof(flash.replaces));
    plan = attach_decide(&file, &flash, row->force);
    ck_assert_uint_eq(plan.verdict, row->verdict);
    ck_assert_uint_eq(plan.discards, row->discards);
    ck_assert_uint_eq(plan.epoch, row->epoch);
}
END_TEST

/* A copy of a flash that was used since is told by the number of its superblock alone. */
START_TEST(older_copy_is_stale)
{
    struct attachment file = {.state = ATTACHMENT_STOPPED, .epoch = 4, .sequence = 9};
    struct attach_flash flash = {.here = true, .known = true, .epoch = 4, .sequence = 9};

    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_NORMAL);
    flash.sequence = 10; /* killed between the state directory and the clean mark */
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_NORMAL);
    flash.sequence = 8;
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_STALE);
    ck_assert_uint_eq(attach_decide(&file, &flash, TRUST).verdict, ATTACH_NORMAL);
    ck_assert_uint_eq(attach_decide(&file, &flash, DISCARD).verdict, ATTACH_RETURNS);
    ck_assert(attach_decide(&file, &flash, DISCARD).discards);
    file.state = ATTACHMENT_ATTACHED;
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_STALE);
    /* From before the volume came. */
    flash.known = false;
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_UNKNOWN);
    flash.sequence = 9;
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_NEW);
    /* What comes back gives no more than the list, and that is compared. */
    file.state = ATTACHMENT_DETACHED;
    flash = (struct attach_flash){.here = true, .known = true, .epoch = 3, .sequence = 8};
    ck_assert_uint_eq(attach_decide(&file, &flash, 0).verdict, ATTACH_RETURNS);
}
END_TEST

/* ---- the file ----------------------------------------------------------------------------- */

static char directory[64], why[512];

static void set_up(void)
{
    snprintf(directory, sizeof(directory), "/tmp/attach-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void tear_down(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static struct dirty_block list[] = {
    {.block = 0, .crc = 0x01234567}, {.block = 1, .zero = true},
    {.block = 7, .lost = true},      {.block = 8, .crc = UINT32_MAX},
    {.block = 9, .crc = 0},          {.block = 4000000000000u, .crc = 0xabcdef01},
};
#define LIST_COUNT (sizeof(list) / sizeof(list[0]))

static void store(struct attachment *file)
{
    *file = (struct attachment){
        .state = ATTACHMENT_DETACHED, .epoch = 7, .sequence = 12, .dirty = list, .dirty_count = 5};
    memset(file->flash, 0x5a, sizeof(file->flash));
    ck_assert_msg(attachment_store(directory, "a/b", file, why, sizeof(why)) == 0, "%s", why);
}

START_TEST(comes_back_as_it_was)
{
    struct attachment file, read;

    ck_assert_int_eq(attachment_load(directory, "a/b", &read, why, sizeof(why)), 0);
    ck_assert_uint_eq(read.state, ATTACHMENT_NONE);
    store(&file);
    ck_assert_msg(attachment_load(directory, "a/b", &read, why, sizeof(why)) == 0, "%s", why);
    ck_assert_uint_eq(read.state, file.state);
    ck_assert_uint_eq(read.epoch, file.epoch);
    ck_assert_uint_eq(read.sequence, file.sequence);
    ck_assert_mem_eq(read.flash, file.flash, sizeof(file.flash));
    ck_assert_uint_eq(read.dirty_count, file.dirty_count);
    for (unsigned i = 0; i < file.dirty_count; i++) {
        ck_assert_uint_eq(read.dirty[i].block, list[i].block);
        ck_assert_uint_eq(read.dirty[i].crc, list[i].crc);
        ck_assert_uint_eq(read.dirty[i].zero, list[i].zero);
        ck_assert_uint_eq(read.dirty[i].lost, list[i].lost);
    }
    free(read.dirty);
}
END_TEST

/* Cut at, or with a bit flipped in, each byte: refused, or as it was; never something else. */
START_TEST(damage_is_found)
{
    char path[256], text[1024];
    struct attachment file, read;
    size_t bytes;
    FILE *stream;

    store(&file);
    attachment_path(directory, "a/b", path, sizeof(path));
    stream = fopen(path, "r");
    bytes = fread(text, 1, sizeof(text), stream);
    fclose(stream);
    for (size_t i = 0; i < bytes; i++) {
        text[i] ^= _i ? 1 : 0;
        stream = fopen(path, "w");
        ck_assert_uint_eq(fwrite(text, 1, _i ? bytes : i, stream), _i ? bytes : i);
        fclose(stream);
        text[i] ^= _i ? 1 : 0;
        ck_assert_int_eq(attachment_load(directory, "a/b", &read, why, sizeof(why)), -EBADMSG);
        ck_assert_ptr_null(read.dirty);
    }
}
END_TEST

START_TEST(older_files_are_understood)
{
    char path[256];
    struct attachment read;
    FILE *stream;

    attachment_path(directory, "v", path, sizeof(path));
    stream = fopen(path, "w");
    fputs("epoch 12\nflash 5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a\n", stream);
    fclose(stream);
    ck_assert_msg(attachment_load(directory, "v", &read, why, sizeof(why)) == 0, "%s", why);
    ck_assert_uint_eq(read.epoch, 12);
    ck_assert_uint_eq(read.state, ATTACHMENT_ATTACHED);
    ck_assert_uint_eq(read.flash[3], 0x5a);
}
END_TEST

START_TEST(describes_ranges)
{
    char text[200];

    attachment_describe(list, LIST_COUNT, text, sizeof(text));
    ck_assert_str_eq(text, "6 blocks (24576 bytes): 0-1 7-9 4000000000000");
    attachment_describe(list, 0, text, sizeof(text));
    ck_assert_str_eq(text, "0 blocks (0 bytes)");
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("attach");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_loop_test(cases, decisions, 0, sizeof(rows) / sizeof(rows[0]));
    tcase_add_test(cases, older_copy_is_stale);
    tcase_add_test(cases, comes_back_as_it_was);
    tcase_add_loop_test(cases, damage_is_found, 0, 2);
    tcase_add_test(cases, older_files_are_understood);
    tcase_add_test(cases, describes_ranges);
    return unit_run("attach", cases);
}
