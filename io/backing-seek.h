/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the holes of a file.  lseek has no asynchronous form and may have to read the file
 * system's metadata, so it is called from a thread of its own: one for a file, started by the first
 * that asks.
 */
#ifndef IO_BACKING_SEEK_H
#define IO_BACKING_SEEK_H

#include <pthread.h>
#include <stdbool.h>

#include "io/backing.h"

struct backing_seek {
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list waiting; /* struct backing_io */
    pthread_t thread;
    bool started, ending;
};

void backing_seek_init(struct backing_seek *seek, int fd);

/* Nobody waits any more. */
void backing_seek_end(struct backing_seek *seek);

/* On io->core, where its done() comes.  io->end is how far to look. */
void backing_seek_start(struct backing_seek *seek, struct backing_io *io);

#endif
