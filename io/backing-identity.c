/* SPDX-License-Identifier: Apache-2.0 */
#include "io/backing-identity.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/hash.h"

#ifndef CIFS_MAGIC
#    define CIFS_MAGIC 0xff534d42u
#endif
#ifndef SMB2_MAGIC
#    define SMB2_MAGIC 0xfe534d42u
#endif

#define NAME_SEED    1
#define VERSION_SEED 2 /* of the second half, when it was of the name, too */
#define DISK_SEED    3

static uint64_t hash_text(uint64_t seed, const char *text)
{
    for (; *text != '\0'; text++)
        seed = hash_pair64(seed, (unsigned char)*text);
    return seed;
}

/* Whose server may be another one tomorrow, with the same files. */
static bool is_remote(int fd)
{
    static const uint32_t types[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  CIFS_MAGIC,
                                     SMB2_MAGIC,      FUSE_SUPER_MAGIC, V9FS_MAGIC};
    struct statfs status;

    if (fstatfs(fd, &status) != 0)
        return true;
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if ((uint32_t)status.f_type == types[i])
            return true;
    return false;
}

/* A copy, and what a backup tool puts in its place, is born later; the inode is no help, as some file
 * systems make numbers up. */
static uint64_t of_file(int fd)
{
    struct statx status;

    if (is_remote(fd) || statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &status) != 0 ||
        !(status.stx_mask & STATX_BTIME) || status.stx_btime.tv_sec == 0)
        return 0;
    return hash_pair64((uint64_t)status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
}

/* A file of sysfs below the directory `dir`; false: it is not there, or empty. */
static bool read_attribute(int dir, const char *name, char *text, size_t bytes)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, bytes - 1) : -1;

    if (fd >= 0)
        close(fd);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static uint64_t of_disk(dev_t number)
{
    /* dm, NVMe, SCSI, virtio, loop */
    static const char *const names[] = {"dm/uuid", "wwid",          "device/wwid",
                                        "serial",  "device/serial", "loop/backing_file"};
    char path[64], text[4096];
    uint64_t hash = 0, part = 0;
    int dir, whole;

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(number), minor(number));
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return 0;
    if (read_attribute(dir, "partition", text, sizeof(text))) {
        part = hash_text(DISK_SEED, text);
        if (read_attribute(dir, "start", text, sizeof(text)))
            part = hash_text(part, text);
        whole = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(dir);
        dir = whole;
    }
    for (unsigned i = 0; dir >= 0 && hash == 0 && i < sizeof(names) / sizeof(names[0]); i++)
        if (read_attribute(dir, names[i], text, sizeof(text)))
            hash = hash_pair64(hash_text(DISK_SEED + i, text), part);
    if (dir >= 0)
        close(dir);
    return hash;
}

void backing_identify(uint8_t identity[BACKING_IDENTITY_BYTES], const char *name, int fd)
{
    struct stat status;
    uint64_t which = 0;

    if (fd >= 0 && fstat(fd, &status) == 0)
        which = S_ISBLK(status.st_mode) ? of_disk(status.st_rdev) : of_file(fd);
    le64_store(identity, hash_text(NAME_SEED, name));
    le64_store(identity + 8, which);
}

enum backing_identity backing_identity_compare(const uint8_t before[BACKING_IDENTITY_BYTES],
                                               const uint8_t now[BACKING_IDENTITY_BYTES],
                                               const char *name)
{
    uint64_t was = le64_load(before + 8), is = le64_load(now + 8);

    if (was == hash_text(VERSION_SEED, name))
        was = 0;
    if (was != 0 && is != 0)
        return was == is ? BACKING_SAME : BACKING_REPLACED;
    return memcmp(before, now, 8) == 0 ? BACKING_SAME : BACKING_RENAMED;
}
