/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock. */
#include "common/clock.h"

uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}
