/* SPDX-License-Identifier: Apache-2.0 */
/* How far long work is, in one line on a terminal that is written over. */
#ifndef DAEMON_PROGRESS_H
#define DAEMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* a verb in -ing */
    bool shown;       /* does somebody watch: else nothing is printed */
    uint64_t started_ns, printed_ns;
    uint64_t least, gained_ns; /* what was left at the least, and when it last became less */
};

void progress_begin(struct progress *progress, const char *what, bool shown);

/* `done` of `total` bytes; prints a few times a second at most. */
void progress_bytes(struct progress *progress, uint64_t done, uint64_t total);

/* True: what is left has not become less for more than `patience` seconds, and was `hindered` at each look. */
bool progress_stalls(struct progress *progress, uint64_t left, bool hindered, double patience);

/* Takes the line away. */
void progress_end(struct progress *progress);

#endif
