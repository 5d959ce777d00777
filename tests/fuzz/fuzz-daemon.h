/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon within the process of a fuzz target: a flash file, two backing files, a configuration
 * read from a file, the cache and the NBD server, all as blkcached has them.
 *
 *   volume "work"    1 MiB, write-back
 *   volume "steady"  1 MiB, read-only: byte i of 8-byte word w is that of fuzz_steady_word(w)
 *
 * Its state goes from one input to the next, as it does in a daemon.
 */
#ifndef TESTS_FUZZ_FUZZ_DAEMON_H
#define TESTS_FUZZ_FUZZ_DAEMON_H

#include "daemon/service.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_VOLUME_BYTES (1u << 20)

/* How long an honest client waits before that is a finding. */
#define FUZZ_PATIENCE_MS 10000

struct fuzz_daemon {
    struct service service;
    char nbd_path[128], control_path[128];
};

/* Starts it; it stops, and its files go, at the end of the process. */
void fuzz_daemon_start(struct fuzz_daemon *daemon);

/* The directory of its files. */
const char *fuzz_daemon_directory(void);

/* A connection to a Unix socket; never fails. */
int fuzz_connect(const char *path);

/* Waits for POLLIN or POLLOUT, or else it is a finding that `who` waits in vain. */
short fuzz_wait(int fd, short events, const char *who);

/* All of it, or else it is a finding. */
void fuzz_send_all(int fd, const void *data, size_t bytes, const char *who);
void fuzz_receive_all(int fd, void *data, size_t bytes, const char *who);

uint64_t fuzz_steady_word(uint64_t word);

#endif
