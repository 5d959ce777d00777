/* SPDX-License-Identifier: Apache-2.0 */
/* What a volume may take of the flash, and what the others must leave it. */
#ifndef ENGINE_SHARE_H
#define ENGINE_SHARE_H

#include "engine/shard-private.h"

void share_set(struct shard *shard);                                /* after a change of policies */
void share_count(struct shard *shard, struct shard_volume *volume); /* a new one */
void share_add(struct shard *shard, uint32_t id); /* one more, one less published slot */
void share_take(struct shard *shard, uint32_t id);
bool share_full(const struct shard *shard, uint64_t key); /* its volume may take no more */
bool share_owed(const struct shard *shard, uint64_t key); /* ... has less than it was promised */
unsigned share_use(const struct shard *shard, const struct slot *slot); /* as reclaim sees it */
/* How many blocks of each volume others may push out, and how many pinned ones may be among them;
 * takes one, false: there is none. */
struct share_spare {
    uint32_t blocks[VOLUMES_MAX], pinned[VOLUMES_MAX];
};
void share_spare(const struct shard *shard, struct share_spare *spare);
bool share_spare_take(const struct shard *shard, struct share_spare *spare, uint64_t key);

#endif
