/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a core, for the files of this layer only. */
#ifndef IO_CORE_PRIVATE_H
#define IO_CORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/core.h"
#include "io/ring.h"

#define MEMORY_REGIONS 63u /* of core_memory_register */

struct buffer_pool;
struct runner_core;
struct request_core;

/* See let_others_run in core.c. */
struct courtesy {
    unsigned turns, tries; /* tries: left, before it is given up */
    uint64_t not_before_ns, pause_ns;
};

struct core {
    struct io_uring ring;
    struct ring_traits traits;
    uint64_t now_ns;
    unsigned index;
    bool stopping; /* set by a message of cores_stop */
    const struct cores_config *config;

    struct courtesy courtesy;
    struct list timers; /* by due time, the earliest first */
    struct core_deferred *deferred_first, *deferred_last;

    /* What the parts of this layer keep per core. */
    struct buffer_pool *buffers;
    struct runner_core *runner;   /* shard-runner.c */
    struct request_core *request; /* request.c */

    struct {
        uintptr_t start;
        size_t bytes;          /* 0: free */
    } regions[MEMORY_REGIONS]; /* registered as buffers 1 and up */
    unsigned region_count;     /* those behind were never used */

    /* For files of this core only: slots of the ring's file table that are free. */
    uint16_t *free_slots;
    unsigned free_slot_count;

    pthread_t thread;
    struct core_message stop;
    int event_fd; /* wakes the core; a read of it is always under way */
    uint64_t event_value;
    struct core_op event_op;

    /* Written by any thread: on a cache line of its own.  `inbox` is a stack, newest first. Sender:
     * push, then look at `sleeping`.  Receiver: set `sleeping`, then look at `inbox`.  All four are
     * sequentially consistent, so at least one of the two sees the other. */
    _Alignas(64) struct core_message *_Atomic inbox;
    atomic_bool sleeping;
};

/* buffer.c */
struct buffer_pool *buffer_pool_create(struct core *core, uint64_t bytes);
void buffer_pool_destroy(struct buffer_pool *pool);

#endif
