/* SPDX-License-Identifier: Apache-2.0 */
/* The device or file that is being formatted. */
#include "daemon/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sync.h"
#include "common/uuid.h"
#include "daemon/image.h"
#include "daemon/patient-lock.h"
#include "daemon/signature.h"
#include "engine/superblock.h"

#define WRITE_BYTES (4u << 20)

static int refuse(int error, const char *what, char *why)
{
    snprintf(why, TARGET_WHY_BYTES, "%s: %s", what, strerror(-error));
    return error;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int create(struct target *target, char *why)
{
    target->fd = open(target->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target->fd < 0)
        return refuse(-errno, "it cannot be created", why);
    target->created = true;
    return 0;
}

static int open_existing(struct target *target, const struct stat *status, char *why)
{
    int flags = O_RDWR | O_CLOEXEC | (S_ISBLK(status->st_mode) ? O_EXCL : 0);

    if (!S_ISBLK(status->st_mode) && !S_ISREG(status->st_mode)) {
        snprintf(why, TARGET_WHY_BYTES, "it is neither a block device nor a regular file");
        return -ENOTBLK;
    }
    target->fd = patient_open(target->path, flags);
    if (target->fd < 0 && errno == EBUSY) {
        snprintf(why, TARGET_WHY_BYTES,
                 "it is in use; stop blkcached, unmount it, or take it out of its array");
        return -EBUSY;
    }
    return target->fd < 0 ? refuse(-errno, "it cannot be opened", why) : 0;
}

static int find_size(struct target *target, uint64_t bytes, char *why)
{
    struct stat status;

    if (fstat(target->fd, &status) != 0)
        return refuse(-errno, "its size cannot be read", why);
    target->is_block = S_ISBLK(status.st_mode);
    target->bytes = (uint64_t)status.st_size;
    if (target->is_block && ioctl(target->fd, BLKGETSIZE64, &target->bytes) != 0)
        return refuse(-errno, "its size cannot be read", why);
    if (target->is_block && bytes != 0) {
        snprintf(why, TARGET_WHY_BYTES,
                 "it is a block device, whose size is given; leave --size "
                 "away");
        return -EINVAL;
    }
    return 0;
}

int target_open(struct target *target, const char *path, uint64_t bytes, char *why)
{
    struct stat status;
    int error;

    *target = (struct target){.path = path, .fd = -1};
    if (stat(path, &status) == 0) {
        error = open_existing(target, &status, why);
    } else if (errno == ENOENT && bytes != 0) {
        error = create(target, why);
    } else {
        error = -errno;
        snprintf(why, TARGET_WHY_BYTES, "%s%s", strerror(errno),
                 errno == ENOENT ? "; give --size to create a file" : "");
    }
    if (!error) {
        error = patient_lock(target->fd, LOCK_EX);
        if (error)
            snprintf(why, TARGET_WHY_BYTES,
                     "it is in use (%s); stop the blkcached that works on it first",
                     strerror(-error));
    }
    if (!error)
        error = find_size(target, bytes, why);
    if (error)
        target_close(target, true);
    return error;
}

void target_close(struct target *target, bool failed)
{
    if (failed && target->created)
        unlink(target->path);
    if (target->fd >= 0)
        close(target->fd);
    target->fd = -1;
}

/* ---- what is there -------------------------------------------------------------------------- */

/* The names of the volumes that a cache holds data of. */
static void describe_volumes(const struct superblock *sb, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < VOLUMES_MAX && used < bytes; i++) {
        if (sb->volumes[i].state == VOLUME_ACTIVE)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? ", " : "",
                                     sb->volumes[i].name);
    }
}

static bool has_magic(const struct superblock *sb)
{
    return memcmp(sb->magic, SUPERBLOCK_MAGIC, sizeof(sb->magic)) == 0;
}

