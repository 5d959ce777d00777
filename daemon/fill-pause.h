/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pauses of filling: for a backup or a scan, what a volume's reads miss does not enter the cache for a
 * time.  The requests look at the time themselves (volume.fill_paused_until_ns), so that a pause
 * ends when it says, whatever this thread or that does.  Each begin and end is an event.
 */
#ifndef DAEMON_FILL_PAUSE_H
#define DAEMON_FILL_PAUSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/cache.h"

#define FILL_PAUSE_SECONDS     3600u
#define FILL_PAUSE_SECONDS_MAX (30u * 86400u)

/* Begins one, or gives the one that is there another end.  Any thread, as all of these. */
void fill_pause_begin(struct volume *volume, uint64_t seconds);

/* False: there was none. */
bool fill_pause_end(struct volume *volume);

/* Ends those that are over by `now_ns` (CLOCK_MONOTONIC), and returns when the next one is. */
uint64_t fill_pause_expire(struct cache *cache, uint64_t now_ns);

/* Adds fill_paused_until (UTC, or null) and fill_paused_seconds (left, or 0) to `object`. */
void fill_pause_json(const struct volume *volume, json_t *object);

#endif
