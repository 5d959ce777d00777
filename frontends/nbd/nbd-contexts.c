/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata contexts by name. */
#include "frontends/nbd/nbd-contexts.h"

#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-protocol.h"

static const struct {
    enum nbd_context context;
    const char *name;
    size_t namespace_bytes; /* with the colon */
} contexts[] = {
    {NBD_CONTEXT_ALLOCATION, "base:allocation", 5},
    {NBD_CONTEXT_STATE, "blkcached:state", 10},
};
#define COUNT (sizeof(contexts) / sizeof(contexts[0]))

const char *nbd_context_name(enum nbd_context context)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (contexts[i].context == context)
            return contexts[i].name;
    }
    return NULL;
}

/* Those that one query means; what it asks for beside them is not there, and is ignored.  In a list
 * an empty leaf stands for all of its namespace. */
static unsigned matches(const unsigned char *query, size_t bytes, bool list)
{
    unsigned found = 0;

    for (size_t i = 0; i < COUNT; i++) {
        bool whole = bytes == strlen(contexts[i].name);
        bool wildcard = list && bytes == contexts[i].namespace_bytes;

        if ((whole || wildcard) && memcmp(query, contexts[i].name, bytes) == 0)
            found |= contexts[i].context;
    }
    return found;
}

/* Takes a string with its length in front; NULL: it is longer than what is left, or than any may
 * be. */
static const unsigned char *take_string(const unsigned char **data, size_t *left, uint32_t *bytes)
{
    const unsigned char *string = *data + 4;

    if (*left < 4)
        return NULL;
    *bytes = be32_load(*data);
    if (*bytes > *left - 4 || *bytes > NBD_STRING_BYTES_MAX)
        return NULL;
    *data += 4 + *bytes;
    *left -= 4 + *bytes;
    return string;
}

bool nbd_context_parse(const unsigned char *data, size_t bytes, bool list,
                       struct nbd_context_query *query)
{
    uint32_t count;

    query->contexts = 0;
    query->export_name = take_string(&data, &bytes, &query->export_bytes);
    if (query->export_name == NULL || bytes < 4 ||
        memchr(query->export_name, 0, query->export_bytes) != NULL)
        return false;
    count = be32_load(data);
    data += 4;
    bytes -= 4;
    if (count == 0 && list)
        query->contexts = NBD_CONTEXTS_ALL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name_bytes;
        const unsigned char *name = take_string(&data, &bytes, &name_bytes);

        if (name == NULL)
            return false;
        query->contexts |= matches(name, name_bytes, list);
    }
    return bytes == 0;
}
