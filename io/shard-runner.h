/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a passive shard on active cores: takes its lock, steps it, drops the lock, and carries out
 * the actions (shard-io.c) on the core that stepped.
 *
 * Only shard_runner_turn, once or a few times in each turn of the core, steps: pieces and ended
 * I/Os wait in the core's queues for it, so that what completed together is stepped together, and a
 * front end may submit its next request from the done() of the last one without recursion.
 */
#ifndef IO_SHARD_RUNNER_H
#define IO_SHARD_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/shard.h"
#include "io/backing.h"
#include "io/core.h"
#include "io/flush.h"
#include "io/request.h"

enum runner_state {
    RUNNER_NEW,
    RUNNER_RECOVERING,
    RUNNER_SERVING,
    RUNNER_STOPPING,
    RUNNER_STOPPED,
    RUNNER_FAILED, /* recovery failed; it never serves */
};

struct shard_runner {
    struct cache *cache;
    struct shard *shard;
    unsigned index, home; /* core that does its background work (C3) */

    /* A leaf, held for the length of a step (C2).  Of the shard, and of the next three. */
    pthread_mutex_t lock;
    uint64_t tick_due_ns; /* what the home core knows, or is being told */
    bool tick_now;        /* another core or thread wants one, whatever the shard says later */
    bool wake_queued;

    /* On the home core only. */
    struct core_timer timer;
    struct core_message wake, begin;
    struct list again; /* in the core's list of shards to tick before sleeping */
    bool stop_told;
    atomic_int state; /* enum runner_state; others read it */

    unsigned char *memory, *ram;
    size_t memory_bytes, ram_bytes;
};

/* An action under way. */
struct shard_io {
    struct core_op op;
    struct action action;
    struct shard_runner *runner;
    struct cache_volume *volume; /* whose `ios` it counts among; NULL: none */
    struct shard_io *next;       /* in a core's queue or free list */
    uint64_t bad_mask;
    uint32_t bytes;
    int result;
    unsigned tries;
    union {
        struct backing_io backing;
        struct flush_waiter flush;
    };
};

/* What each core has for it. */
struct runner_core {
    struct shard_io *report_first, *report_last;    /* ended, to be reported */
    struct request_piece *piece_first, *piece_last; /* to be stepped */
    struct shard_io *free;
    struct list slabs;
    struct list again;      /* struct shard_runner */
    uint32_t touched_count; /* shards whose open batch this core must write */
    uint16_t touched[SHARDS_MAX];
    bool is_touched[SHARDS_MAX];
    struct actions actions;
};

int shard_runner_enter(struct core *core);
void shard_runner_leave(struct core *core);
bool shard_runner_turn(struct core *core);

void shard_runner_init(struct shard_runner *runner, struct cache *cache, unsigned index);

/* On the piece's own core: it is stepped in this turn. */
void shard_runner_queue(struct core *core, struct request_piece *piece);

/* An action ended with io->result, and the shard wants to know. */
void shard_runner_report(struct core *core, struct shard_io *io);

/* Any thread: recovery or the stop begins; cache_runner_changed is called when it is over. */
void shard_runner_begin(struct shard_runner *runner, enum runner_state state);

/* Any thread, after something else than a step gave the shard work to do. */
void shard_runner_kick(struct shard_runner *runner);

/* Around a flush of the flash device (shard.h). */
uint64_t shard_runner_flush_begin(struct shard_runner *runner);
void shard_runner_flush_end(struct shard_runner *runner, uint64_t token);

/* For ordered destaging (shard.h). */
uint64_t shard_runner_epoch_begin(struct shard_runner *runner, uint16_t volume, uint64_t epoch,
                                  uint64_t now_ns, bool *failing);
void shard_runner_epoch_open(struct shard_runner *runner, uint16_t volume, uint64_t oldest,
                             bool failing, uint64_t now_ns);

/* shard-io.c */
/* Memory for some more of them; false: there is none. */
bool shard_io_reserve(struct core *core);

struct shard_io *shard_io_take(struct core *core);
void shard_io_give(struct core *core, struct shard_io *io);
void shard_io_carry_out(struct core *core, struct shard_runner *runner,
                        const struct action *action);

#endif
