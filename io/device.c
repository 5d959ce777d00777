/* SPDX-License-Identifier: Apache-2.0 */
/* Opening block devices and files. */
#include "io/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/patience.h"
#include "engine/format.h"
#include "io/core.h"
#include "io/uring-compat.h"

#define BUSY_WAIT_MS  3000u
#define BUSY_RETRY_MS 10u

/* Reads one line of a queue attribute in sysfs; a partition's queue is that of its disk. */
static bool queue_attribute(uint64_t number, const char *name, char *value, size_t bytes)
{
    static const char *const parents[] = {"", "/.."};
    unsigned major_number = major((dev_t)number), minor_number = minor((dev_t)number);

    for (unsigned i = 0; i < 2; i++) {
        char path[128];
        FILE *file;
        bool got;

        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major_number, minor_number,
                 parents[i], name);
        file = fopen(path, "re");
        if (file == NULL)
            continue;
        got = fgets(value, (int)bytes, file) != NULL;
        fclose(file);
        if (got) {
            value[strcspn(value, "\n")] = '\0';
            return true;
        }
    }
    return false;
}

/* What direct I/O to a file must be aligned to; 0: not possible.  Kernels before 6.1 do not tell.
 */
static uint32_t file_alignment(int fd)
{
    /* struct statx of newer headers; the field is in what older ones call spare. */
    union {
        struct statx known;
        uint32_t words[64];
    } status;

    memset(&status, 0, sizeof(status));
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status.known) == 0 &&
        (status.known.stx_mask & STATX_DIOALIGN) != 0)
        return status.words[0x9c / 4]; /* stx_dio_offset_align */
    return BLOCK_BYTES;
}

static int open_path(const char *path, const struct stat *status, unsigned flags)
{
    int mode = (flags & DEVICE_READ_ONLY) ? O_RDONLY : O_RDWR;

    if (S_ISBLK(status->st_mode) && !(flags & DEVICE_QUICK))
        mode |= O_EXCL;
    return open(path, mode | O_CLOEXEC);
}

static void set_direct(struct device *device)
{
    int mode = fcntl(device->fd, F_GETFL);

    device->direct = fcntl(device->fd, F_SETFL, mode | O_DIRECT) == 0;
}

static int inspect_block(struct device *device)
{
    char cache[32];
    int logical;

    if (ioctl(device->fd, BLKGETSIZE64, &device->bytes) != 0 ||
        ioctl(device->fd, BLKSSZGET, &logical) != 0)
        return -errno;
    device->block_bytes = (uint32_t)logical;
    device->volatile_cache =
        !queue_attribute(device->device_number, "write_cache", cache, sizeof(cache)) ||
        strcmp(cache, "write through") != 0;
    if (logical <= (int)BLOCK_BYTES)
        set_direct(device);
    return 0;
}

/* A file's blocks are only certain to stay where they are after a flush of the file system's
 * journal, whatever the device below it has. */
static void inspect_file(struct device *device, const struct stat *status)
{
    uint32_t alignment;

    device->bytes = (uint64_t)status->st_size;
    device->volatile_cache = true;
    device->block_bytes = SECTOR_BYTES;
    alignment = file_alignment(device->fd);
    if (alignment == 0 || alignment > BLOCK_BYTES || device->bytes % alignment != 0)
        return;
    device->block_bytes = alignment;
    set_direct(device);
}

static int refuse(const char *path, const char *what, int error, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: %s: %s", path, what, strerror(-error));
    return error;
}

static int open_locked(struct device *device, const char *path, const struct stat *status,
                       unsigned flags, char *why, size_t why_bytes)
{
    int lock = (flags & DEVICE_READ_ONLY) ? LOCK_SH : LOCK_EX;

    device->fd = open_path(path, status, flags);
    if (device->fd < 0 && errno == EBUSY)
        return refuse(path, "in use; unmount it, or take it out of the array or volume group",
                      -EBUSY, why, why_bytes);
    if (device->fd < 0)
        return refuse(path, "cannot open it", -errno, why, why_bytes);
    if (!(flags & DEVICE_QUICK) && flock(device->fd, lock | LOCK_NB) != 0) {
        int error = errno == EWOULDBLOCK ? -EBUSY : -errno;

        close(device->fd);
        device->fd = -1;
        return refuse(path, "another program, perhaps another blkcached, has it locked", error, why,
                      why_bytes);
    }
    return 0;
}

/* A ring holds its files until all its I/O has ended, and the kernel lets a ring go some time after
 * its process has ended: a daemon that was killed keeps the lock for a moment.  Until then nothing
 * may be read or written here (hazard 15), so waiting is right, not only patient. */
static int open_patiently(struct device *device, const char *path, const struct stat *status,
                          unsigned flags, char *why, size_t why_bytes)
{
    struct patience patience = {.left_ms = BUSY_WAIT_MS, .step_ms = BUSY_RETRY_MS};
    int error;

    do
        error = open_locked(device, path, status, flags, why, why_bytes);
    while (error == -EBUSY && patience_wait(&patience));
    return error;
}

int device_open(struct device *device, const char *path, unsigned flags, char *why,
                size_t why_bytes)
{
    struct stat status;
    int error;

    memset(device, 0, sizeof(*device));
    device->fd = -1;
    device->slot = -1;
    if (stat(path, &status) != 0)
        return refuse(path, "cannot open it", -errno, why, why_bytes);
    if (!S_ISBLK(status.st_mode) && !S_ISREG(status.st_mode)) {
        snprintf(why, why_bytes, "%s: neither a block device nor a regular file", path);
        return -ENOTBLK;
    }
    error = open_patiently(device, path, &status, flags, why, why_bytes);
    if (error)
        return error;
    /* Again, of what was opened and is locked. */
    if (fstat(device->fd, &status) != 0)
        error = -errno;
    device->is_block = S_ISBLK(status.st_mode);
    device->device_number = device->is_block ? status.st_rdev : status.st_dev;
    device->inode = status.st_ino;
    if (!error && device->is_block)
        error = inspect_block(device);
    else if (!error)
        inspect_file(device, &status);
    if (error) {
        device_close(device);
        return refuse(path, "cannot find out its size", error, why, why_bytes);
    }
    return 0;
}

void device_close(struct device *device)
{
    if (device->slot >= 0)
        core_file_remove(device->slot);
    if (device->fd >= 0) {
        /* The ring may keep the description open for a moment longer. */
        flock(device->fd, LOCK_UN);
        close(device->fd);
    }
    device->fd = -1;
    device->slot = -1;
}
