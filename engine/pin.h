/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned ranges of volumes: what of them is on flash stays there. */
#ifndef ENGINE_PIN_H
#define ENGINE_PIN_H

#include "engine/shard-private.h"

/* The ranges of some volume are others than before: what is on flash of all is counted again. */
void pin_recount(struct shard *shard);
void pin_tick(struct shard *shard);             /* goes on with that */
void pin_add(struct shard *shard, uint32_t id); /* one more, one less published slot */
void pin_take(struct shard *shard, uint32_t id);

bool pin_found(const struct shard *shard, uint64_t key);
bool pin_found_and_fits(const struct shard *shard, uint64_t key);

static inline bool pin_holds(const struct shard *shard, uint64_t key)
{
    return shard->pins && pin_found(shard, key);
}

/* It is pinned, and there may be more. */
static inline bool pin_admits(const struct shard *shard, uint64_t key)
{
    return shard->pins && pin_found_and_fits(shard, key);
}

/* So many of the volume's pinned blocks count as any others. */
uint64_t pin_excess(const struct shard *shard, const struct shard_volume *volume);
/* What pins may hold of the shard's part of the flash, in blocks. */
uint64_t pin_most(const struct shard *shard);
/* What pinned blocks leave to dirty ones. */
uint64_t pin_leaves(const struct shard *shard);

#endif
