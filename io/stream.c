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
static unsigned stream_replace(const struct stream_table *table)
{
    unsigned victim = 0;
    uint64_t most = 0;

    for (unsigned i = 0; i < STREAMS; i++) {
        uint64_t age = table->uses - table->used[i];

        age = table->streams[i].requests == 1 ? age * STREAM_PATIENCE : age;
        age = table->used[i] == 0 ? UINT64_MAX : age;
        victim = age > most ? i : victim;
        most = age > most ? age : most;
    }
    return victim;
}

uint64_t stream_note(struct stream_table *table, uint64_t offset, uint64_t length, bool *is_run)
{
    uint64_t gap = GAP_REQUESTS * length;
    struct stream *stream;
    uint32_t found = 0;
    unsigned place;
    bool follows;

    table->uses++;
    /* An offset before what would go on is a gap beyond all others. */
    for (unsigned i = 0; i < STREAMS; i++)
        found |= (uint32_t)(offset - table->next[i] <= gap && table->used[i] != 0) << i;
    place = found != 0 ? (unsigned)__builtin_ctz(found) : stream_replace(table);
    stream = &table->streams[place];
    if (found == 0)
        *stream = (struct stream){0};
    follows = stream->requests > 0 && table->next[place] == offset &&
              table->used[place] + 1 == table->uses;
    table->used[place] = table->uses;
    table->next[place] = offset + length;
    stream->bytes += length;
    stream->requests++;
    *is_run = stream->bytes > STREAM_RUN_BYTES && (stream->requests >= RUN_REQUESTS || follows);
    return stream->bytes;
}
