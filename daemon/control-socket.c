/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the control socket. */
#include "daemon/control-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int parent_directory_make(const char *path, unsigned mode)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    int error = 0;

    if (slash == NULL || slash == path)
        return 0;
    dir = strndup(path, (size_t)(slash - path));
    if (dir == NULL)
        return -ENOMEM;
    if (mkdir(dir, mode) != 0 && errno != EEXIST)
        error = -errno;
    free(dir);
    return error;
}

static int refuse(int error, const char *path, const char *what, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "control socket %s: %s: %s", path, what, strerror(-error));
    return error;
}

static int take_lock(struct control_socket *socket, char *why, size_t why_bytes)
{
    char path[sizeof(socket->path) + 8];

    snprintf(path, sizeof(path), "%s.lock", socket->path);
    socket->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (socket->lock_fd < 0)
        return refuse(-errno, path, "cannot be created", why, why_bytes);
    if (flock(socket->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    snprintf(why, why_bytes,
             "control socket %s: another blkcached uses it; stop that, or give this one another "
             "daemon.control",
             socket->path);
    return -EBUSY;
}

/* What is at the path: nothing, or a socket of a daemon that has gone.  We have the lock. */
static int make_room(const struct control_socket *socket, char *why, size_t why_bytes)
{
    struct stat status;

    if (lstat(socket->path, &status) != 0)
        return errno == ENOENT
                   ? 0
                   : refuse(-errno, socket->path, "cannot be looked at", why, why_bytes);
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(
            why, why_bytes,
            "control socket %s: there is a file of this name, which is no socket; remove it, or "
            "give another daemon.control",
            socket->path);
        return -EEXIST;
    }
    if (unlink(socket->path) != 0)
        return refuse(-errno, socket->path, "a stale one cannot be removed", why, why_bytes);
    return 0;
}

static int bind_private(struct control_socket *control, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int error;

    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0)
        return refuse(-errno, control->path, "cannot be made", why, why_bytes);
    memcpy(address.sun_path, control->path, sizeof(address.sun_path));
    /* The file has the mode of the socket: it is never open to others, not even for a moment. */
    if (fchmod(control->fd, 0600) != 0 ||
        bind(control->fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        chmod(control->path, 0600) != 0) {
        error = -errno;
        return refuse(error, control->path, "cannot be bound", why, why_bytes);
    }
    return 0;
}

int control_socket_open(struct control_socket *socket, const char *path, char *why,
                        size_t why_bytes)
{
    int error;

    *socket = (struct control_socket){.fd = -1, .lock_fd = -1};
    snprintf(socket->path, sizeof(socket->path), "%s", path);
    error = parent_directory_make(path, 0755);
    if (error)
        return refuse(error, path, "its directory cannot be created", why, why_bytes);
    error = take_lock(socket, why, why_bytes);
    if (!error)
        error = make_room(socket, why, why_bytes);
    if (!error)
        error = bind_private(socket, why, why_bytes);
    if (error) {
        if (socket->fd >= 0)
            close(socket->fd);
        if (socket->lock_fd >= 0)
            close(socket->lock_fd);
        socket->fd = socket->lock_fd = -1;
    }
    return error;
}

void control_socket_close(struct control_socket *socket)
{
    if (socket->fd < 0)
        return;
    unlink(socket->path);
    close(socket->fd);
    close(socket->lock_fd);
    socket->fd = socket->lock_fd = -1;
}
