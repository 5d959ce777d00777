/* SPDX-License-Identifier: Apache-2.0 */
/* A block device or regular file, opened for direct I/O and locked against other users. */
#ifndef IO_DEVICE_H
#define IO_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device {
    int fd;
    int slot; /* of core_file_add; -1: none */
    uint64_t bytes;
    uint32_t block_bytes; /* I/O must be aligned to this much */
    bool is_block;
    bool direct;         /* O_DIRECT is in force */
    bool volatile_cache; /* needs flushes: has a volatile cache, or cannot tell */
    uint64_t device_number, inode;
};

enum device_flags {
    DEVICE_READ_ONLY = 1, /* shares the lock with other readers */
    DEVICE_QUICK = 2,     /* no lock, no exclusive open: to look at it only */
};

/* Opens `path`.  The lock is on the description that does the I/O (I22), block devices are also
 * opened with O_EXCL.  A file whose size does not fit direct I/O is opened without O_DIRECT.
 * Negative errno and `why` a sentence that begins with the path. */
int device_open(struct device *device, const char *path, unsigned flags, char *why,
                size_t why_bytes);
void device_close(struct device *device);

#endif
