/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input and output as a connection. */
#include "daemon/single.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (64u << 10)

/* Until the end of `from`, or until nobody wants it any more. */
static void copy(int from, int to)
{
    unsigned char data[COPY_BYTES];

    for (;;) {
        ssize_t got = read(from, data, sizeof(data)), sent = 0;

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        while (sent < got) {
            ssize_t wrote = write(to, data + sent, (size_t)(got - sent));

            if (wrote < 0 && errno != EINTR)
                return;
            sent += wrote > 0 ? wrote : 0;
        }
    }
}

static void *copy_from_client(void *opaque)
{
    struct single *single = opaque;

    copy(single->in, single->far);
    shutdown(single->far, SHUT_WR);
    return NULL;
}

static void *copy_to_client(void *opaque)
{
    struct single *single = opaque;

    copy(single->far, single->out);
    close(single->out);
    return NULL;
}

/* The library's and our own words must not get into the conversation. */
static int replace_standard(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    close(null);
    return 0;
}

static int start_copying(struct single *single)
{
    int ends[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    single->copying = true;
    single->fd = ends[0];
    single->far = ends[1];
    error = pthread_create(&single->from_client, NULL, copy_from_client, single);
    if (!error)
        error = pthread_create(&single->to_client, NULL, copy_to_client, single);
    return -error;
}

int single_open(struct single *single)
{
    struct stat status;
    int error;

    *single = (struct single){.fd = -1};
    signal(SIGPIPE, SIG_IGN);
    single->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    single->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (single->in < 0 || single->out < 0 || fstat(single->in, &status) != 0)
        return -errno;
    error = replace_standard();
    if (error)
        return error;
    if (!S_ISSOCK(status.st_mode))
        return start_copying(single);
    /* With O_NONBLOCK the ring would not wait for the client. */
    if (fcntl(single->in, F_SETFL, fcntl(single->in, F_GETFL) & ~O_NONBLOCK) != 0)
        return -errno;
    single->fd = single->in;
    close(single->out);
    return 0;
}

void single_end(struct single *single)
{
    if (!single->copying)
        return;
    pthread_join(single->to_client, NULL);
    /* The client may still hold its end open, and say nothing: what waits for it ends with the
     * process. */
    pthread_detach(single->from_client);
}
