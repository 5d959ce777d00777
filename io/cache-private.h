/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the cache, for the files of this layer only. */
#ifndef IO_CACHE_PRIVATE_H
#define IO_CACHE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/attach.h"
#include "io/cache.h"
#include "io/device.h"
#include "io/epoch.h"
#include "io/flush.h"
#include "io/request.h"
#include "io/shard-runner.h"
#include "io/superblock-io.h"

#define CACHE_NOTICES 16u

struct cache_volume {
    struct volume volume; /* first */
    struct list link;     /* in cache->gone */
    bool is_gone;         /* under change_lock */
    struct cache *cache;
    struct superblock_volume *record; /* in the superblock */
    unsigned char *mrc_memory;        /* for each shard */
    unsigned force;                   /* enum attach_force */
    struct attachment file;           /* in the state directory, as it is known to be */
    struct attach_plan plan;          /* for this start */
    uint64_t sequence_before;         /* the file's at this start; 0: it does not count any more */
    bool backing_debt;                /* the backing store may hold unflushed writes */
    struct ranges pins;               /* blocks; under change_lock once it is in service */

    /* The coordinator of its backing store's flushes, and the flush that runs. */
    struct flush_coordinator flush;
    struct backing_io flush_io;
    uint64_t flush_covers; /* backing_writes when it started */

    /* Who must know of a flush that failed: clients, of the backing store's and of the flash's, and
     * destaging, by shard. */
    struct flush_party clients, clients_flash, destaging[SHARDS_MAX];

    struct epoch_coordinator epochs; /* of ordered destaging */

    struct request_volume *figures; /* by core */
    atomic_uint ios;                /* of shards, at the backing store or waiting for its flush */
};

/* What readers see; a new one takes the place of the old, which stays for those who look at it. */
struct volume_table {
    struct volume_table *older;
    unsigned count;
    struct cache_volume *list[];
};

/* A notice is written to the log at most once a second, with how many there were. */
struct cache_notice {
    atomic_uint_fast64_t count, logged_count, logged_ns;
};

struct cache {
    char *state_dir;
    char *flash_path;
    struct device flash;
    bool flash_volatile; /* completion of a write is not durability */
    bool drains;         /* the flash is only read */
    bool started_clean, started;
    struct superblock_io superblock;

    unsigned core_count;
    unsigned *processors; /* core_count of them */
    uint64_t buffer_bytes, ram_bytes;

    unsigned shard_count;
    struct shard_runner *runners;

    /* Of the list, and of what is known of volumes in the superblock and in the state directory,
     * from the end of the start on. */
    pthread_mutex_t change_lock;
    unsigned volume_count;
    struct cache_volume *volumes[VOLUMES_MAX];
    unsigned ordered_places; /* that the shards have */
    struct list gone;        /* volumes that left */
    _Atomic(struct volume_table *) table;
    _Atomic(struct cache_volume *) by_id[VOLUME_ID_MAX + 1]; /* NULL: not in service */
    pthread_rwlock_t held;                                   /* cache_hold */

    /* The coordinator of flash flushes, and the flush that runs. */
    struct flush_coordinator flush;
    struct core_op flush_op;
    unsigned flush_tries;
    uint64_t flush_tokens[SHARDS_MAX]; /* what shard_flush_begin said */

    struct cache_notice notices[CACHE_NOTICES];

    /* Loss of the flash: cache-loss.c. */
    atomic_int flash_state; /* enum cache_flash_state */
    pthread_t loss_thread;
    bool loss_started, loss_stop; /* loss_stop: under `lock` */

