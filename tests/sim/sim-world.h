/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated machine: virtual cores, disks, clients and the environment that a shard needs,
 * which does with its actions what the daemon's I/O layer does.  One thread; every decision comes
 * from the seed.
 *
 *   client ---request---> core inbox --step--> shard --actions--> core --I/O--> disk
 *                             ^                                                  |
 *                             +---------------------- done ----------------------+
 *
 *   sim-world.c    rounds: run, crash or stop, start again
 *   sim-core.c     virtual cores; what is done with each action
 *   sim-flush.c    one flush coordinator per device
 *   sim-epoch.c    one epoch coordinator per volume with ordered destaging
 *   sim-attach.c   loss and return of the flash, state directory
 *   sim-boot.c     superblock, start, recovery, clean stop
 *   sim-request.c  requests cut into pieces, checked when they end
 *   sim-client.c   what is asked for
 *   sim-fault.c    what goes wrong; sim-damage.c: what damaged flash may cost
 *   sim-change.c   what an operator changes
 *
 * A *step* is one micro-operation of one core: carrying out one action, or stepping a shard once.
 * Between two steps any other core, disk or client may act, and the machine may crash.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/mutants.h"
#include "engine/shard.h"
#include "engine/superblock.h"
#include "tests/sim/sim-alone.h"
#include "tests/sim/sim-attach.h"
#include "tests/sim/sim-config.h"
#include "tests/sim/sim-disk.h"
#include "tests/sim/sim-oracle.h"
#include "tests/sim/sim-random.h"
#include "tests/sim/sim-trace.h"

#define SIM_REQUESTS_MAX 48u
#define SIM_PIECES_MAX   20u /* of a request */
#define SIM_RECENT       64u
#define SIM_IOS_MAX      4096u
#define SIM_READ_BLOCKS  80u /* of a read or write request */
#define SIM_DAMAGED_MAX  512u
#define SIM_ZERO_BLOCKS  300u /* of a zero or trim */

struct sim_script;
struct sim_world;

/* ---- cores ------------------------------------------------------------------------------ */

enum sim_task_kind {
    TASK_TICK,    /* struct sim_shard: EVENT_TICK */
    TASK_STOP,    /* struct sim_shard: EVENT_STOP */
    TASK_REQUEST, /* struct sim_piece: EVENT_REQUEST, the first or a resumed one */
    TASK_REPLY,   /* struct sim_piece: finished */
    TASK_SEND,    /* struct sim_request: all pieces finished, send the reply */
    TASK_IO,      /* struct sim_io: done */
    TASK_EPOCH,   /* struct sim_epoch: asks or tells the next shard */
};

struct sim_task {
    struct sim_task *next;
    uint8_t kind;
    bool queued;
};

struct sim_core {
    uint32_t index;
    struct sim_task *first, **last;
    struct actions out; /* of the last step; [next, count) is yet to be done */
    uint32_t next;
    uint32_t shard;   /* that emitted them */
    uint32_t touched; /* shards stepped since they were last told to seal */
    uint64_t stalled_until_ns;
};

/* ---- shards ----------------------------------------------------------------------------- */

struct sim_shard {
    struct shard *shard;
    void *memory;
    size_t memory_bytes;
    unsigned char *ram;
    uint32_t index, home;
    struct sim_task tick, stop;
    uint64_t due_ns;
    bool ready;
};

/* ---- flush coordinators ------------------------------------------------------------------ */

/* Whose writes flushes are to cover, as in io/flush.h: is told of each that failed. */
struct sim_flush_party {
    uint64_t failures; /* that it knows of */
};

struct sim_flush_waiter {
    struct sim_flush_waiter *next;
    struct sim_flush_party *party; /* NULL: only the result of this flush counts */
    uint64_t failures;
    int result;
    void (*done)(struct sim_world *world, struct sim_flush_waiter *waiter, int result);
};

struct sim_flusher {
    struct sim_world *world;
    struct disk *disk;
    uint32_t device; /* 0: flash, 1 + volume: backing store */
    bool running;
    struct sim_flush_waiter *waiting, *joined;
    uint64_t tokens[SIM_SHARDS_MAX];
    uint64_t backing_writes; /* of the volume when the flush began */
    uint64_t failures;
    struct disk_io io;
};

/* ---- I/O -------------------------------------------------------------------------------- */

