/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's request, from whichever front end: cut into pieces, driven through the shards,
 * answered once.  Belongs to the core that received it (C1, I10).
 *
 *   front end                                    request.c
 *   fill in volume, op, flags, offset, length
 *   WRITE: request_buffer() -> where to receive
 *   request_submit()                        ---> pieces -> shards -> I/O -> ...
 *   done() is called, later in the same turn or in another one
 *   READ: request_payload() -> vectors to send
 *   sent: request_release()
 */
#ifndef IO_REQUEST_H
#define IO_REQUEST_H

#include <stdint.h>
#include <sys/uio.h>

#include "engine/shard.h"
#include "io/core.h"
#include "io/flush.h"

struct volume;
struct shard_runner;

enum request_op {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_ZERO,       /* write zeroes */
    REQUEST_TRIM,       /* whole blocks inside the range read as zeros afterwards */
    REQUEST_FLUSH,      /* every request of this volume answered before is durable when done (I1) */
    REQUEST_CACHE,      /* prefetch */
    REQUEST_INVALIDATE, /* drop what is cached of all blocks that are touched; -EBUSY where dirty */
};

enum request_flags {
    REQUEST_FUA = 1,
    REQUEST_NO_HOLE = 2, /* with REQUEST_ZERO: keep the backing store allocated */
    REQUEST_DISCARD = 8, /* with REQUEST_INVALIDATE: dirty blocks too; whole blocks only */
    REQUEST_FAST = 4,    /* with REQUEST_ZERO: -EOPNOTSUPP at once unless faster than a WRITE */
};

#define REQUEST_BYTES_MAX (32u << 20) /* of READ and WRITE; the others may cover a whole volume */

/* A piece with what the I/O layer keeps beside it. */
struct request_piece {
    struct request *request;
    struct shard_runner *runner;
    struct request_piece *next;       /* of the same request, or free */
    struct request_piece *queue_next; /* to be stepped */
    struct core_message message;      /* from the core that finished or resumes it */
    uint32_t part;                    /* CACHE: which part of the buffer it uses */
    struct piece piece;
};

/* Set to zeros (at least up to `first`) before it is used for the first time. */
struct request {
    /* Set by the front end. */
    struct volume *volume;
    uint8_t op;
    uint8_t flags;
    uint64_t offset; /* bytes; any alignment; offset + length within the volume (checked) */
    uint64_t length; /* bytes; more than 0 except for FLUSH */
    void (*done)(struct request *request);
    struct core *core;

    /* Valid in done(): 0 or a negative errno: -EIO, -ENOSPC, -EINVAL, -EPERM (read-only),
     * -ESHUTDOWN, -ENOMEM; -EBUSY for REQUEST_INVALIDATE; -EOPNOTSUPP for REQUEST_FAST only. */
    int error;
    uint64_t error_offset; /* where, roughly: nothing before it failed.  Not for FLUSH */

    void *private_pointer; /* for the front end's use */

    /* OPTIONAL: memory of the front end's own for READ, WRITE and ZERO, which then never wait for a
     * buffer.  It is the request's until done (READ: until request_release), and must have at least
     * REQUEST_GIVEN_BYTES(length).  What its `registered` says is not looked at. */
    struct buffer *given;

    /* Internal to request.c. */
    struct buffer *buffer;
    unsigned char *span; /* the aligned span that covers the request */
    uint64_t received_ns;
    uint64_t epoch;
    uint64_t next_block, end_block;      /* of what is not cut into pieces yet */
    uint32_t pieces_open;                /* pieces and flushes under way */
    uint32_t counted_bytes;              /* of `buffer`, against what writes may hold */
    uint8_t tier;                        /* enum latency_tier: the slowest so far */
    bool first_taken;                    /* `first` is in use */
    bool flash_failed;                   /* FLUSH: that of the flash did */
    bool no_fill;                        /* filling is paused */
    bool beyond;                         /* of a stream past the cutoff */
    bool sequential;                     /* of a run */
    uint8_t parts;                       /* CACHE: parts of the buffer in use, one bit each */
    struct request_piece *pieces, *last; /* READ: all of them; else those under way */
    struct core_buffer_waiter waiter;
    struct flush_waiter flush_flash, flush_backing;
    struct core_timer flush_timer; /* FLUSH while the flash has failed */
    struct request_piece first;    /* most requests need only one: the end is not to be cleared */
};

/* Whole blocks around any `length` bytes, and the old content of the edges of a write. */
#define REQUEST_GIVEN_BYTES(length) \
    (((length) + 2 * BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES + 4 * BLOCK_BYTES)

/* WRITE: where the payload is to be received, `length` contiguous bytes, or NULL when the core has
 * no buffer now, or writes hold as many as they may (see core_buffer_wait).  core, offset and
 * length (1 to REQUEST_BYTES_MAX) must be set. */
void *request_buffer(struct request *request);

/* Starts it.  Validation errors, too, are answered through done(), which only then may be called
 * before this returns.  WRITE needs request_buffer first. */
void request_submit(struct request *request);

/* READ, in done() or later, when error is 0: fills at most `max` vectors covering exactly `length`
 * bytes, from registered buffers, RAM frames, or a page of zeros; returns how many (never more than
 * REQUEST_VECTORS_MAX(length)).  Valid until request_release. */
#define REQUEST_VECTORS_MAX(length) ((unsigned)((length) / BLOCK_BYTES + 2))
unsigned request_payload(struct request *request, struct iovec *vectors, unsigned max);

/* READ, like request_payload: fills at most `max` runs of data and of zeros, in turn, covering
 * exactly `length` bytes.  Zeros are those that the cache knows of, whole blocks only.  Returns how
 * many; 0 when there are no zeros, or too many runs. */
struct request_run {
    uint64_t bytes;
    bool zeros;
};
unsigned request_runs(const struct request *request, struct request_run *runs, unsigned max);

/* Gives back buffers and frames.  After it the structure is the front end's to use again.  Also for
 * a request whose request_buffer was taken but that is not submitted. */
void request_release(struct request *request);

#endif