    /* Shards that recover or stop, for the thread that waits for them. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned runners_left;
    int runner_error;
    double recovery_seconds;
    atomic_bool buffers_registered;
};

static inline struct cache_volume *cache_volume_of(struct volume *volume)
{
    return container_of(volume, struct cache_volume, volume);
}

/* On the home core: a shard ended its recovery (error: it cannot) or its stop. */
void cache_runner_changed(struct cache *cache, int error);

/* Any core. */
void cache_notice(struct cache *cache, uint64_t now_ns, const struct action *action);

/* cache-flush.c: the two kinds of coordinators. */
void cache_flush_init(struct cache *cache);
void cache_volume_flush_init(struct cache_volume *volume);

/* cache-volumes.c */
/* A volume whose backing store is open and fits; nothing is known of it yet, and nothing knows it. */
int cache_volume_create(struct cache *cache, const struct cache_volume_config *config,
                        struct cache_volume **created, char *why, size_t why_bytes);
void cache_volume_free(struct cache_volume *volume);
/* Finds or makes its record in the superblock, and decides whether it may be used. */
int cache_volume_match(struct cache *cache, struct cache_volume *volume, char *why,
                       size_t why_bytes);
void cache_volume_add(struct cache *cache, struct cache_volume *volume); /* to the list */
/* Lets readers see the list as it is.  False: no memory. */
bool cache_volumes_publish(struct cache *cache);
struct volume_policy cache_volume_policy(const struct cache *cache,
                                         const struct superblock_volume *record);
int cache_volume_measure(struct cache *cache, struct cache_volume *volume);
int cache_volumes_open(struct cache *cache, const struct cache_config *config, char *why,
                       size_t why_bytes);
void cache_volumes_close(struct cache *cache);
void cache_volume_policies(struct cache *cache, struct shard *shard);
/* Lets the shards, which are there, measure the volumes' miss ratio curves.  -ENOMEM. */
int cache_volumes_measure(struct cache *cache);
/* cache-attach.c: may this volume be used with this flash?  Sets volume->plan, or -ESTALE and
 * `why`. */
int cache_attach_check(struct cache *cache, struct cache_volume *volume, bool is_new, char *why,
                       size_t why_bytes);
/* The same for a volume that comes at run time, before the superblock is committed. */
int cache_attach_volume(struct cache_volume *volume, char *why, size_t why_bytes);
/* Before the session begins: tells the state directory what must be known there first. */
int cache_attach_begin(struct cache *cache, char *why, size_t why_bytes);
/* Some volume's flash was away: shards are to be held after recovery. */
bool cache_attach_holds(const struct cache *cache);
struct shard_runner *cache_runner_of(struct cache *cache, uint16_t volume, uint64_t block);
/* The flash is back: its dirty data to the backing stores, then no older record of it counts. */
int cache_attach_returned(struct cache *cache, char *why, size_t why_bytes);
/* A flash that can only be read: the same, then the state directory says that nothing there counts but
 * what could not be read, which is an error. */
int cache_attach_drain(struct cache *cache, char *why, size_t why_bytes);
/* Nothing of the volume on this flash counts, though the two belong together.  After the check. */
void cache_attach_discard(struct cache_volume *volume);
/* After recovery, before requests. */
int cache_attach_finish(struct cache *cache, char *why, size_t why_bytes);
/* At a clean stop, all shards idle: what is dirty goes to the state directory.  An error: the
 * superblock cannot be written. */
int cache_attach_stopped(struct cache *cache);
/* All dirty blocks, sorted by volume and block; the caller frees.  Shards must not be stepped on,
 * or be settled, held or idle.  NULL: no memory. */
struct dirty_block *cache_dirty_list(struct cache *cache, uint64_t *count);
/* The part of it that is the volume's. */
struct dirty_block *cache_dirty_of(struct dirty_block *list, uint64_t *count, uint16_t volume);
/* Stores `state` and a list, which it takes, and makes both volume->file. */
int cache_attach_store(struct cache_volume *volume, uint8_t state, uint64_t epoch,
                       struct dirty_block *dirty, uint64_t count, char *why, size_t why_bytes);
/* A start without flash: what it would be if there were one, big enough for what is lost. */
int cache_attach_without(struct cache *cache, const struct cache_config *config, char *why,
                         size_t why_bytes);

/* cache.c: flushes the backing stores of these volumes where they may need it. */
int cache_flush_backings(struct cache *cache, struct cache_volume *const *volumes, unsigned count);

/* cache-loss.c */
int cache_loss_start(struct cache *cache);
void cache_loss_stop(struct cache *cache);
void cache_loss_declare(struct cache *cache); /* any thread */

/* After recovery: forgets volumes that are not configured any more and have no dirty block. */
void cache_volumes_prune(struct cache *cache);

#endif
