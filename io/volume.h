/* SPDX-License-Identifier: Apache-2.0 */
/* A volume as the I/O layer and the front ends see it. */
#ifndef IO_VOLUME_H
#define IO_VOLUME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "engine/shard.h"

struct backing;

struct volume {
    char name[VOLUME_NAME_BYTES];
    char description[128];
    uint16_t id;           /* in the superblock and in the shards */
    _Atomic(uint8_t) mode; /* enum volume_mode; may change at any time */
    uint8_t destage;       /* enum destage_order */
    bool read_only;
    bool nbd;            /* exported over NBD */
    atomic_bool unnamed; /* and the one that a client gets who gives no name */
    int ublk;            /* device number, or -1 */
    uint64_t bytes;      /* exact size of the export */
    /* CLOCK_MONOTONIC: until then what reads miss does not enter the cache; 0: it does. */
    atomic_uint_fast64_t fill_paused_until_ns;
    _Atomic(uint64_t) sequential_cutoff_bytes; /* 0: off; may change at any time */
    uint64_t backing_timeout_ns;
    uint32_t dirty_max_percent, share_min_percent, share_max_percent;
    struct backing *backing;
    /* Connections and devices that send it requests.  While it is leaving no further one may. */
    atomic_uint users;
    atomic_bool leaving;
    atomic_bool detached;       /* in pass-through, because the flash is lost or not there */
    atomic_uint_fast64_t epoch; /* what new writes get; the end of one adds 1, see epoch.h */

    /* CLOCK_MONOTONIC, looked at once a second: since when something is dirty without a break; 0:
     * nothing is. */
    atomic_uint_fast64_t dirty_since_ns;

    /* Client requests' I/O at the backing store under way: prefetching waits for them. */
    atomic_uint backing_waiting;

    /* Writes to the backing store that a flush has not covered: FLUSH goes there only while the two
     * differ (DESIGN 6; hazard 13).  Counted when such a write completed. */
    atomic_uint_fast64_t backing_writes, backing_flushed;
};

/* A front end is about to send requests.  False: it is on its way out, and must not be used. */
static inline bool volume_enter(struct volume *volume)
{
    atomic_fetch_add(&volume->users, 1);
    if (!atomic_load(&volume->leaving))
        return true;
    atomic_fetch_sub(&volume->users, 1);
    return false;
}

/* All its requests are answered. */
static inline void volume_leave(struct volume *volume)
{
    atomic_fetch_sub(&volume->users, 1);
}

/* Whether an acknowledged write may still be lost until a FLUSH.  False: each acknowledgement, but
 * for those of large REQUEST_ZERO without REQUEST_FUA, promises what a FLUSH does. */
bool volume_is_volatile(struct volume *volume);

/* What tells this volume on this flash from any other: 16 bytes, valid as long as the cache. */
const uint8_t *volume_uuid(struct volume *volume);

/* The one of this name is `unnamed`, and no other; NULL: none. */
struct cache;
void volume_set_unnamed(struct cache *cache, const char *name);

/* Volumes come and go, but what one points to stays until the cache is closed, if not its backing
 * store (cache_hold).  Any thread; what is counted may change from one call to the next. */
struct volume *volume_find(struct cache *cache, const char *name); /* "" is the first; NULL: none */
unsigned volume_count(struct cache *cache);

/* In the order of the configuration, then in which they came; NULL: there are not so many. */
struct volume *volume_at(struct cache *cache, unsigned index);

#endif
