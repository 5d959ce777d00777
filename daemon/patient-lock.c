/* SPDX-License-Identifier: Apache-2.0 */
/* Locking what a daemon that has just ended may still hold for a moment. */
#include "daemon/patient-lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "common/patience.h"

#define WAIT_MS  2000u
#define RETRY_MS 10u

int patient_lock(int fd, int operation)
{
    struct patience patience = {.left_ms = WAIT_MS, .step_ms = RETRY_MS};
    int error;

    do
        error = flock(fd, operation | LOCK_NB) == 0 ? 0 : -errno;
    while (error == -EWOULDBLOCK && patience_wait(&patience));
    return error;
}

int patient_open(const char *path, int flags)
{
    struct patience patience = {.left_ms = WAIT_MS, .step_ms = RETRY_MS};
    int fd;

    do
        fd = open(path, flags);
    while (fd < 0 && errno == EBUSY && patience_wait(&patience));
    return fd;
}
