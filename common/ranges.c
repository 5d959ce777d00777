/* SPDX-License-Identifier: Apache-2.0 */
/* A few ranges of numbers. */
#include "common/ranges.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/size.h"

static int put(struct ranges *ranges, uint64_t first, uint64_t end)
{
    if (first >= end)
        return 0;
    if (ranges->count == RANGES_MAX)
        return -ENOSPC;
    ranges->list[ranges->count++] = (struct range){first, end};
    return 0;
}

int ranges_add(struct ranges *ranges, uint64_t first, uint64_t end)
{
    const struct range *const past = ranges->list + ranges->count;
    struct ranges sum = {0};
    int error = 0;

    if (first >= end)
        return 0;
    for (const struct range *range = ranges->list; range < past; range++) {
        if (range->end >= first && range->first <= end) {
            first = range->first < first ? range->first : first;
            end = range->end > end ? range->end : end;
        }
    }
    for (const struct range *range = ranges->list; range < past && !error; range++)
        if (range->end < first)
            error = put(&sum, range->first, range->end);
    if (!error)
        error = put(&sum, first, end);
    for (const struct range *range = ranges->list; range < past && !error; range++)
        if (range->first > end)
            error = put(&sum, range->first, range->end);
    if (!error)
        *ranges = sum;
    return error;
}

int ranges_remove(struct ranges *ranges, uint64_t first, uint64_t end)
{
    struct ranges left = {0};
    int error = 0;

    if (first >= end)
        return 0;
    for (uint32_t i = 0; i < ranges->count && !error; i++) {
        const struct range *range = &ranges->list[i];

        error = put(&left, range->first, range->end < first ? range->end : first);
        if (!error)
            error = put(&left, range->first > end ? range->first : end, range->end);
    }
    if (!error)
        *ranges = left;
    return error;
}

bool ranges_same(const struct ranges *one, const struct ranges *other)
{
    bool same = one->count == other->count;

    for (uint32_t i = 0; same && i < one->count; i++)
        same = one->list[i].first == other->list[i].first && one->list[i].end == other->list[i].end;
    return same;
}

uint64_t ranges_sum(const struct ranges *ranges, uint64_t limit)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < ranges->count && ranges->list[i].first < limit; i++)
        sum += (ranges->list[i].end < limit ? ranges->list[i].end : limit) - ranges->list[i].first;
    return sum;
}

/* ---- as text ------------------------------------------------------------------------------- */

static int range_parse(struct ranges *ranges, char *text)
{
    char *separator = strpbrk(text, "+-");
    uint64_t first, end = UINT64_MAX;
    bool length;
    int error;

    if (separator == NULL)
        return -EINVAL;
    length = *separator == '+';
    *separator = '\0';
    error = size_parse(text, &first);
    if (!error && (length || separator[1] != '\0'))
        error = size_parse(separator + 1, &end);
    if (error)
        return error;
    if (length && __builtin_add_overflow(first, end, &end))
        return -ERANGE;
    return first < end ? ranges_add(ranges, first, end) : -EINVAL;
}

int ranges_parse(struct ranges *ranges, const char *text)
{
    struct ranges all = *ranges;
    char copy[RANGES_TEXT_BYTES], *at = copy;
    int error = 0;

    if (strcmp(text, "none") == 0)
        return 0;
    if (strlen(text) >= sizeof(copy))
        return -EINVAL;
    strcpy(copy, text);
    while (at != NULL && !error) {
        char *one = strsep(&at, ",");

        error = range_parse(&all, one + strspn(one, " "));
    }
    if (!error)
        *ranges = all;
    return error;
}

const char *ranges_print(char text[RANGES_TEXT_BYTES], const struct ranges *ranges)
{
    size_t used = 0;
    char first[SIZE_TEXT_BYTES], length[SIZE_TEXT_BYTES];

    strcpy(text, ranges->count == 0 ? "none" : "");
    for (uint32_t i = 0; i < ranges->count; i++) {
        const struct range *range = &ranges->list[i];
        bool open = range->end == UINT64_MAX;

        if (!open)
            size_print(length, range->end - range->first);
        used +=
            (size_t)snprintf(text + used, RANGES_TEXT_BYTES - used, "%s%s%s%s", i ? "," : "",
                             size_print(first, range->first), open ? "-" : "+", open ? "" : length);
    }
    return text;
}
