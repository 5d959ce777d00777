/* SPDX-License-Identifier: Apache-2.0 */
/* Making what was written durable. */
#include "common/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int error;

    if (fd < 0)
        return -errno;
    error = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return error;
}