struct sim_io {
    struct sim_world *world;
    struct sim_io *next; /* free */
    struct disk_io disk;
    struct iovec headroom; /* one contiguous write from the block before the payload */
    struct sim_task task;
    struct sim_flush_waiter waiter;
    struct action action;
    uint32_t core, shard;
    int result;
};

/* ---- requests --------------------------------------------------------------------------- */

enum sim_op {
    OP_READ,
    OP_WRITE,
    OP_ZERO,
    OP_TRIM,
    OP_PREFETCH,
    OP_INVALIDATE,
    OP_FLUSH,
    OPS
};

struct sim_piece {
    struct piece piece; /* first: actions carry its address */
    struct sim_task task;
    struct sim_request *request;
    uint32_t shard;
    bool open;
};

struct sim_request {
    struct sim_request *next; /* free */
    struct sim_task task;
    struct sim_flush_waiter flush_flash, flush_backing;
    struct oracle_op op;
    uint32_t alone_write;
    uint64_t alone_flush;
    uint64_t id, began_ns;
    uint8_t kind;
    bool open;
    bool must_work;  /* it may not fail */
    bool flash_lost; /* FLUSH: that of the flash failed, because that is lost */
    uint32_t core, connection;
    uint64_t first_block; /* of the buffer */
    uint32_t open_parts;  /* pieces or flushes */
    uint32_t piece_count;
    int error;
    unsigned char *memory; /* headroom, payload */
    unsigned char *merge;
    struct sim_piece pieces[SIM_PIECES_MAX];
};

/* What a client asks for. */
struct sim_want {
    uint8_t kind;
    uint8_t flags; /* enum piece_flags: FUA, NO_FILL, AROUND, DISCARD */
    uint16_t volume;
    uint64_t offset, length;
    uint32_t connection;
};

struct sim_client {
    struct sim_random random;
    uint64_t next_ns;
    uint32_t open; /* requests */
    uint32_t open_by_connection[SIM_CONNECTIONS];
    uint64_t sequential[SIM_CONNECTIONS]; /* where a stream goes on, in bytes */
    /* blocks to be read back after a recovery */
    uint64_t check[SIM_BLOCKS_MAX];
    uint32_t check_count, check_next;
    uint64_t idle_ns;    /* after the next request */
    uint16_t flush_next; /* volume to be flushed before anything else; volume_count: none */
    uint16_t check_volume;
    bool checking, check_all;
    bool quiet;                      /* asks for nothing more */
    int last_error;                  /* of the request that was answered last */
    bool check_always;               /* after each recovery, all blocks */
    const struct sim_script *script; /* instead of chance */
    uint32_t script_next;
};

/* ---- the machine ------------------------------------------------------------------------- */

struct sim_epoch {
    struct sim_task task;
    bool busy, again, telling, failing, told_failing;
    uint32_t shard;
    uint64_t now, smallest;
};

struct sim_volume {
    bool ordered;
    bool consistent; /* the backing store alone is legal */
    bool whole;      /* ... and no version was lost */
    uint64_t oldest; /* epoch that may be destaged; 0: what was recovered */
    struct sim_epoch coordinator;
    uint16_t id; /* in the superblock and to the engine */
    uint64_t bytes, blocks;
    uint8_t mode;
    bool leaving; /* ... soon: no more requests */
    bool gone;    /* not configured now: neither a client nor the cache knows it */
    uint64_t epoch;
    uint64_t backing_writes, backing_flushed; /* debt of what went around the cache */
    struct disk *backing;
    struct sim_flusher flusher;
    struct sim_flush_party clients, clients_flash, destaging[SIM_SHARDS_MAX];
};

enum sim_phase {
    PHASE_DOWN,
    PHASE_FILES,   /* the state directory is told */
    PHASE_SESSION, /* the new session goes into both superblocks */
    PHASE_RECOVER,
    PHASE_ATTACH, /* of a flash that was away, only what counts is kept */
    PHASE_SERVE,
    PHASE_DRAIN, /* clean stop: requests end, dirty data are destaged if wanted */
    PHASE_STOP,  /* shards close their logs */
    PHASE_STOP_FLUSH,
    PHASE_STOP_SUPERBLOCK,
    PHASE_STOPPED,
    PHASE_REFUSED, /* could not start: try again */
};

/* After so many starts that were refused in a row nothing goes wrong until one succeeds. */
#define SIM_REFUSALS 10u

