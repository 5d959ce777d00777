/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's part when the flash is lost, is missing, or comes back (docs/attachment.md): what
 * io/cache-attach.c and io/cache-loss.c do in the daemon.  The state directory is a file for each
 * volume; a store takes time, becomes visible, then durable, and a crash may come in between.
 */
#ifndef TESTS_SIM_ATTACH_H
#define TESTS_SIM_ATTACH_H

#include "engine/attach.h"
#include "tests/sim/sim-config.h"

struct sim_world;
struct sim_request;

enum sim_loss {
    LOSS_NONE,
    LOSS_FAILED,  /* shards settle, files are written, writes wait */
    LOSS_PASSING, /* all volumes are in pass-through */
    LOSS_MISSING, /* so they are from the start */
};

enum sim_store {
    STORE_NONE,
    STORE_WRITING,
    STORE_RENAMED
};

struct sim_file {
    struct attachment visible, durable, next;
    uint8_t store; /* enum sim_store */
    bool doubtful; /* visible is not durable, and nobody is making it so */
    uint64_t due_ns;
    struct dirty_block lists[3][SIM_BLOCKS_MAX];
};

struct sim_attach {
    bool on; /* of this seed: otherwise a lost flash is only refused */
    uint8_t loss;
    uint8_t step;    /* of PHASE_ATTACH */
    bool cache_lost; /* what the flash had not flushed when it was lost is gone */
    bool dropped;    /* ... since this start: a flush that failed dropped it */
    bool passing[SIM_VOLUMES_MAX];
    struct attach_plan plans[SIM_VOLUMES_MAX];
    struct sim_file files[SIM_VOLUMES_MAX];
    struct sim_request *waiting; /* FLUSH */
};

void sim_attach_reset(struct sim_world *world);
void sim_attach_crash(struct sim_world *world, bool power);
/* When it has something to do, UINT64_MAX: not before something happens. */
uint64_t sim_attach_next_ns(const struct sim_world *world);
void sim_attach_advance(struct sim_world *world);
bool sim_attach_stores_done(const struct sim_world *world);

/* Before the session, with the superblock read, or without flash; false: refused. */
bool sim_attach_begin(struct sim_world *world, bool flash_here);
bool sim_attach_holds(const struct sim_world *world);
/* After recovery; PHASE_ATTACH: step by step, 1 when it is over, negative: refused. */
void sim_attach_recovered(struct sim_world *world);
int sim_attach_finish(struct sim_world *world);
/* All shards are idle. */
void sim_attach_stopped(struct sim_world *world);

void sim_attach_lost(struct sim_world *world); /* NOTICE_FLASH_FAILED */
/* A flush of the flash failed, and may have dropped what it was to make durable: while the cache serves, that is
 * the end of the flash. */
void sim_attach_flush_failed(struct sim_world *world);
/* Before, it drops nothing: nobody could miss it; the start is refused, and tried again. */
void sim_attach_flush_prepare(const struct sim_world *world, struct disk_io *io);
/* A FLUSH that must wait until it is decided what its volume can promise. */
bool sim_attach_flush_waits(struct sim_world *world, struct sim_request *request);
/* Nothing that is only on the lost flash is touched, and there is no fault any more. */
bool sim_attach_must_work(const struct sim_world *world, const struct sim_request *request);

#endif
