/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A core: one pinned thread with one io_uring.  It does I/O, steps shards, and serves front ends.
 *
 * One turn of the loop: reap completions -> handlers run (front ends parse and submit requests,
 * shards are stepped) -> messages from other cores -> due timers -> seal the batches of the shards
 * that were touched -> front ends flush replies (core_defer) -> one io_uring_enter.
 *
 * Unless said otherwise, a function may be called only on the core's own thread.
 */
#ifndef IO_CORE_H
#define IO_CORE_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

struct core;
struct cache;

/* The target of a completion: embed it, point user_data at it (core_sqe does). */
struct core_op {
    void (*done)(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags);
};

/* A message to another core: embed it; it may be sent again once handled. */
struct core_message {
    void (*handle)(struct core *core, struct core_message *message);
    struct core_message *next;
};

struct core_timer {
    void (*expired)(struct core *core, struct core_timer *timer);
    uint64_t due_ns;
    struct list link;
    bool armed;
};

/* Called once before the core sleeps or submits, after all handlers of this turn; embed it, queue it
 * with core_defer as often as wanted, it runs once.  For "one send per connection and turn". */
struct core_deferred {
    void (*run)(struct core *core, struct core_deferred *deferred);
    struct core_deferred *next;
    bool queued;
};

/* A submission entry whose completion goes to `op`; never NULL (submits what is queued when the ring
 * is full).  The caller prepares it with io_uring_prep_*, then calls core_sqe_to(sqe, op) — or
 * uses io_uring_sqe_set_data itself, after prep. */
struct io_uring_sqe *core_sqe(struct core *core);

/* Any thread. */
void core_message_send(struct core *to, struct core_message *message);

void core_timer_arm(struct core *core, struct core_timer *timer, uint64_t due_ns);
void core_timer_disarm(struct core *core, struct core_timer *timer);
void core_defer(struct core *core, struct core_deferred *deferred);

/* Monotonic ns, read once per turn. */
uint64_t core_now(const struct core *core);
unsigned core_index(const struct core *core);
struct cache *core_cache(const struct core *core);
struct io_uring *core_ring(struct core *core);

/* The core of this thread; NULL on a thread that is none. */
struct core *core_self(void);

/* All cores of the process. */
unsigned core_count(void);
struct core *core_at(unsigned index);

/* ---- buffers: per core, registered in its ring when locked memory allows ------------------- */

/* `data` is 4 KiB-aligned and has `bytes` usable; BLOCK_BYTES before `data` are headroom.  */
struct buffer {
    unsigned char *data;
    uint32_t bytes;
    int32_t registered; /* index for io_uring_prep_read_fixed / write_fixed, or -1 */
    uint16_t core;
    uint16_t size_class;
    struct buffer *next;
};

/* At least `bytes` (at most BUFFER_BYTES_MAX).  NULL when the core's budget is used up: then wait
 * (core_buffer_wait) — first come, first served. */
#define BUFFER_BYTES_MAX (34u << 20)
struct buffer *core_buffer_take(struct core *core, uint32_t bytes);
void core_buffer_give(struct core *core, struct buffer *buffer);

struct core_buffer_waiter {
    void (*ready)(struct core *core, struct core_buffer_waiter *waiter);
    struct list link;
};
/* `ready` is called once, when a buffer was given back. */
void core_buffer_wait(struct core *core, struct core_buffer_waiter *waiter);

#endif
