/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last five minutes, a sample a second, taken on a thread of its own: for the page's charts and
 * for rates, such as how soon everything dirty will be written back.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <jansson.h>
#include <stdint.h>

#include "io/cache.h"

#define HISTORY_SAMPLES 301u

struct history;

/* Negative errno. */
int history_begin(struct history **history, struct cache *cache);
void history_end(struct history *history); /* NULL: nothing */

/* {"columns": [name...], "rows": [[number...]...]}, oldest first.  All but `seconds` and
 * `dirty_bytes` are sums since the start; any thread. */
json_t *history_json(struct history *history);

/* Bytes a second that were written back over the last ten seconds. */
double history_destage_rate(struct history *history);

#endif
