/* SPDX-License-Identifier: Apache-2.0 */
/* What a device or file holds already, before something is written over it. */
#ifndef DAEMON_SIGNATURE_H
#define DAEMON_SIGNATURE_H

#include <stdbool.h>
#include <stdint.h>

#define SIGNATURE_BYTES 256

/*
 * Looks at the device or file open at `fd`.  Returns 1 and in `what` (of SIGNATURE_BYTES) a phrase
 * such as "a file system (ext4)", 0 when nothing is known to be there, or a negative errno.
 *
 * A regular file whose ends are not zeros holds something, whatever it is; a block device may keep
 * the rests of its former life.
 */
int signature_find(int fd, uint64_t bytes, bool is_block, char *what);

#endif
