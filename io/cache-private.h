/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the cache, for the files of this layer only. */
#ifndef IO_CACHE_PRIVATE_H
#define IO_CACHE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

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
    struct cache *cache;
    struct superblock_volume *record; /* in the superblock */
    unsigned char *mrc_memory;        /* for each shard */
    bool epoch_changed;               /* the state directory is to be told */

    /* The coordinator of its backing store's flushes, and the flush that runs. */
    struct flush_coordinator flush;
    struct backing_io flush_io;
    uint64_t flush_covers; /* backing_writes when it started */

    /* Who must know of a flush that failed: clients, of the backing store's and of the flash's, and
     * destaging, by shard. */
    struct flush_party clients, clients_flash, destaging[SHARDS_MAX];

    struct epoch_coordinator epochs; /* of ordered destaging */
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
    bool started_clean, started;
    struct superblock_io superblock;

    unsigned core_count;
    unsigned *processors; /* core_count of them */
    uint64_t buffer_bytes, ram_bytes;

    unsigned shard_count;
    struct shard_runner *runners;

    unsigned volume_count;
    struct cache_volume **volumes;                 /* in the order of the configuration */
    struct cache_volume *by_id[VOLUME_ID_MAX + 1]; /* NULL: not configured */

    /* The coordinator of flash flushes, and the flush that runs. */
    struct flush_coordinator flush;
    struct core_op flush_op;
    uint64_t flush_tokens[SHARDS_MAX]; /* what shard_flush_begin said */

    struct cache_notice notices[CACHE_NOTICES];

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
int cache_volumes_open(struct cache *cache, const struct cache_config *config, char *why,
                       size_t why_bytes);
void cache_volumes_close(struct cache *cache);
void cache_volume_policies(struct cache *cache, struct shard *shard);
/* Lets the shards, which are there, measure the volumes' miss ratio curves.  -ENOMEM. */
int cache_volumes_measure(struct cache *cache);
/* After recovery: forgets volumes that are not configured any more and have no dirty block. */
void cache_volumes_prune(struct cache *cache);

#endif
