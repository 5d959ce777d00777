/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks. */
#include "common/clock.h"

#include <stdio.h>

uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void clock_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static size_t seconds_print(char text[CLOCK_TEXT_BYTES], time_t at)
{
    struct tm parts;

    gmtime_r(&at, &parts);
    return strftime(text, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
}

const char *clock_print(char text[CLOCK_TEXT_BYTES])
{
    struct timespec now;
    size_t bytes;

    clock_gettime(CLOCK_REALTIME, &now);
    bytes = seconds_print(text, now.tv_sec);
    snprintf(text + bytes, CLOCK_TEXT_BYTES - bytes, ".%03dZ", (int)(now.tv_nsec / 1000000));
    return text;
}

const char *clock_print_in(char text[CLOCK_TEXT_BYTES], uint64_t ns)
{
    struct timespec now;
    size_t bytes;

    clock_gettime(CLOCK_REALTIME, &now);
    bytes = seconds_print(text, now.tv_sec + (time_t)(((uint64_t)now.tv_nsec + ns) / NS_PER_S));
    snprintf(text + bytes, CLOCK_TEXT_BYTES - bytes, "Z");
    return text;
}
