/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of the control socket.  A lock file beside it, PATH.lock, says whose it is, so that a
 * socket that was left behind is told from one that is in use.
 */
#ifndef DAEMON_CONTROL_SOCKET_H
#define DAEMON_CONTROL_SOCKET_H

#include <stddef.h>

struct control_socket {
    int fd; /* bound, not listening yet: who connects is refused until then */
    int lock_fd;
    char path[108];
};

/* Creates the last directory of the path when it is not there.  Negative errno and a sentence;
 * -EBUSY when another daemon has it. */
int control_socket_open(struct control_socket *socket, const char *path, char *why,
                        size_t why_bytes);

/* Removes the file. */
void control_socket_close(struct control_socket *socket);

/* Creates the directory that `path` lies in, with `mode`, unless it is there.  Negative errno. */
int parent_directory_make(const char *path, unsigned mode);

#endif
