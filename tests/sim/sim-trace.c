/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-trace.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/crc32c.h"

#pragma GCC diagnostic ignored \
    "-Wformat-nonliteral" /* the formats are in one table, all of a kind */

static const char *const texts[] = {
#define X(name, text) [name] = text,
    SIM_TRACES(X)
#undef X
};

void sim_trace_print(const struct sim_trace *trace, enum sim_trace_kind kind, uint64_t a,
                     uint64_t b, uint64_t c)
{
    printf("%" PRIu64 " @%" PRIu64 " ", trace->step, trace->now_ns);
    printf(texts[kind], (unsigned long)a, (unsigned long)b, (unsigned long)c);
    putchar('\n');
}

uint64_t sim_trace_bytes(const void *data, uint32_t bytes)
{
    return crc32c(0, data, bytes);
}
