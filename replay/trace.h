/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block traces: text, plain or compressed with zstd, one request per line:
 *
 *     time_us,op(R|W),offset_bytes,length_bytes[,volume]
 */
#ifndef REPLAY_TRACE_H
#define REPLAY_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_VOLUMES 8u

struct trace;

struct trace_request {
    uint64_t time_us;
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes, not 0 */
    uint16_t volume; /* 1 to TRACE_VOLUMES; 1 where the line does not say */
    bool is_write;
};

/* Opens the trace `path` ("-" is standard input).  NULL on error; `why` (of `why_bytes`) then says
 * what is wrong. */
struct trace *trace_open(const char *path, char *why, size_t why_bytes);

/* The next request: 1, 0 at the end, -1 on an error, which `why` then tells with its line. */
int trace_next(struct trace *trace, struct trace_request *request);
const char *trace_why(const struct trace *trace);

void trace_close(struct trace *trace);

#endif
