/* SPDX-License-Identifier: Apache-2.0 */
/* In which order the copies of the superblock are written.  Copy 1 is made unwritable by a limit of
 * the file's size. */
#include "io/superblock-io.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/device.h"
#include "tests/unit/unit.h"

#define DEVICE_BYTES (64u << 20)

static struct device device;
static struct superblock_io io;
static char path[] = "/tmp/test-io-superblock.XXXXXX";
static char why[256];

static void setup(void)
{
    struct superblock_geometry geometry = {.device_bytes = DEVICE_BYTES, .cores = 1};
    const uint8_t uuid[16] = {1, 2, 3};
    static struct superblock sb;

    ck_assert_int_ge(device.fd = mkstemp(path), 0);
    device.bytes = DEVICE_BYTES;
    ck_assert_int_eq(ftruncate(device.fd, DEVICE_BYTES), 0);
    ck_assert_int_eq(superblock_init(&sb, &geometry, uuid, why, sizeof(why)), 0);
    superblock_seal(&sb);
    for (unsigned copy = 0; copy < 2; copy++)
        ck_assert_int_eq(pwrite(device.fd, &sb, sizeof(sb), (off_t)superblock_offset(&sb, copy)),
                         sizeof(sb));
    ck_assert_int_eq(superblock_io_open(&io, &device, why, sizeof(why)), 0);
    ck_assert_uint_eq(io.current, 0);
}

static void teardown(void)
{
    superblock_io_close(&io);
    close(device.fd);
    unlink(path);
}

/* One bit of a copy changes. */
static void rot(unsigned copy)
{
    off_t offset = (off_t)superblock_offset(io.block, copy) + 5000;
    unsigned char byte;

    ck_assert_int_eq(pread(device.fd, &byte, 1, offset), 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(device.fd, &byte, 1, offset), 1);
}

static uint64_t sequence_of(unsigned copy)
{
    static struct superblock read;

    ck_assert_int_eq(
        pread(device.fd, &read, sizeof(read), (off_t)superblock_offset(io.block, copy)),
        sizeof(read));
    return superblock_check(&read, DEVICE_BYTES, why, sizeof(why)) == 0 ? read.sequence : 0;
}

/* Copy 1 cannot be written any more. */
static void limit_size(void)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = DEVICE_BYTES - SUPERBLOCK_BYTES;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(both_copies_are_written)
{
    for (uint64_t sequence = 2; sequence < 6; sequence++) {
        ck_assert_int_eq(superblock_io_commit(&io), 0);
        ck_assert_uint_eq(sequence_of(0), sequence);
        ck_assert_uint_eq(sequence_of(1), sequence);
    }
}
END_TEST

/* What would be left after a crash in the first write is the whole copy. */
START_TEST(the_current_copy_is_spared)
{
    limit_size();
    ck_assert_int_eq(superblock_io_commit(&io), -EFBIG);
    ck_assert_uint_eq(sequence_of(0), 1);
}
END_TEST

START_TEST(a_rotten_copy_is_written_first)
{
    rot(0);
    limit_size();
    ck_assert_int_eq(superblock_io_commit(&io), -EFBIG);
    ck_assert_uint_eq(sequence_of(0), 2);
    ck_assert_uint_eq(sequence_of(1), 1);
}
END_TEST

/* A write that the device acknowledged and lost left an older copy, whole. */
START_TEST(an_old_copy_is_written_first)
{
    static struct superblock old;

    ck_assert_int_eq(pread(device.fd, &old, sizeof(old), 0), sizeof(old));
    ck_assert_int_eq(superblock_io_commit(&io), 0);
    ck_assert_uint_eq(io.current, 1);
    ck_assert_int_eq(superblock_io_commit(&io), 0);
    ck_assert_uint_eq(io.current, 0);
    ck_assert_int_eq(pwrite(device.fd, &old, sizeof(old), 0), sizeof(old));
    limit_size();
    ck_assert_int_eq(superblock_io_commit(&io), -EFBIG);
    ck_assert_uint_eq(sequence_of(0), 4);
}
END_TEST

/* Nobody knows whether the current copy, which cannot be read, is whole: the other one is not. */
START_TEST(a_copy_that_cannot_be_read_is_spared)
{
    static struct superblock old;

    ck_assert_int_eq(pread(device.fd, &old, sizeof(old), 0), sizeof(old));
    ck_assert_int_eq(superblock_io_commit(&io), 0);
    ck_assert_uint_eq(io.current, 1);
    ck_assert_int_eq(pwrite(device.fd, &old, sizeof(old), 0), sizeof(old));
    ck_assert_int_eq(ftruncate(device.fd, DEVICE_BYTES - SUPERBLOCK_BYTES), 0);
    limit_size();
    ck_assert_int_eq(superblock_io_commit(&io), -EFBIG);
    ck_assert_uint_eq(sequence_of(0), 3);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-superblock");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, both_copies_are_written);
    tcase_add_test(cases, the_current_copy_is_spared);
    tcase_add_test(cases, a_rotten_copy_is_written_first);
    tcase_add_test(cases, an_old_copy_is_written_first);
    tcase_add_test(cases, a_copy_that_cannot_be_read_is_spared);
    return unit_run("io-superblock", cases);
}
