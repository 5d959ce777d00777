/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes in a table and in lists. */
#include "replay/nodes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"

bool nodes_init(struct nodes *nodes, uint64_t count)
{
    uint32_t bits = 4;

    while (bits < 31 && UINT64_C(1) << bits < count)
        bits++;
    if (count >= NODE_NONE)
        return false;
    nodes->count = (uint32_t)count;
    nodes->bucket_shift = 64 - bits;
    nodes->node = calloc(count ? count : 1, sizeof(*nodes->node));
    nodes->bucket = malloc(sizeof(uint32_t) << bits);
    if (!nodes->node || !nodes->bucket)
        return false;
    memset(nodes->bucket, 0xff, sizeof(uint32_t) << bits);
    nodes->free = NODE_NONE;
    for (uint32_t i = nodes->count; i-- > 0;) {
        nodes->node[i].chain = nodes->free;
        nodes->free = i;
    }
    return true;
}

void nodes_free(struct nodes *nodes)
{
    free(nodes->node);
    free(nodes->bucket);
}

uint64_t nodes_bytes(const struct nodes *nodes)
{
    return nodes->count * sizeof(*nodes->node) + (sizeof(uint32_t) << (64 - nodes->bucket_shift));
}

static uint32_t *bucket_of(const struct nodes *nodes, uint64_t block)
{
    return &nodes->bucket[hash_mix64(block) >> nodes->bucket_shift];
}

uint32_t nodes_find(const struct nodes *nodes, uint64_t block)
{
    uint32_t id = *bucket_of(nodes, block);

    while (id != NODE_NONE && nodes->node[id].block != block)
        id = nodes->node[id].chain;
    return id;
}

uint32_t nodes_take(struct nodes *nodes, uint64_t block)
{
    uint32_t id = nodes->free, *bucket = bucket_of(nodes, block);

    assert(id != NODE_NONE);
    nodes->free = nodes->node[id].chain;
    nodes->node[id] = (struct node){.block = block, .chain = *bucket};
    *bucket = id;
    return id;
}

void nodes_give(struct nodes *nodes, uint32_t id)
{
    uint32_t *link = bucket_of(nodes, nodes->node[id].block);

    while (*link != id)
        link = &nodes->node[*link].chain;
    *link = nodes->node[id].chain;
    nodes->node[id].chain = nodes->free;
    nodes->free = id;
}

void node_list_init(struct node_list *list, uint64_t limit)
{
    *list = (struct node_list){.first = NODE_NONE, .last = NODE_NONE, .limit = limit};
}

void node_list_push(struct nodes *nodes, struct node_list *list, uint32_t id)
{
    nodes->node[id].prev = NODE_NONE;
    nodes->node[id].next = list->first;
    if (list->first == NODE_NONE)
        list->last = id;
    else
        nodes->node[list->first].prev = id;
    list->first = id;
    list->count++;
}

void node_list_cut(struct nodes *nodes, struct node_list *list, uint32_t id)
{
    struct node *node = &nodes->node[id];

    if (node->prev == NODE_NONE)
        list->first = node->next;
    else
        nodes->node[node->prev].next = node->next;
    if (node->next == NODE_NONE)
        list->last = node->prev;
    else
        nodes->node[node->next].prev = node->prev;
    list->count--;
}
