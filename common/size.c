/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes in bytes as people write them. */
#include "common/size.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/quantity.h"

static const char suffixes[] = {'K', 'M', 'G', 'T'};

#define SUFFIX_COUNT (sizeof(suffixes) / sizeof(suffixes[0]))

int size_parse(const char *text, uint64_t *bytes)
{
    static const struct quantity_unit units[] = {
        {"", 1},
        {"K", UINT64_C(1) << 10},
        {"k", UINT64_C(1) << 10},
        {"M", UINT64_C(1) << 20},
        {"m", UINT64_C(1) << 20},
        {"G", UINT64_C(1) << 30},
        {"g", UINT64_C(1) << 30},
        {"T", UINT64_C(1) << 40},
        {"t", UINT64_C(1) << 40},
    };

    return quantity_parse(text, units, sizeof(units) / sizeof(units[0]), bytes);
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