struct sim_boot {
    struct superblock copies[2];
    struct superblock superblock; /* what is true now */
    unsigned current;             /* copy that holds what was last durable */
    uint64_t sequence;            /* of that copy */
    uint32_t commit_step;         /* 0: none under way */
    bool commit_again;
    struct disk_io io;
    struct sim_io *retiring, *retired; /* ACTION_RETIRE waiting for the next, for this commit */
    struct sim_flush_waiter stop_flush, stop_backing[SIM_VOLUMES_MAX];
    uint32_t stop_flushes; /* under way */
    int stop_error;
    bool destage_first, was_clean;
    bool listed;         /* while stopping: the state directory is told what is dirty */
    uint64_t destage_ns; /* while draining: when to ask for it again */
    int error;
    uint32_t refusals; /* in a row */
};

/* Blocks whose records a fault damaged, and where on flash. */
struct sim_damaged {
    uint64_t place; /* of the data, or of the header that has the entry */
    uint64_t lsn;   /* of the entry; 0: the data are damaged */
    uint64_t generation;
    uint64_t block;
    uint16_t volume;
};

struct sim_damage {
    struct disk_damage damage;
    struct sim_world *world;
    uint32_t count;
    struct sim_damaged list[SIM_DAMAGED_MAX];
};

struct sim_totals {
    uint64_t crash_points, failed_ios; /* of scripts */
    uint64_t seeds, rounds, crashes_power, crashes_kill, crashes_boot, clean_stops, steps;
    uint64_t requests[OPS], request_errors, bytes_checked;
    uint64_t read_errors, write_errors, flush_errors;
    uint64_t faults_slow, faults_stuck, faults_misdirected, faults_rot, faults_wrong,
        faults_dropped;
    uint64_t flash_removed, flash_inserted, backing_removed, backing_inserted, clock_jumps;
    uint64_t mode_changes, volumes_removed;
    uint64_t fates_landed, fates_vanished, fates_torn, fates_garbage;
    uint64_t attach_losses, attach_without, attach_returns, attach_kept, attach_given_up;
    uint64_t ambiguous, lost_track, notices[8];
    uint64_t alone_checks, alone_skipped, epochs_opened;
    uint64_t alone_ns, alone_ns_max, alone_boundaries, alone_boundaries_max;
    uint64_t segments_reclaimed, segments_kept, segments_retired, reinserted, destaged, healed;
};

struct sim_world {
    struct sim_config config;
    struct sim_trace trace;
    struct sim_random random; /* scheduling */
    struct sim_random fate;   /* how rounds end */
    struct sim_random fault_random;
    struct sim_random alone_random;
    uint64_t now_ns;
    enum sim_phase phase;
    uint64_t phase_since_ns, phase_since_step;
    uint64_t progress_step; /* the last step at which something was answered or finished */
    uint64_t round, round_end_step;
    bool healed;       /* no faults now */
    bool errors_legal; /* something went wrong since the start of this seed */
    bool damaged;      /* ... and changed what is on flash */
    bool misread;      /* ... or brought something else than that */
    struct sim_core cores[SIM_CORES_MAX];
    struct sim_shard shards[SIM_SHARDS_MAX];
    struct sim_volume volumes[SIM_VOLUMES_MAX];
    struct disk *flash;
    struct disk *backings[SIM_VOLUMES_MAX];
    struct sim_flusher flash_flusher;
    struct sim_boot boot;
    struct oracle *oracle;
    struct alone *alone[SIM_VOLUMES_MAX];
    struct sim_client client;
    struct sim_damage damage;
    uint64_t recent[SIM_RECENT]; /* where flash was written last: a ring */
    uint64_t recent_count;
    uint32_t leaving;  /* 1 + volume that shall be removed once nothing uses it */
    uint32_t removing; /* 1 + volume whose removal is being made durable */
    struct sim_attach attach;
    struct sim_io *ios, *io_free;
    struct sim_request *requests, *request_free;
    uint64_t request_next_id;
    struct sim_totals totals;
    const char *replay; /* command line that repeats this run */
    const char *images; /* directory for what crashes leave on flash; NULL: none */
    uint64_t images_saved;
};

/* ---- sim-world.c ------------------------------------------------------------------------ */

struct sim_world *sim_world_create(void);
void sim_world_begin(struct sim_world *world, const struct sim_config *config, bool print);
/* The rounds of one seed, then a clean end that everything is compared after. */
void sim_world_run(struct sim_world *world, uint32_t rounds);
/* Runs until the phase is reached; dies if that takes too long. */
void sim_world_until(struct sim_world *world, enum sim_phase phase);
void sim_world_crash(struct sim_world *world, bool power);
/* One scheduling decision; false when nothing can ever happen again. */
bool sim_world_advance(struct sim_world *world);
void sim_world_phase(struct sim_world *world, enum sim_phase phase);
/* Clean stop after everything was destaged: backing stores are the model.  */
void sim_world_finish(struct sim_world *world);

