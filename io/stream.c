/* SPDX-License-Identifier: Apache-2.0 */
/* Detection of sequential streams. */
#include "io/stream.h"

/* A stream goes on although a few of its requests went to another core, or came out of order: up to
 * so many of the request's own length may be missing. */
#define GAP_REQUESTS 4u

uint64_t stream_note(struct stream_table *table, uint64_t offset, uint64_t length)
{
    struct stream *oldest = &table->streams[0], *found = NULL;

    table->uses++;
    for (unsigned i = 0; i < STREAMS && found == NULL; i++) {
        struct stream *stream = &table->streams[i];

        if (stream->used != 0 && offset >= stream->next &&
            offset - stream->next <= GAP_REQUESTS * length)
            found = stream;
        else if (stream->used < oldest->used)
            oldest = stream;
    }
    if (found == NULL) {
        found = oldest;
        found->bytes = 0;
    }
    found->used = table->uses;
    found->next = offset + length;
    found->bytes += length;
    return found->bytes;
}
