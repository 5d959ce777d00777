/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock, in nanoseconds.  The engine reads none: its events bring the time. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

/* CLOCK_MONOTONIC. */
uint64_t clock_ns(void);

/* The same time as the C library wants it. */
static inline struct timespec clock_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

#endif
