/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W-TinyLFU over two tiers, with fixed slots on flash (Einziger, Friedman, Manes, ACM TOS 2017): the
 * window is RAM; what leaves it enters flash, a segmented LRU, if it is used more often than the
 * block that has to go.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/format.h"
#include "replay/nodes.h"
#include "replay/policy.h"
#include "replay/sketch.h"

#define PROTECTED_PERCENT 80u

enum list {
    LIST_WINDOW,
    LIST_PROBATION,
    LIST_PROTECTED
};

struct tinylfu {
    struct replay_blocks blocks;
    struct nodes nodes;
    struct node_list list[3];
    struct sketch sketch;
    uint64_t flash_blocks;
};

static void put(struct tinylfu *lfu, enum list list, uint32_t id)
{
    lfu->nodes.node[id].list = (uint8_t)list;
    node_list_push(&lfu->nodes, &lfu->list[list], id);
}

static uint32_t pop(struct tinylfu *lfu, enum list list)
{
    uint32_t id = lfu->list[list].last;

    node_list_cut(&lfu->nodes, &lfu->list[list], id);
    return id;
}

/* What leaves the window against what has to leave flash. */
static void admit(struct tinylfu *lfu, uint32_t candidate)
{
    uint64_t used = lfu->list[LIST_PROBATION].count + lfu->list[LIST_PROTECTED].count;
    enum list from = lfu->list[LIST_PROBATION].count > 0 ? LIST_PROBATION : LIST_PROTECTED;
    uint32_t victim;

    if (used < lfu->flash_blocks) {
        put(lfu, LIST_PROBATION, candidate);
        lfu->blocks.result.fill_blocks++;
        return;
    }
    victim = lfu->list[from].last;
    if (sketch_estimate(&lfu->sketch, lfu->nodes.node[candidate].block) <=
        sketch_estimate(&lfu->sketch, lfu->nodes.node[victim].block)) {
        nodes_give(&lfu->nodes, candidate);
        return;
    }
    nodes_give(&lfu->nodes, pop(lfu, from));
    put(lfu, LIST_PROBATION, candidate);
    lfu->blocks.result.promote_blocks++;
}

static enum replay_source tinylfu_access(struct replay_blocks *blocks, uint64_t block)
{
    struct tinylfu *lfu = (struct tinylfu *)blocks;
    struct node_list *window = &lfu->list[LIST_WINDOW], *kept = &lfu->list[LIST_PROTECTED];
    uint32_t id = nodes_find(&lfu->nodes, block);

    sketch_add(&lfu->sketch, block);
    if (id == NODE_NONE) {
        while (window->count >= window->limit)
            admit(lfu, pop(lfu, LIST_WINDOW));
        put(lfu, LIST_WINDOW, nodes_take(&lfu->nodes, block));
        return SOURCE_BACKING;
    }
    node_list_cut(&lfu->nodes, &lfu->list[lfu->nodes.node[id].list], id);
    if (lfu->nodes.node[id].list == LIST_WINDOW) {
        put(lfu, LIST_WINDOW, id);
        return SOURCE_RAM;
    }
    put(lfu, LIST_PROTECTED, id);
    if (kept->count > kept->limit)
        put(lfu, LIST_PROBATION, pop(lfu, LIST_PROTECTED));
    return SOURCE_FLASH;
}

static void tinylfu_destroy(struct replay *replay)
{
    struct tinylfu *lfu = (struct tinylfu *)replay;

    nodes_free(&lfu->nodes);
    sketch_free(&lfu->sketch);
    free(lfu);
}

static struct replay *tinylfu_create(const struct replay_config *config, char *why,
                                     size_t why_bytes)
{
    struct tinylfu *lfu = calloc(1, sizeof(*lfu));
    uint64_t ram = config->ram_bytes / BLOCK_BYTES, flash = config->flash_bytes / BLOCK_BYTES;

    if (!lfu) {
        snprintf(why, why_bytes, "not enough memory");
        return NULL;
    }
    lfu->blocks.access = tinylfu_access;
    lfu->flash_blocks = flash ? flash : 1;
    node_list_init(&lfu->list[LIST_WINDOW], ram ? ram : 1);
    node_list_init(&lfu->list[LIST_PROBATION], 0);
    node_list_init(&lfu->list[LIST_PROTECTED], lfu->flash_blocks * PROTECTED_PERCENT / 100);
    if (nodes_init(&lfu->nodes, ram + flash + 4) && sketch_init(&lfu->sketch, ram + flash))
        return (struct replay *)lfu;
    snprintf(why, why_bytes, "not enough memory");
    tinylfu_destroy((struct replay *)lfu);
    return NULL;
}

static void tinylfu_result(struct replay *replay, struct replay_result *result)
{
    struct tinylfu *lfu = (struct tinylfu *)replay;

    *result = lfu->blocks.result;
    result->ram_blocks = lfu->list[LIST_WINDOW].limit;
    result->flash_blocks = lfu->flash_blocks;
    result->memory_bytes = nodes_bytes(&lfu->nodes) + ((uint64_t)2 << lfu->sketch.bits);
}

const struct replay_policy replay_wtinylfu = {
    .name = "wtinylfu",
    .text = "W-TinyLFU, the window in RAM, fixed slots on flash",
    .create = tinylfu_create,
    .request = replay_blocks_request,
    .result = tinylfu_result,
    .destroy = tinylfu_destroy,
};