/* Dies when nothing has been achieved for too long. */
void sim_world_check_progress(struct sim_world *world);
/* Adds what the disks and the oracle counted to the totals. */
void sim_world_count(struct sim_world *world);

/* Prints what, where and how to repeat it; ends the process with 1. */
void sim_fail(struct sim_world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
/* For handlers of signals. */
extern struct sim_world *sim_failing_world;

/* ---- sim-core.c ------------------------------------------------------------------------- */

void sim_task_push(struct sim_world *world, uint32_t core, struct sim_task *task);
bool sim_core_ready(const struct sim_world *world, const struct sim_core *core);
void sim_core_run(struct sim_world *world, struct sim_core *core);
void sim_core_reset(struct sim_world *world);
/* `task` is the io's: its I/O ended. */
void sim_io_done(struct sim_io *io, int result);
struct sim_volume *sim_volume_by_id(struct sim_world *world, uint16_t id);

/* ---- sim-flush.c ------------------------------------------------------------------------ */

void sim_flusher_init(struct sim_world *world, struct sim_flusher *flusher, struct disk *disk,
                      uint32_t device);
void sim_flush_join(struct sim_flusher *flusher, struct sim_flush_waiter *waiter);

/* ---- sim-epoch.c ------------------------------------------------------------------------ */

void sim_epoch_reset(struct sim_world *world, struct sim_volume *volume);
/* An epoch ended, or a shard has nothing left of the oldest. */
void sim_epoch_advance(struct sim_world *world, struct sim_volume *volume);
void sim_epoch_run(struct sim_world *world, struct sim_task *task);
void sim_epoch_shard_ready(struct sim_world *world, const struct shard *shard);
/* Were the flash lost now, would the backing stores alone be legal? */
void sim_epoch_check(struct sim_world *world);

/* ---- sim-boot.c ------------------------------------------------------------------------- */

void sim_boot_format(struct sim_world *world);
void sim_boot_start(struct sim_world *world);
/* After each step: goes on to the next phase when this one is over. */
void sim_boot_advance(struct sim_world *world);
void sim_boot_stop(struct sim_world *world, bool destage_first);
/* The superblock, to both copies; boot.error tells how it ended. */
void sim_boot_commit(struct sim_world *world);
bool sim_boot_committing(const struct sim_world *world);
void sim_boot_retire(struct sim_world *world, struct sim_io *io);
struct superblock_volume *sim_boot_record(struct sim_world *world, uint32_t volume); /* or NULL */
/* Tells all shards what the volume is like now. */
void sim_boot_policy(struct sim_world *world, uint32_t volume, uint32_t shard);

/* ---- sim-request.c ---------------------------------------------------------------------- */

void sim_request_submit(struct sim_world *world, const struct sim_want *want);
void sim_request_piece_done(struct sim_world *world, struct sim_piece *piece);
/* A FLUSH that waited: from the start. */
void sim_request_flush_again(struct sim_world *world, struct sim_request *request);
void sim_request_send(struct sim_world *world, struct sim_request *request);
/* At a crash. */
void sim_request_drop_all(struct sim_world *world);

/* ---- sim-client.c ----------------------------------------------------------------------- */

void sim_client_reset(struct sim_world *world);
void sim_client_recovered(struct sim_world *world);
bool sim_client_ready(const struct sim_world *world);
/* False when it had nothing to ask after all. */
bool sim_client_run(struct sim_world *world);

/* ---- sim-change.c ----------------------------------------------------------------------- */

/* The superblock was read, and a new session begins. */
void sim_change_boot(struct sim_world *world);
void sim_change_step(struct sim_world *world);

/* ---- sim-damage.c ----------------------------------------------------------------------- */

void sim_damage_reset(struct sim_world *world);
void sim_damage_judge(struct sim_world *world);

/* ---- sim-fault.c ------------------------------------------------------------------------ */

void sim_fault_reset(struct sim_world *world);
void sim_fault_step(struct sim_world *world);  /* after each step */
void sim_fault_round(struct sim_world *world); /* at the start of a round */
void sim_fault_heal(struct sim_world *world);
/* Has anything gone wrong in this seed that a client may be told of? */
bool sim_fault_happened(struct sim_world *world);

#endif
