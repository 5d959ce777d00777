/* SPDX-License-Identifier: Apache-2.0 */
/* Detection of sequential streams. */
#include "io/stream.h"

/* A stream goes on although a few of its requests went to another core, or came out of order: up to
 * so many of the request's own length may be missing. */
#define GAP_REQUESTS 4u

/* Two requests that are not one right after the other may be neighbours by chance. */
#define RUN_REQUESTS 3u

/* So many times the age of a single request a stream must have to be forgotten before it: else random
 * reads in between push out the streams. */
#define STREAM_PATIENCE 8u

/* A free one, or one that is not worth more than others. */
static struct stream *stream_replace(struct stream_table *table)
{
    struct stream *victim = NULL;
    uint64_t most = 0;

    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *stream = &table->streams[i];
        uint64_t age = table->uses - stream->used;

        if (stream->used == 0)
            return stream;
        if (stream->requests == 1)
            age *= STREAM_PATIENCE;
        if (victim == NULL || age > most) {
            victim = stream;
            most = age;
        }
    }
    return victim;
}

uint64_t stream_note(struct stream_table *table, uint64_t offset, uint64_t length, bool *is_run)
{
    struct stream *found = NULL;
    bool follows;

    table->uses++;
    for (unsigned i = 0; i < STREAMS && found == NULL; i++) {
        struct stream *stream = &table->streams[i];

        if (stream->used != 0 && offset >= stream->next &&
            offset - stream->next <= GAP_REQUESTS * length)
            found = stream;
    }
    if (found == NULL) {
        found = stream_replace(table);
        found->bytes = found->requests = 0;
    }
    follows = found->requests > 0 && found->next == offset && found->used + 1 == table->uses;
    found->used = table->uses;
    found->next = offset + length;
    found->bytes += length;
    found->requests++;
    *is_run = found->bytes > STREAM_RUN_BYTES && (found->requests >= RUN_REQUESTS || follows);
    return found->bytes;
}
