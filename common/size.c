/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes in bytes as people write them. */
#include "common/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char suffixes[] = {'K', 'M', 'G', 'T'};

#define SUFFIX_COUNT (sizeof(suffixes) / sizeof(suffixes[0]))

/* The power of two that a suffix stands for, 0 for the end of the text, or -1. */
static int suffix_shift(char suffix)
{
    switch (suffix) {
    case '\0': return 0;
    case 'k':
    case 'K': return 10;
    case 'm':
    case 'M': return 20;
    case 'g':
    case 'G': return 30;
    case 't':
    case 'T': return 40;
    default: return -1;
    }
}

int size_parse(const char *text, uint64_t *bytes)
{
    const char *at = text;
    uint64_t value = 0;
    int shift;

    if (*at < '0' || *at > '9')
        return -EINVAL;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return -ERANGE;
    }
    shift = suffix_shift(*at);
    if (shift < 0 || (shift > 0 && at[1] != '\0'))
        return -EINVAL;
    if (value > UINT64_MAX >> shift)
        return -ERANGE;
    *bytes = value << shift;
    return 0;
}

const char *size_print(char text[SIZE_TEXT_BYTES], uint64_t bytes)
{
    size_t steps = 0;

    while (bytes != 0 && bytes % 1024 == 0 && steps < SUFFIX_COUNT) {
        bytes /= 1024;
        steps++;
    }
    if (steps == 0)
        snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64, bytes);
    else
        snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "%c", bytes, suffixes[steps - 1]);
    return text;
}

const char *size_print_human(char text[SIZE_TEXT_BYTES], uint64_t bytes)
{
    double value = (double)bytes;
    size_t steps = 0;

    /* What would be rounded to 1024.0 is 1.0 of the next unit. */
    while (value >= 1023.95 && steps < SUFFIX_COUNT) {
        value /= 1024;
        steps++;
    }
    if (steps == 0)
        snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 " B", bytes);
    else
        snprintf(text, SIZE_TEXT_BYTES, "%.1f %ciB", value, suffixes[steps - 1]);
    return text;
}
