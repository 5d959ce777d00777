/* SPDX-License-Identifier: Apache-2.0 */
/* Locking what a daemon that has just ended may still hold for a moment. */
#include "daemon/patient-lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#define WAIT_MS  2000u
#define RETRY_MS 10u

static void pause_before_retry(void)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000l};

    nanosleep(&pause, NULL);
}

/* The kernel lets the files of an io_uring go only when its last I/O has ended, after the process.
 */
int patient_lock(int fd, int operation)
{
    for (unsigned ms = 0; flock(fd, operation | LOCK_NB) != 0; ms += RETRY_MS) {
        if (errno != EWOULDBLOCK || ms >= WAIT_MS)
            return -errno;
        pause_before_retry();
    }
    return 0;
}

int patient_open(const char *path, int flags)
{
    int fd = open(path, flags);

    for (unsigned ms = 0; fd < 0 && errno == EBUSY && ms < WAIT_MS; ms += RETRY_MS) {
        pause_before_retry();
        fd = open(path, flags);
    }
    return fd;
}
