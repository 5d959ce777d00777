/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a backing store is the one that it was.
 *
 * An identity is a hash of the name in the first 8 bytes, and in the others a hash of what tells this
 * very file or disk from any other of that name: when the file was born; the disk's WWID, UUID or
 * serial number.  Zero where nothing does, or not for certain: NBD servers, some disks, remote and
 * some other file systems.  What is not known before or now is taken for the same.
 */
#ifndef IO_BACKING_IDENTITY_H
#define IO_BACKING_IDENTITY_H

#include <stdint.h>

#define BACKING_IDENTITY_BYTES 16

enum backing_identity {
    BACKING_SAME,
    BACKING_RENAMED, /* another name, and nothing else is known */
    BACKING_REPLACED /* another file or disk, whatever its name */
};

/* `fd` of the file or block device, -1: none. */
void backing_identify(uint8_t identity[BACKING_IDENTITY_BYTES], const char *name, int fd);

/* `before` may be of a version that only knew the name. */
enum backing_identity backing_identity_compare(const uint8_t before[BACKING_IDENTITY_BYTES],
                                               const uint8_t now[BACKING_IDENTITY_BYTES],
                                               const char *name);

#endif
