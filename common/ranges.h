/* SPDX-License-Identifier: Apache-2.0 */
/* A few ranges of numbers, sorted and apart from each other: of bytes, or of blocks. */
#ifndef COMMON_RANGES_H
#define COMMON_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGES_MAX 16u

struct range {
    uint64_t first, end; /* the end is not in it; UINT64_MAX: there is none */
};

struct ranges {
    uint32_t count;
    struct range list[RANGES_MAX];
};

/* Adds the range, joined with those that it touches.  -ENOSPC, and nothing has changed: they would be
 * more than RANGES_MAX.  An empty range adds nothing. */
int ranges_add(struct ranges *ranges, uint64_t first, uint64_t end);

/* Takes the range out of all; the same. */
int ranges_remove(struct ranges *ranges, uint64_t first, uint64_t end);

bool ranges_same(const struct ranges *one, const struct ranges *other);

/* How much of what is below `limit` they cover. */
uint64_t ranges_sum(const struct ranges *ranges, uint64_t limit);

static inline bool ranges_have(const struct ranges *ranges, uint64_t at)
{
    for (uint32_t i = 0; i < ranges->count && ranges->list[i].first <= at; i++)
        if (at < ranges->list[i].end)
            return true;
    return false;
}

/*
 * Adds ranges of bytes from a text: "FIRST-END", "FIRST-" (without an end) or "FIRST+LENGTH", more of them
 * after commas, or "none".  Sizes are those of size.h.
 * -EINVAL: it is nothing of that, or a range is empty; -ERANGE: a number is too large; -ENOSPC.
 */
int ranges_parse(struct ranges *ranges, const char *text);

/* Room for any text that ranges_print() produces, with its final NUL. */
#define RANGES_TEXT_BYTES (RANGES_MAX * 48)

/* Writes them so that ranges_parse() reads the same; returns TEXT. */
const char *ranges_print(char text[RANGES_TEXT_BYTES], const struct ranges *ranges);

#endif
