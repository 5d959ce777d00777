/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed number of nodes, found by block, in doubly linked lists: what the simple policies are made
 * of.  A node is in the table as long as it is taken, and in at most one list.
 */
#ifndef REPLAY_NODES_H
#define REPLAY_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODE_NONE UINT32_MAX

struct node {
    uint64_t block;
    uint32_t chain; /* next with the same bucket; next free one */
    uint32_t prev, next;
    uint32_t filled_at;
    uint8_t use;
    uint8_t list; /* for the policy */
};

struct node_list {
    uint32_t first, last; /* NODE_NONE: empty */
    uint64_t count, limit;
};

struct nodes {
    struct node *node;
    uint32_t *bucket;
    uint32_t count, bucket_shift;
    uint32_t free;
};

bool nodes_init(struct nodes *nodes, uint64_t count);
void nodes_free(struct nodes *nodes);
uint64_t nodes_bytes(const struct nodes *nodes);

uint32_t nodes_find(const struct nodes *nodes, uint64_t block); /* or NODE_NONE */
uint32_t nodes_take(struct nodes *nodes, uint64_t block);       /* one must be free */
void nodes_give(struct nodes *nodes, uint32_t id);              /* in no list any more */

void node_list_init(struct node_list *list, uint64_t limit);
void node_list_push(struct nodes *nodes, struct node_list *list, uint32_t id); /* to the front */
void node_list_cut(struct nodes *nodes, struct node_list *list, uint32_t id);

#endif
