/* SPDX-License-Identifier: Apache-2.0 */
/* Why dirty data does not get to a backing store, and how long that may last before somebody who waits
 * is told instead. */
#ifndef DAEMON_STUCK_H
#define DAEMON_STUCK_H

#include <jansson.h>

#include "io/cache.h"

/* The reason, or null; a volume that has nothing dirty has none. */
json_t *stuck_json(struct cache *cache, const struct volume *volume);

/* Seconds without progress: the time-out of the backing store, and 10. */
double stuck_patience(const struct volume *volume);

/* Of all volumes the first one that has a reason, which names the volume, and its patience. */
json_t *stuck_any_json(struct cache *cache, double *patience);

#endif
