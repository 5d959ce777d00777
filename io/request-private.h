/* SPDX-License-Identifier: Apache-2.0 */
/* What requests need per core, and what the shard runner tells them. */
#ifndef IO_REQUEST_PRIVATE_H
#define IO_REQUEST_PRIVATE_H

#include "io/cache.h"
#include "io/request.h"
#include "io/stream.h"

/* For the old content of a write's partial blocks, at the end of its buffer: two blocks for the
 * piece with the head, and two for the piece with the tail. */
#define REQUEST_SCRATCH_BYTES (4 * BLOCK_BYTES)

/* Of one volume on one core.  Written by that core only, read by any thread. */
struct request_volume {
    _Alignas(64) struct stream_table streams;
    struct latency latency[LATENCY_OPS][TIERS];
};

/* For so many cores, zeros; free() ends it.  NULL: out of memory. */
struct request_volume *request_volume_create(unsigned cores);

struct request_core {
    struct request_piece *free;
    struct list slabs;
    uint64_t write_bytes, write_bytes_max; /* of buffers that hold writes (C10) */
};

int request_enter(struct core *core);
void request_leave(struct core *core);

static inline struct request_piece *request_piece_of(struct piece *piece)
{
    return container_of(piece, struct request_piece, piece);
}

/* On any core: the piece is finished; it wants to be stepped again. */
void request_piece_done(struct core *core, struct request_piece *piece);
void request_piece_resume(struct core *core, struct request_piece *piece);

/* It is over: measures it, and answers it. */
void request_finish(struct request *request);

/* request-flush.c */
void request_flush_start(struct request *request);

/* latency.c */
void latency_add(struct latency *latency, uint64_t ns);

#endif