/* Whether there is a cache, in whatever state. */
static bool holds_cache(const struct target *target, char *what)
{
    char uuid[UUID_TEXT_BYTES], volumes[200], why[IMAGE_WHY_BYTES];
    struct image image;
    bool found = false;

    if (image_open(&image, target->path, true, why) != 0)
        return false;
    if (image.sb != NULL) {
        found = true;
        uuid_print(uuid, (const struct uuid *)image.sb->uuid);
        describe_volumes(image.sb, volumes, sizeof(volumes));
        snprintf(what, TARGET_WHY_BYTES, "the blkcached cache %s%s%s%s", uuid,
                 *volumes ? ", perhaps with dirty data of " : "", volumes,
                 *volumes ? " (blkcachectl flush writes it back)" : "");
    } else if (has_magic(&image.copies[0]) || has_magic(&image.copies[1])) {
        found = true;
        snprintf(what, TARGET_WHY_BYTES, "a blkcached cache that cannot be used (%s)", image.why);
    }
    image_close(&image);
    return found;
}

int target_holds(const struct target *target, char *what)
{
    if (target->bytes > 0 && holds_cache(target, what))
        return 1;
    return signature_find(target->fd, target->bytes, target->is_block, what);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    const unsigned char *at = data;

    while (bytes > 0) {
        ssize_t put = pwrite(fd, at, bytes, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -ENOSPC;
        at += put;
        offset += (uint64_t)put;
        bytes -= (uint64_t)put;
    }
    return 0;
}

static int write_zeros(int fd, uint64_t from, uint64_t to, struct progress *progress)
{
    void *zeros = NULL;
    int error = 0;

    if (posix_memalign(&zeros, BLOCK_BYTES, WRITE_BYTES) != 0)
        return -ENOMEM;
    memset(zeros, 0, WRITE_BYTES);
    for (uint64_t at = from; at < to && !error;) {
        uint64_t bytes = to - at < WRITE_BYTES ? to - at : WRITE_BYTES;

        error = write_all(fd, zeros, bytes, at);
        at += bytes;
        if (progress != NULL)
            progress_bytes(progress, at - from, to - from);
    }
    free(zeros);
    return error;
}

/* Without going through the page cache, where the file system can. */
static int fill_with_zeros(const struct target *target, struct progress *progress)
{
    int fd = open(target->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    int error = fd < 0 ? -errno : write_zeros(fd, 0, target->bytes, progress);

    if (fd >= 0)
        close(fd);
    if (error == -EINVAL)
        error = write_zeros(target->fd, 0, target->bytes, progress);
    return error;
}

int target_allocate(struct target *target, uint64_t bytes, bool quick, struct progress *progress,
                    char *why)
{
    int error = 0;

    if (target->is_block)
        return 0;
    if (ftruncate(target->fd, (off_t)bytes) != 0)
        return refuse(-errno, "its size cannot be set", why);
    target->bytes = bytes;
    if (fallocate(target->fd, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP)
        return refuse(-errno, "its space cannot be allocated", why);
    if (!quick) {
        error = fill_with_zeros(target, progress);
        progress_end(progress);
    }
    if (!error && fsync(target->fd) != 0)
        error = -errno;
    return error ? refuse(error, "its blocks cannot be written", why) : 0;
}

/* A new file is durable only when its name is. */
static int sync_parent(const struct target *target)
{
    const char *slash = strrchr(target->path, '/');
    char *dir = slash ? strndup(target->path, (size_t)(slash - target->path) + 1) : strdup(".");
    int error = dir == NULL ? -ENOMEM : sync_path(dir);

    free(dir);
    return error;
}

/* No copy of an older cache must ever be newer than one of ours: both are gone, durably, before the
 * first of ours is there. */
static int write_in_order(const struct target *target, const struct superblock *sb)
{
    uint64_t bytes = target->bytes;
    uint64_t last = bytes > DATA_OFFSET ? bytes - DATA_OFFSET : 0;
    int error = write_zeros(target->fd, 0, DATA_OFFSET < bytes ? DATA_OFFSET : bytes, NULL);

    if (!error)
        error = write_zeros(target->fd, last, bytes, NULL);
    for (unsigned copy = 0; copy < 2 && !error; copy++) {
        if (fsync(target->fd) != 0)
            return -errno;
        error = write_all(target->fd, sb, sizeof(*sb), superblock_offset(sb, copy));
    }
    if (!error && fsync(target->fd) != 0)
        error = -errno;
    if (!error && target->created)
        error = sync_parent(target);
    return error;
}

int target_write_superblocks(const struct target *target, struct superblock *sb, char *why)
{
    int error;

    superblock_seal(sb);
    error = write_in_order(target, sb);
    return error ? refuse(error, "its superblocks cannot be written", why) : 0;
}
