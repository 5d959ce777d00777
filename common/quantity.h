/* SPDX-License-Identifier: Apache-2.0 */
/* A whole number and its unit, as people write them: what sizes and durations have in common. */
#ifndef COMMON_QUANTITY_H
#define COMMON_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

struct quantity_unit {
    const char *suffix; /* "": nothing behind the digits */
    uint64_t factor;
};

/* Reads decimal digits and exactly one of the suffixes, with nothing before, between or behind.  -EINVAL:
 * no quantity; -ERANGE: it does not fit in 64 bits.  *value is unchanged on error. */
int quantity_parse(const char *text, const struct quantity_unit *units, size_t unit_count,
                   uint64_t *value);

#endif
