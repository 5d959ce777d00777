/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator of a volume with ordered destaging: knows the oldest epoch that is not destaged
 * in all shards, asks every shard and then tells every shard.  See ORDERED in engine/shard.h and
 * docs/ordered-destage.md.
 */
#ifndef IO_EPOCH_H
#define IO_EPOCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "io/core.h"

struct cache_volume;

struct epoch_coordinator {
    pthread_mutex_t lock; /* of the next two */
    bool busy;            /* somebody asks and tells, or `message` is on its way to do so */
    bool again;           /* meanwhile an epoch ended, or a shard has nothing left */
    bool failing;         /* of who is busy: what the shards were told */
    struct core_message message;
    atomic_uint_fast64_t oldest; /* 0: what was recovered is not destaged yet */
};

void epoch_init(struct epoch_coordinator *coordinator);
void epoch_destroy(struct epoch_coordinator *coordinator);

/* Any thread, once, when the shards have recovered. */
void epoch_begin(struct cache_volume *volume);

/* On any core: an epoch ended (volume.epoch was raised), or a shard has nothing left of the oldest
 * one.  Nothing to do where destaging is not ordered. */
void epoch_advance(struct core *core, struct cache_volume *volume);

#endif
