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

/* Called once before the core sleeps or submits, after all handlers of this turn; embed it, queue
 * it with core_defer as often as wanted, it runs once.  For "one send per connection and turn". */
struct core_deferred {
    void (*run)(struct core *core, struct core_deferred *deferred);
    struct core_deferred *next;
    bool queued;
};

/* A submission entry; never NULL (submits what is queued when the ring is full).  The caller
 * prepares it with io_uring_prep_*, then calls core_sqe_to(sqe, op): completion goes to `op`. */
struct io_uring_sqe *core_sqe(struct core *core);

static inline void core_sqe_to(struct io_uring_sqe *sqe, struct core_op *op)
{
    io_uring_sqe_set_data(sqe, op);
}

/* Runs `work` (NULL: nothing) on every core, and waits until it did.  When it returns, whatever the
 * cores had begun in the turns before is submitted.  From a thread that is no core, and not while the
 * cores are started or stopped.  -ENOMEM: nothing was done. */
int cores_visit(void (*work)(struct core *core, void *opaque), void *opaque);

/* Files registered in every core's ring: core_file_add gives a slot (-1: none left); core_file_remove
 * forgets it, and with it the ring's reference to the file.  From one thread at a time that is no core.
 * core_sqe_file, after prep, makes `sqe` use the slot where the ring has registered files; `slot`
 * may be -1. */
int core_file_add(int fd);
void core_file_remove(int slot);
void core_sqe_file(struct core *core, struct io_uring_sqe *sqe, int slot);

/* The same for a file of one core, a connection, say: -1 when there is none left. */
int core_file_take(struct core *core, int fd);
void core_file_give(struct core *core, int slot);

/* Ends what `op` waits for; its own completion follows as ever (-ECANCELED, or its result). */
void core_cancel(struct core *core, struct core_op *op);

/* Any thread.  Messages from one sender arrive in the order they were sent. */
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

/* ---- life --------------------------------------------------------------------------------- */

struct cores_config {
    const unsigned *processors; /* to pin to; NULL: not pinned */
    unsigned count;
    uint64_t buffer_bytes; /* I/O buffers per core; 0: default */
    struct cache *cache;   /* may be NULL */

    /* OPTIONAL, on the core's thread: before its first turn (negative errno: cannot), and after its
     * last one. */
    int (*enter)(struct core *core);
    void (*leave)(struct core *core);

    /* OPTIONAL, in each turn after messages and timers, perhaps several times: true when there is
     * more to do, so that the core must not sleep. */
    bool (*turn)(struct core *core);
};

/* Starts all cores, and waits for them to run.  Negative errno, and `why` a sentence. */
int cores_start(const struct cores_config *config, char *why, size_t why_bytes);

/* Ends them.  What is under way on their rings is cancelled: nobody may depend on it any more. */
void cores_stop(void);

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
/* `ready` is called once, from the core's loop, when a buffer was given back and it is this
 * waiter's turn; one that finds too little and waits again keeps its turn.  While somebody waits,
 * nobody else gets a buffer. */
void core_buffer_wait(struct core *core, struct core_buffer_waiter *waiter);
void core_buffer_wait_cancel(struct core *core, struct core_buffer_waiter *waiter);

/* The index for read_fixed and write_fixed, which then need no page references, or -1: these bytes
 * are not in memory registered with this core's ring. */
int core_buffer_index(const struct core *core, const void *data, size_t bytes);

/* Registers memory of a front end's own, page-aligned, with this core's ring; false: it could not be,
 * which costs only speed.  Registered memory is locked.  Forget it before it is unmapped, while none
 * of the core's I/O uses it, unless the ring is closed by then. */
bool core_memory_register(struct core *core, void *memory, size_t bytes);
void core_memory_forget(struct core *core, const void *memory);

#endif
