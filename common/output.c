/* SPDX-License-Identifier: Apache-2.0 */
/* Standard output, which may be a full disk, a pipe that nobody reads, or closed. */
#include "common/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int failure; /* the first */

void output_begin(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* The wrong way round: EBADF, as if it were closed. */
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            abort();
    }
}

bool output_flush(void)
{
    if (fflush(stdout) != 0 && failure == 0)
        failure = -errno;
    return failure == 0 && !ferror(stdout);
}

int output_end(void)
{
    if (!output_flush() && failure == 0)
        failure = -EIO;
    if (fclose(stdout) != 0 && failure == 0)
        failure = -errno;
    return failure;
}
