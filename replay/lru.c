/* SPDX-License-Identifier: Apache-2.0 */
/* Plain LRU: every missed block is written to flash.  RAM holds the most recent of what flash has. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/format.h"
#include "replay/nodes.h"
#include "replay/policy.h"

struct lru {
    struct replay_blocks blocks;
    struct nodes flash, ram;
    struct node_list flash_list, ram_list;
};

/* True: it was there. */
static bool touch(struct nodes *nodes, struct node_list *list, uint64_t block)
{
    uint32_t id = nodes_find(nodes, block);
    bool found = id != NODE_NONE;

    if (list->limit == 0)
        return false;
    if (found) {
        node_list_cut(nodes, list, id);
    } else {
        if (list->count == list->limit) {
            uint32_t last = list->last;

            node_list_cut(nodes, list, last);
            nodes_give(nodes, last);
        }
        id = nodes_take(nodes, block);
    }
    node_list_push(nodes, list, id);
    return found;
}

static enum replay_source lru_access(struct replay_blocks *blocks, uint64_t block)
{
    struct lru *lru = (struct lru *)blocks;
    bool in_ram = touch(&lru->ram, &lru->ram_list, block);

    if (touch(&lru->flash, &lru->flash_list, block))
        return in_ram ? SOURCE_RAM : SOURCE_FLASH;
    lru->blocks.result.promote_blocks++;
    return in_ram ? SOURCE_RAM : SOURCE_BACKING;
}

static void lru_destroy(struct replay *replay)
{
    struct lru *lru = (struct lru *)replay;

    nodes_free(&lru->flash);
    nodes_free(&lru->ram);
    free(lru);
}

static struct replay *lru_create(const struct replay_config *config, char *why, size_t why_bytes)
{
    struct lru *lru = calloc(1, sizeof(*lru));

    if (!lru) {
        snprintf(why, why_bytes, "not enough memory");
        return NULL;
    }
    lru->blocks.access = lru_access;
    node_list_init(&lru->flash_list, config->flash_bytes / BLOCK_BYTES);
    node_list_init(&lru->ram_list, config->ram_bytes / BLOCK_BYTES);
    if (nodes_init(&lru->flash, lru->flash_list.limit) &&
        nodes_init(&lru->ram, lru->ram_list.limit))
        return (struct replay *)lru;
    snprintf(why, why_bytes, "not enough memory");
    lru_destroy((struct replay *)lru);
    return NULL;
}

static void lru_result(struct replay *replay, struct replay_result *result)
{
    struct lru *lru = (struct lru *)replay;

    *result = lru->blocks.result;
    result->ram_blocks = lru->ram_list.limit;
    result->flash_blocks = lru->flash_list.limit;
    result->memory_bytes = nodes_bytes(&lru->flash) + nodes_bytes(&lru->ram);
}

const struct replay_policy replay_lru = {
    .name = "lru",
    .text = "plain LRU, every miss is written to flash",
    .create = lru_create,
    .request = replay_blocks_request,
    .result = lru_result,
    .destroy = lru_destroy,
};
