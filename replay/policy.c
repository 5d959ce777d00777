/* SPDX-License-Identifier: Apache-2.0 */
/* The list of policies, and what the simple ones have in common. */
#include "replay/policy.h"

#include <string.h>

#include "engine/format.h"

const struct replay_policy *const replay_policies[] = {
    &replay_engine, &replay_lru, &replay_s3fifo, &replay_wtinylfu, NULL,
};

const struct replay_policy *replay_policy_find(const char *name, size_t length)
{
    for (const struct replay_policy *const *policy = replay_policies; *policy; policy++)
        if (strlen((*policy)->name) == length && memcmp((*policy)->name, name, length) == 0)
            return *policy;
    return NULL;
}

void replay_blocks_request(struct replay *replay, const struct trace_request *request)
{
    struct replay_blocks *blocks = (struct replay_blocks *)replay;
    struct replay_volume *volume = &blocks->result.volumes[request->volume - 1];
    uint64_t base = (request->volume - UINT64_C(1)) * VOLUME_BLOCKS_MAX;
    uint64_t first = base + (request->offset >> BLOCK_SHIFT);
    uint64_t end = base + ((request->offset + request->length + BLOCK_BYTES - 1) >> BLOCK_SHIFT);
    bool missed = false;

    blocks->result.requests++;
    if (request->is_write) { /* what is written enters the cache like what is read */
        blocks->result.writes++;
        blocks->result.write_blocks += end - first;
        for (uint64_t block = first; block < end; block++)
            blocks->access(blocks, block);
        return;
    }
    blocks->result.reads++;
    blocks->result.read_blocks += end - first;
    volume->read_blocks += end - first;
    for (uint64_t block = first; block < end; block++) {
        switch (blocks->access(blocks, block)) {
        case SOURCE_RAM: blocks->result.ram_hit_blocks++; break;
        case SOURCE_FLASH: blocks->result.flash_hit_blocks++; break;
        case SOURCE_BACKING:
            blocks->result.miss_blocks++;
            volume->miss_blocks++;
            missed = true;
            break;
        }
    }
    blocks->result.read_misses += missed;
}
