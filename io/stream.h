/* SPDX-License-Identifier: Apache-2.0 */
/* Detects sequential streams: the last few of one volume on one core. */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAMS 16u

/* A longer stream is a run, PIECE_SEQUENTIAL, which the backing store reads fast. */
#define STREAM_RUN_BYTES (64u << 10)

/* Of each stream, side by side for a quick look at all; zeros to begin with. */
struct stream_table {
    uint64_t next[STREAMS]; /* offset that would continue it */
    uint64_t used[STREAMS]; /* order of use; 0: there is none */
    struct stream {
        uint64_t bytes; /* read so far, by ... */
        uint64_t requests;
    } streams[STREAMS];
    uint64_t uses;
};

/* Notes a read, and returns how many bytes its stream has, this read included; `is_run` says whether
 * that is a run. */
uint64_t stream_note(struct stream_table *table, uint64_t offset, uint64_t length, bool *is_run);

#endif
