/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers with units. */
#include "common/quantity.h"

#include <errno.h>
#include <string.h>

int quantity_parse(const char *text, const struct quantity_unit *units, size_t unit_count,
                   uint64_t *value)
{
    const char *at = text;
    uint64_t number = 0;

    if (*at < '0' || *at > '9')
        return -EINVAL;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return -ERANGE;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(at, units[i].suffix) != 0)
            continue;
        if (__builtin_mul_overflow(number, units[i].factor, &number))
            return -ERANGE;
        *value = number;
        return 0;
    }
    return -EINVAL;
}
