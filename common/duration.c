/* SPDX-License-Identifier: Apache-2.0 */
/* Durations as people write them. */
#include "common/duration.h"

#include <errno.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)

int duration_parse(const char *text, uint64_t *ns)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const char *at = text;
    uint64_t value = 0;

    if (*at < '0' || *at > '9')
        return -EINVAL;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return -ERANGE;
    }
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(at, units[i].text) != 0)
            continue;
        if (__builtin_mul_overflow(value, units[i].ms * NS_PER_MS, &value))
            return -ERANGE;
        *ns = value;
        return 0;
    }
    return -EINVAL;
}
