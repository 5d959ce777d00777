/* SPDX-License-Identifier: Apache-2.0 */
/* Durations as people write them. */
#include "common/duration.h"

#include "common/clock.h"
#include "common/quantity.h"

int duration_parse(const char *text, uint64_t *ns)
{
    static const struct quantity_unit units[] = {
        {"", NS_PER_S},       {"ms", NS_PER_S / 1000}, {"s", NS_PER_S},
        {"m", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S},  {"d", 86400 * NS_PER_S},
    };

    return quantity_parse(text, units, sizeof(units) / sizeof(units[0]), ns);
}
