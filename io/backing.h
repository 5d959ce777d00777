/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backing store: the slow storage behind a volume.  Kinds: block device or file (io_uring,
 * O_DIRECT), NBD server (libnbd's asynchronous API, its socket polled from the owner core's ring).
 *
 * Requests are 4 KiB-aligned; the last block may reach past the end: reads are filled with zeros,
 * writes are cut.  A write to an NBD server that timed out or whose connection was lost fails when its
 * time is over, or when there is a new connection; nothing else is sent before that (hazard 15, I22).
 */
#ifndef IO_BACKING_H
#define IO_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "io/core.h"

struct backing;

/* How long an NBD server may take for one request before its connection is given up, and how long
 * requests wait for a reconnect, when the caller does not say. */
#define BACKING_TIMEOUT_NS_DEFAULT UINT64_C(30000000000)

enum backing_op {
    BACKING_READ,
    BACKING_WRITE,
    BACKING_ZERO,
    BACKING_FLUSH,
    BACKING_EXTENTS, /* what [offset, offset + length) is: into `extents`, from its start on, perhaps
                        not all of it; offset and length need not be aligned */
};
enum backing_flags {
    BACKING_FUA = 1,
    BACKING_MAY_UNMAP = 2
};

struct extent {
    uint64_t bytes;
    uint32_t flags;
};

struct extent_list {
    unsigned count, max;
    uint64_t bytes; /* of all of them */
    bool full;      /* one did not fit */
    struct extent *extents;
};

/* Adds to the end, or to the last one if its flags are the same.  False: the list is full, and takes
 * no more, so that it has no gap. */
bool extent_list_add(struct extent_list *list, uint64_t bytes, uint32_t flags);

struct backing_io {
    /* Set by the caller, on any core; `done` is called on that same core. */
    uint8_t op;
    uint8_t flags;
    uint64_t offset;
    uint64_t length;
    unsigned char *data;
    struct extent_list *extents; /* EXTENTS: flags are those of enum extent_allocation */
    void (*done)(struct core *core, struct backing_io *io, int result); /* 0 or negative errno */

    /* Internal to the kind. */
    struct core_op op_done;
    struct core_message message;
    struct core *core; /* where it came from */
    struct list link;
    struct backing *backing;
    void *connection;
    uint64_t started_ns; /* when it arrived */
    uint64_t issued_ns;  /* when it was last sent to a server */
    uint64_t end;        /* of `length`, what lies within the backing store */
    uint64_t progress;   /* bytes of `end` that are done */
    uint64_t mark;       /* FLUSH: the writes that it covers */
    uint32_t step;       /* bytes under way */
    int result;
    uint8_t stage;
    uint8_t tries;
};

struct backing_info {
    uint64_t bytes;
    bool read_only;
    bool can_zero; /* efficient zeroing; without it zeros are written */
    bool can_trim;
    bool zeroes_fast;      /* zeroing with BACKING_MAY_UNMAP is known to write no data */
    bool has_flush;        /* has a volatile cache or cannot tell: flushes are needed.  Without it a
                             FLUSH succeeds at once */
    uint32_t sector_bytes; /* that its partition table counts in: 512 or 4096 */
    uint8_t identity[16];  /* io/backing-identity.h */
};

/* Opens `spec`, a path or an NBD URI (nbd://, nbd+unix://, nbds://), on the main thread before the
 * cores run or from control (may block for `timeout_ns`).  Takes an exclusive lock (flock on the
 * description that does the I/O; block devices also O_EXCL).  Negative errno, and `why` a sentence
 * that says what, why and what to do. */
int backing_open(struct backing **backing, const char *spec, bool read_only, uint64_t timeout_ns,
                 char *why, size_t why_bytes);
/* No request is under way; from the threads that backing_open may be called from. */
void backing_close(struct backing *backing);
const struct backing_info *backing_info(const struct backing *backing);

/* The core that owns what cannot be shared (NBD connections); before the cores run.  Default: 0. */
void backing_set_owner(struct backing *backing, unsigned core);

/* On any core.  `io` stays the backing's until done, which may be called before this returns. */
void backing_submit(struct core *core, struct backing *backing, struct backing_io *io);

/* For status, any thread: "up", "failing" (the last request ended with an error), "reconnecting", with
 * how long and the last error. */
void backing_state(struct backing *backing, char *text, size_t bytes);

#endif
