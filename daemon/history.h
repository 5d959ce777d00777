/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last five minutes, a sample a second: for the page's charts and for rates, such as how soon
 * everything dirty will be written back.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <jansson.h>
#include <stdint.h>

#include "io/cache.h"

#define HISTORY_SAMPLES 301u

struct history;

struct history *history_create(struct cache *cache); /* NULL: no memory */
void history_destroy(struct history *history);       /* NULL: nothing */

/* Takes the sample that is due by `now_ns` (CLOCK_MONOTONIC), and returns when the next one is.  One
 * thread; the others may be called by any. */
uint64_t history_tick(struct history *history, uint64_t now_ns);

/* {"columns": [name...], "rows": [[number...]...]}, oldest first.  All but `seconds` and
 * `dirty_bytes` are sums since the start. */
json_t *history_json(struct history *history);

/* Bytes a second that were written back over the last ten seconds. */
double history_destage_rate(struct history *history);

/* Seconds for which the backing store has not had all of the volume, to the second; ordered: how old
 * it is. */
double history_destage_lag(struct cache *cache, struct volume *volume);

#endif
