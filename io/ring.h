/* SPDX-License-Identifier: Apache-2.0 */
/* Set-up of one io_uring, with a fallback for each thing that an older kernel has not. */
#ifndef IO_RING_H
#define IO_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/uring-compat.h"

/* What the ring came to have. */
struct ring_traits {
    bool single_issuer; /* one thread submits: the kernel takes fewer locks */
    bool defer_taskrun; /* completions only appear inside our own io_uring_enter */
    bool ring_fd_registered;
    bool files_registered;
    bool buffers_registered;
};

/* Opens a ring of `entries` on the calling thread, the only one that may use it.  Negative errno,
 * and `why` a sentence that says what to do. */
int ring_open(struct io_uring *ring, unsigned entries, struct ring_traits *traits, char *why,
              size_t why_bytes);
void ring_close(struct io_uring *ring);

/* Makes a table of `slots` registered files, the first `count` of which are `files` (-1: empty).
 * Without it traits->files_registered stays false; the caller then uses descriptors. */
void ring_register_files(struct io_uring *ring, struct ring_traits *traits, const int *files,
                         unsigned count, unsigned slots);

/* Makes a table of `slots` registered buffers, the first of which is this memory.  Fails softly, too,
 * and says in the log what locked memory would have been needed. */
void ring_register_buffers(struct io_uring *ring, struct ring_traits *traits, void *memory,
                           size_t bytes, unsigned slots);

/* Puts memory into a slot of that table, or empties it (NULL).  False: it could not. */
bool ring_set_buffer(struct io_uring *ring, const struct ring_traits *traits, unsigned slot,
                     void *memory, size_t bytes);

#endif
