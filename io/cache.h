/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running cache: flash device, superblock, shards, volumes, cores.  Start order: cache_open
 * (validates everything, touches nothing but the superblock's session) -> cache_start (threads,
 * recovery) -> front ends -> ... -> cache_stop (clean) -> cache_close.
 */
#ifndef IO_CACHE_H
#define IO_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ranges.h"
#include "engine/superblock.h"
#include "io/volume.h"

enum volatile_cache {
    VOLATILE_AUTO,
    VOLATILE_YES,
    VOLATILE_NO
};

struct cache_volume_config {
    const char *name, *backing;
    uint8_t mode, destage;
    bool read_only, nbd;
    int ublk;
    uint32_t dirty_max_percent, share_min_percent, share_max_percent;
    uint64_t sequential_cutoff_bytes, backing_timeout_ns;
    struct ranges pins;              /* bytes, multiples of BLOCK_BYTES */
    bool discard_dirty, trust_flash; /* docs/attachment.md: force, for this start */
};

struct cache_config {
    const char *flash;
    uint64_t ram_bytes;
    enum volatile_cache volatile_cache;
    const char *state_dir;
    const unsigned *cores; /* processor numbers */
    unsigned core_count;
    const struct cache_volume_config *volumes;
    unsigned volume_count;
    uint64_t buffer_bytes; /* I/O buffers per core; 0: default */
    bool without_flash;    /* when the flash cannot be used: serve in pass-through */
    bool drain;            /* for cache_drain: the flash is only read */
};

struct cache;

/* Negative errno and a sentence in `why`.  -ESTALE: stale flash (attachment epoch).  A volume in
 * the superblock that the configuration no longer names keeps its records when it has dirty ones
 * (and is reported), else is dropped with a floor LSN. */
int cache_open(struct cache **cache, const struct cache_config *config, char *why,
               size_t why_bytes);
int cache_start(struct cache *cache, char *why, size_t why_bytes);

/* Instead of cache_start, and with nobody served: brings what only the flash has to the backing stores,
 * and makes durable in the state directory that nothing there counts any more (docs/attachment.md).
 * Nothing is written to the flash.  -EIO: some of it could not be read or written. */
int cache_drain(struct cache *cache, char *why, size_t why_bytes);

/* Answers what is under way, closes the log, writes the superblock with the clean mark. */
int cache_stop(struct cache *cache, char *why, size_t why_bytes);
void cache_close(struct cache *cache);

/* For control and metrics: any thread.  Sums over the shards, each under its lock. */
void cache_status(struct cache *cache, struct shard_status *sum);
void cache_counters(struct cache *cache, uint16_t volume, struct counters *sum);
void cache_flash_counters(struct cache *cache, struct flash_counters *sum);
uint64_t cache_dirty_blocks(struct cache *cache, uint16_t volume);
uint64_t cache_flash_blocks(struct cache *cache, uint16_t volume);  /* on flash, dirty or not */
uint64_t cache_pinned_blocks(struct cache *cache, uint16_t volume); /* of these, pinned ones */
uint64_t cache_lost_blocks(struct cache *cache, uint16_t volume);   /* of these, unreadable ones */
uint64_t cache_unreadable_blocks(struct cache *cache,
                                 uint16_t volume);              /* the flash fails to read */
bool cache_backing_fails(struct cache *cache, uint16_t volume); /* destaging to it does */
void cache_destage_all(struct cache *cache, uint16_t volume);   /* VOLUME_ALL */

/* Of the dirty blocks, those that were acknowledged without the backing store (shard.h).  Looks at all
 * that is dirty: not for every turn.  What moves meanwhile may be missed: zero twice means zero. */
uint64_t cache_owed_blocks(struct cache *cache, uint16_t volume);

/* What of a volume may change while it is in use.  Takes effect with the next request; any thread
 * that is no core, one at a time. */
struct volume_settings {
    uint8_t mode;
    uint32_t dirty_max_percent, share_min_percent, share_max_percent;
    uint64_t sequential_cutoff_bytes;
    struct ranges pins; /* as in cache_volume_config */
};
void cache_volume_set(struct cache *cache, struct volume *volume,
                      const struct volume_settings *settings);
/* The ranges in force. */
void cache_volume_pins(struct cache *cache, const struct volume *volume, struct ranges *pins);

/* Of a volume with ordered destaging: how old what its backing store holds is, in ns since the
 * oldest epoch ended that is not destaged (0: all are); and whether it is consistent, which it is
 * not before all that was recovered is destaged, nor after a version was lost.  False: the volume's destaging is not ordered. */
struct cache_epochs {
    uint64_t age_ns;
    bool consistent;
};
bool cache_epochs(struct cache *cache, const struct volume *volume, struct cache_epochs *epochs);

/* Adds to `sum`, which begins as zeros: how many of the volume's reads a cache of which size has. */
void cache_mrc(struct cache *cache, uint16_t volume, struct mrc_sum *sum);
const struct superblock *cache_superblock(const struct cache *cache);

/* ---- volumes that come and go, at run time; from one thread that is no core ------------------- */

/* Takes volumes into service, all of them or none: opens their backing stores, and makes durable that
 * they are known.  Negative errno and a sentence. */
int cache_attach(struct cache *cache, const struct cache_volume_config *configs, unsigned count,
                 char *why, size_t why_bytes);

/* No front end may use it any more; false, and nothing has changed: `*users` of them do. */
bool cache_claim(struct volume *volume, unsigned *users);
void cache_unclaim(struct volume *volume);

/* Takes volumes out of service, all of them or none: they are claimed, without any request or job,
 * and without dirty data.  Flushes their backing stores, makes durable that nothing is cached of them,
 * and closes them.  Negative errno and a sentence: they stay claimed, and as they were. */
int cache_detach(struct cache *cache, struct volume *const *volumes, unsigned count, char *why,
                 size_t why_bytes);

/* While the cache is held no backing store is closed.  For every thread that is no core and looks at
 * volumes; never twice by the same thread.  Held alone, by nobody else. */
void cache_hold(struct cache *cache);
void cache_hold_alone(struct cache *cache);
void cache_release(struct cache *cache);

enum cache_flash_state {
    CACHE_FLASH_OK,
    CACHE_FLASH_FAILED,   /* at run time; writes wait */
    CACHE_FLASH_DETACHED, /* ... all volumes are in pass-through */
    CACHE_FLASH_MISSING,  /* from the start; so are they */
};

struct cache_facts {
    enum cache_flash_state flash_state;
    double recovery_seconds;
    bool started_clean, flash_volatile, buffers_registered;
    uint64_t notices[16]; /* by enum notice */
};
void cache_facts(struct cache *cache, struct cache_facts *facts);

/* Latency histograms: per volume, op (read, write, flush, zero) and tier that the slowest piece
 * came from (ram, flash, backing); log2 buckets of ns with 4 steps per octave; any thread. */
enum latency_op {
    LATENCY_READ,
    LATENCY_WRITE,
    LATENCY_FLUSH,
    LATENCY_ZERO,
    LATENCY_OPS
};
enum latency_tier {
    TIER_RAM,
    TIER_FLASH,
    TIER_BACKING,
    TIERS
};
#define LATENCY_BUCKETS 160
struct latency {
    uint64_t count, sum_ns;
    uint64_t buckets[LATENCY_BUCKETS];
};

/* Latencies below this many ns, and not below that of the index before, are counted in a bucket;
 * the last one also holds everything above. */
uint64_t latency_bucket_limit_ns(unsigned index);

void cache_latency(struct cache *cache, uint16_t volume, enum latency_op op, enum latency_tier tier,
                   struct latency *latency);

#endif
