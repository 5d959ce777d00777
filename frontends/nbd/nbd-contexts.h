/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata contexts: their names, and the data of the options that list and select them.  Pure. */
#ifndef FRONTENDS_NBD_CONTEXTS_H
#define FRONTENDS_NBD_CONTEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of them is the sum of its members; the number of one is its id, too. */
enum nbd_context {
    NBD_CONTEXT_ALLOCATION = 1, /* base:allocation */
    NBD_CONTEXT_STATE = 2,      /* blkcached:state */
};
#define NBD_CONTEXTS_ALL (NBD_CONTEXT_ALLOCATION | NBD_CONTEXT_STATE)

/* Longest name, without its NUL. */
#define NBD_CONTEXT_NAME_BYTES_MAX 15u

const char *nbd_context_name(enum nbd_context context);

struct nbd_context_query {
    const unsigned char *export_name; /* within the data */
    uint32_t export_bytes;
    unsigned contexts; /* those that the queries ask for */
};

/* Reads the data of LIST_META_CONTEXT (`list`) or SET_META_CONTEXT.  False: it is malformed. */
bool nbd_context_parse(const unsigned char *data, size_t bytes, bool list,
                       struct nbd_context_query *query);

#endif
