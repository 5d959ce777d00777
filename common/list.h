/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list.
 *
 * A list head and the node inside an element have the same type. A head whose
 * list is empty, and a node that is in no list, point at themselves. The list
 * owns nothing: whoever links an element keeps it alive until it is removed.
 * No function here fails; none takes a lock.
 */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

/* The structure of TYPE whose field MEMBER is at POINTER (never NULL). */
#ifndef container_of
#    define container_of(pointer, type, member) \
        ((type *)(void *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))
#endif

/* Initialiser of a static head: struct list all = LIST_INIT(all). */
#define LIST_INIT(head)  \
    {                    \
        &(head), &(head) \
    }

/* Make an empty head, or a node that is in no list. */
static inline void list_init(struct list *list)
{
    list->prev = list;
    list->next = list;
}

/* Is the list empty; of a node: is it in no list. */
static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

/* Helper of the functions below: put NODE between two neighbours. */
static inline void list_link(struct list *node, struct list *prev, struct list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

/* Add NODE, which is in no list, as the last element. */
static inline void list_add_tail(struct list *head, struct list *node)
{
    list_link(node, head->prev, head);
}

/* Add NODE, which is in no list, as the first element. */
static inline void list_add_head(struct list *head, struct list *node)
{
    list_link(node, head, head->next);
}

/* Take NODE out of its list; it is then in no list. Harmless if it was in none. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Move NODE from its list, if it is in one, to the end of HEAD's. */
static inline void list_move_tail(struct list *head, struct list *node)
{
    list_remove(node);
    list_add_tail(head, node);
}

/* The first node, or NULL if the list is empty. It stays in the list. */
static inline struct list *list_first(const struct list *head)
{
    return list_empty(head) ? NULL : head->next;
}

/* The last node, or NULL if the list is empty. It stays in the list. */
static inline struct list *list_last(const struct list *head)
{
    return list_empty(head) ? NULL : head->prev;
}

/* Remove and return the first node, or return NULL if the list is empty. */
static inline struct list *list_take_first(struct list *head)
{
    struct list *node = list_first(head);

    if (node != NULL)
        list_remove(node);
    return node;
}

/* Append all of SOURCE to HEAD in order; SOURCE is empty afterwards. */
static inline void list_splice_tail(struct list *head, struct list *source)
{
    if (list_empty(source))
        return;
    source->next->prev = head->prev;
    head->prev->next = source->next;
    source->prev->next = head;
    head->prev = source->prev;
    list_init(source);
}

/* Visit each node; the body must not remove any. */
#define list_for_each(node, head) \
    for (struct list *node = (head)->next; node != (head); node = node->next)

/* Visit each node; the body may remove the node it visits, and no other. */
#define list_for_each_safe(node, head)                                                \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
         node = node##_next, node##_next = node->next)

/* The element of TYPE around the first node, or NULL if the list is empty. */
#define list_first_entry(head, type, member) \
    (list_empty(head) ? NULL : container_of((head)->next, type, member))

#endif
