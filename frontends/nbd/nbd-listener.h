/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket.  Its name in the configuration may stand for several of them. */
#ifndef FRONTENDS_NBD_LISTENER_H
#define FRONTENDS_NBD_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "frontends/nbd/nbd-server.h"
#include "io/core.h"

struct nbd_listener {
    int fd;
    char *name;                      /* as in the configuration; NULL: it was adopted */
    char address[NBD_ADDRESS_BYTES]; /* the same with the numbers that were found */

    /* Unix: to remove the file in the end if it is still ours. */
    char path[112];
    dev_t device;
    ino_t inode;

    /* Accepting, on core 0. */
    struct nbd_server *server;
    struct core_op accept;
    struct core_timer retry;
    bool accepting, closing;
    bool failing; /* and said so */
    bool ended;   /* under the server's lock: it has no reference of the server any more */
};

/*
 * Opens the sockets that `name` stands for, at most `max`, into `listeners`, each for
 * nbd_listener_close; returns how many, or a negative errno and a sentence in `why`.  The file of a
 * Unix socket on which nobody listens any more is replaced.
 */
int nbd_listener_open(struct nbd_listener **listeners, unsigned max, const char *name, char *why,
                      size_t why_bytes);

/* Takes over a socket that listens already; its file, if it has one, is not ours.  0, or a negative
 * errno and a sentence in `why`. */
int nbd_listener_adopt(struct nbd_listener **listener, unsigned max, int fd, char *why,
                       size_t why_bytes);

/* Closes the socket, removes its file, and frees it. */
void nbd_listener_close(struct nbd_listener *listener);

/* On core 0: calls nbd_server_accepted for each client from now on; holds a reference of the server
 * until it has ended. */
void nbd_listener_start(struct nbd_listener *listener, struct core *core,
                        struct nbd_server *server);
/* Accepts no more; nbd_server_listener_ended follows. */
void nbd_listener_stop(struct nbd_listener *listener, struct core *core);

#endif
