/* SPDX-License-Identifier: Apache-2.0 */
/* Going to the background. */
#include "daemon/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A byte through the pipe: it serves.  Its end: it has failed, and said why on stderr. */
static void wait_and_exit(pid_t child, int fd)
{
    char byte;
    ssize_t got;
    int status;

    do {
        got = read(fd, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1)
        _exit(EXIT_SUCCESS);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

int background_enter(void)
{
    int ends[2], null;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    child = fork();
    if (child < 0)
        return -errno;
    if (child > 0) {
        close(ends[1]);
        wait_and_exit(child, ends[0]);
    }
    close(ends[0]);
    setsid();
    /* stderr stays: it is the log, and where it goes is the caller's choice. */
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        close(null);
    }
    return ends[1];
}

void background_ready(int fd)
{
    char byte = 1;
    ssize_t put;

    do {
        put = write(fd, &byte, 1);
    } while (put < 0 && errno == EINTR);
    close(fd);
}
