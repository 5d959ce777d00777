/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client on standard input and output.  These may be one socket, which is used as it is, or two
 * pipes, between which and a socket of our own two threads copy.
 */
#ifndef DAEMON_SINGLE_H
#define DAEMON_SINGLE_H

#include <pthread.h>
#include <stdbool.h>

struct single {
    int fd; /* the client; whoever takes it closes it */
    bool copying;
    int far;     /* the other end of our socket */
    int in, out; /* the pipes */
    pthread_t from_client, to_client;
};

/* Afterwards standard input and output are /dev/null.  Negative errno. */
int single_open(struct single *single);

/* fd was closed: waits until all that was answered has been written. */
void single_end(struct single *single);

#endif
