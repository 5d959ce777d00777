/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latency histograms: four buckets per octave, so a bucket's bounds differ by at most a quarter.
 * One core writes; readers on other threads may see a count without its bucket, which the next
 * reading puts right.
 */
#include <string.h>

#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"

static unsigned bucket_of(uint64_t ns)
{
    unsigned octave, bucket;

    if (ns < 4)
        return (unsigned)ns;
    octave = 63 - (unsigned)__builtin_clzll(ns);
    bucket = (octave - 1) * 4 + (unsigned)((ns >> (octave - 2)) & 3);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

uint64_t latency_bucket_limit_ns(unsigned index)
{
    if (index < 4)
        return index + 1;
    return (UINT64_C(5) + (index & 3)) << (index / 4 - 1);
}

static void add(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, __atomic_load_n(to, __ATOMIC_RELAXED) + value, __ATOMIC_RELAXED);
}

void latency_add(struct latency *latency, uint64_t ns)
{
    add(&latency->buckets[bucket_of(ns)], 1);
    add(&latency->sum_ns, ns);
    add(&latency->count, 1);
}

void cache_latency(struct cache *cache, uint16_t volume, enum latency_op op, enum latency_tier tier,
                   struct latency *latency)
{
    struct cache_volume *found = cache->by_id[volume];

    memset(latency, 0, sizeof(*latency));
    for (unsigned i = 0; found != NULL && i < core_count(); i++) {
        const struct latency *part = &found->figures[i].latency[op][tier];

        latency->count += __atomic_load_n(&part->count, __ATOMIC_RELAXED);
        latency->sum_ns += __atomic_load_n(&part->sum_ns, __ATOMIC_RELAXED);
        for (unsigned b = 0; b < LATENCY_BUCKETS; b++)
            latency->buckets[b] += __atomic_load_n(&part->buckets[b], __ATOMIC_RELAXED);
    }
}
