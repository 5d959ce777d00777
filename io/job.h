/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: long work on a range of a volume, done in the background, a bounded piece at a time.
 *
 *   prefetch    reads into the cache what is not there; while clients wait for the backing store it
 *               pauses, but for a little now and then, so that it ends
 *   invalidate  counts the dirty blocks first, and fails (-EBUSY) when there are some, unless they
 *               are to be discarded; then drops what is cached, durably
 *
 * A job runs on one core.  The last JOBS_MAX are remembered.
 */
#ifndef IO_JOB_H
#define IO_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "io/cache.h"

#define JOBS_MAX 16u

enum job_kind {
    JOB_PREFETCH,
    JOB_INVALIDATE
};

enum job_state {
    JOB_RUNNING,
    JOB_WAITING, /* runs, but lets clients go first */
    JOB_DONE,
    JOB_FAILED,
    JOB_CANCELLED
};

struct job_config {
    enum job_kind kind;
    struct volume *volume;
    uint64_t offset, length; /* bytes, within the volume; whole blocks when discard */
    bool discard;            /* INVALIDATE: dirty blocks, too */
};

struct job_facts {
    uint64_t id;
    struct job_config config;
    enum job_state state;
    int error;             /* of FAILED, negative errno */
    uint64_t error_offset; /* where, roughly */
    uint64_t done_bytes;   /* of config.length */
    uint64_t dirty_bytes;  /* INVALIDATE: of the range, when it began: why it failed with -EBUSY,
                              or what was discarded */
    uint64_t missed_bytes; /* PREFETCH: of the range, found no place in the cache */
    double seconds;        /* since it began, or that it took */
};

struct jobs;

/* NULL: out of memory. */
struct jobs *jobs_create(struct cache *cache);

/* Ends all of them soon; none begins any more.  Any thread. */
void jobs_stop(struct jobs *jobs);

/* After the cores ended.  NULL: nothing. */
void jobs_destroy(struct jobs *jobs);

/* Any thread.  The id, which counts from 1, or 0: JOBS_MAX are running, or all are being stopped. */
uint64_t jobs_begin(struct jobs *jobs, const struct job_config *config);

/* False: there is none of this id (any more). */
bool jobs_facts(struct jobs *jobs, uint64_t id, struct job_facts *facts);
bool jobs_cancel(struct jobs *jobs, uint64_t id);

/* Of all that are remembered, oldest first; returns how many. */
unsigned jobs_list(struct jobs *jobs, struct job_facts list[JOBS_MAX]);

#endif
