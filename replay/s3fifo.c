/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO over two tiers, with fixed slots on flash (Yang et al., "FIFO queues are all you need for
 * cache eviction", SOSP 2023): the small queue is RAM, the main queue, a CLOCK with 2-bit counters,
 * is flash, the ghost queue is as long as flash.  Beyond the paper: hits within 64 block accesses of
 * the fill do not count, and while flash has free room, everything enters it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/format.h"
#include "replay/nodes.h"
#include "replay/policy.h"

#define NEAR_ACCESSES 64u

enum list {
    LIST_SMALL,
    LIST_MAIN,
    LIST_GHOST
};

struct s3fifo {
    struct replay_blocks blocks;
    struct nodes nodes;
    struct node_list list[3];
    uint32_t accesses;
};

static void put(struct s3fifo *s3, enum list list, uint32_t id)
{
    struct node *node = &s3->nodes.node[id];

    node->list = (uint8_t)list;
    node->use = 0;
    node_list_push(&s3->nodes, &s3->list[list], id);
}

static uint32_t pop(struct s3fifo *s3, enum list list)
{
    uint32_t id = s3->list[list].last;

    node_list_cut(&s3->nodes, &s3->list[list], id);
    return id;
}

static void main_make_room(struct s3fifo *s3)
{
    struct node_list *list = &s3->list[LIST_MAIN];

    while (list->count >= list->limit) {
        uint32_t id = pop(s3, LIST_MAIN);
        struct node *node = &s3->nodes.node[id];

        if (node->use == 0) {
            nodes_give(&s3->nodes, id);
        } else {
            node->use--;
            node_list_push(&s3->nodes, list, id);
        }
    }
}

static void small_make_room(struct s3fifo *s3)
{
    struct node_list *small = &s3->list[LIST_SMALL], *main = &s3->list[LIST_MAIN];
    struct node_list *ghost = &s3->list[LIST_GHOST];

    while (small->count >= small->limit) {
        uint32_t id = pop(s3, LIST_SMALL);
        bool used = s3->nodes.node[id].use > 0;

        if (used || main->count < main->limit) {
            main_make_room(s3);
            put(s3, LIST_MAIN, id);
            s3->blocks.result.promote_blocks += used;
            s3->blocks.result.fill_blocks += !used;
            continue;
        }
        if (ghost->count >= ghost->limit)
            nodes_give(&s3->nodes, pop(s3, LIST_GHOST));
        put(s3, LIST_GHOST, id);
    }
}

static enum replay_source s3fifo_access(struct replay_blocks *blocks, uint64_t block)
{
    struct s3fifo *s3 = (struct s3fifo *)blocks;
    uint32_t id = nodes_find(&s3->nodes, block);
    struct node *node = id == NODE_NONE ? NULL : &s3->nodes.node[id];

    s3->accesses++;
    if (node && node->list != LIST_GHOST) {
        if (node->use < 3 &&
            (node->list == LIST_MAIN || s3->accesses - node->filled_at > NEAR_ACCESSES))
            node->use++;
        return node->list == LIST_SMALL ? SOURCE_RAM : SOURCE_FLASH;
    }
    if (node) {
        node_list_cut(&s3->nodes, &s3->list[LIST_GHOST], id);
        main_make_room(s3);
        put(s3, LIST_MAIN, id);
        s3->blocks.result.promote_blocks++;
        return SOURCE_BACKING;
    }
    small_make_room(s3);
    id = nodes_take(&s3->nodes, block);
    put(s3, LIST_SMALL, id);
    s3->nodes.node[id].filled_at = s3->accesses;
    return SOURCE_BACKING;
}

static void s3fifo_destroy(struct replay *replay)
{
    struct s3fifo *s3 = (struct s3fifo *)replay;

    nodes_free(&s3->nodes);
    free(s3);
}

static struct replay *s3fifo_create(const struct replay_config *config, char *why, size_t why_bytes)
{
    struct s3fifo *s3 = calloc(1, sizeof(*s3));
    uint64_t ram = config->ram_bytes / BLOCK_BYTES, flash = config->flash_bytes / BLOCK_BYTES;

    if (!s3) {
        snprintf(why, why_bytes, "not enough memory");
        return NULL;
    }
    s3->blocks.access = s3fifo_access;
    node_list_init(&s3->list[LIST_SMALL], ram ? ram : 1);
    node_list_init(&s3->list[LIST_MAIN], flash ? flash : 1);
    node_list_init(&s3->list[LIST_GHOST], flash ? flash : 1);
    if (nodes_init(&s3->nodes, ram + 2 * flash + 4))
        return (struct replay *)s3;
    snprintf(why, why_bytes, "not enough memory");
    s3fifo_destroy((struct replay *)s3);
    return NULL;
}

static void s3fifo_result(struct replay *replay, struct replay_result *result)
{
    struct s3fifo *s3 = (struct s3fifo *)replay;

    *result = s3->blocks.result;
    result->ram_blocks = s3->list[LIST_SMALL].limit;
    result->flash_blocks = s3->list[LIST_MAIN].limit;
    result->memory_bytes = nodes_bytes(&s3->nodes);
}

const struct replay_policy replay_s3fifo = {
    .name = "s3fifo",
    .text = "S3-FIFO, the small queue in RAM, fixed slots on flash",
    .create = s3fifo_create,
    .request = replay_blocks_request,
    .result = s3fifo_result,
    .destroy = s3fifo_destroy,
};
