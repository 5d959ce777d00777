/* SPDX-License-Identifier: Apache-2.0 */
/* The device or file that is being formatted. */
#ifndef DAEMON_TARGET_H
#define DAEMON_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/progress.h"
#include "engine/format.h"

#define TARGET_WHY_BYTES 400

struct target {
    const char *path;
    int fd;
    uint64_t bytes;
    bool is_block;
    bool created; /* by us: to be removed when formatting fails */
};

/* Opens `path` for writing, alone: with a lock, and for a block device O_EXCL.  A file that is not
 * there is created when `bytes` is not 0.  Negative errno and a phrase in `why`. */
int target_open(struct target *target, const char *path, uint64_t bytes, char *why);
void target_close(struct target *target, bool failed);

/* What the target holds that must not be overwritten unasked: 1 and a phrase in `what` (of
 * TARGET_WHY_BYTES), 0, or a negative errno. */
int target_holds(const struct target *target, char *what);

/* Makes a file `bytes` long with all its blocks allocated; writes zeros to all of them unless
 * `quick`, so that no later write has to convert an extent. */
int target_allocate(struct target *target, uint64_t bytes, bool quick, struct progress *progress,
                    char *why);

/* Wipes what was at both ends, durably; then writes the superblock's two copies. */
int target_write_superblocks(const struct target *target, struct superblock *sb, char *why);

#endif
