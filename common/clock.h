/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock in nanoseconds, and the wall clock as text.  The engine reads neither: its events
 * bring the time. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <pthread.h>
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

/* A condition variable whose timed waits end at a time of this clock: no change of the date makes them
 * longer. */
void clock_condition_init(pthread_cond_t *condition);

/* Room for what these two write, with its final NUL. */
#define CLOCK_TEXT_BYTES 32

/* The time of day in UTC: "2026-01-31T12:00:00.000Z".  Returns `text`. */
const char *clock_print(char text[CLOCK_TEXT_BYTES]);

/* What it will be in `ns`, in whole seconds: "2026-01-31T12:00:00Z".  Returns `text`. */
const char *clock_print_in(char text[CLOCK_TEXT_BYTES], uint64_t ns);

#endif
