/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the service as JSON.  The keys are an interface: add, do not rename. */
#ifndef DAEMON_CONTROL_STATUS_H
#define DAEMON_CONTROL_STATUS_H

#include <jansson.h>

#include "daemon/service.h"
#include "io/job.h"

/* Everything that `status` shows. */
json_t *control_status(struct service *service);

/* The NBD server: addresses, connections, counters, limits. */
json_t *control_nbd(const struct service *service);

/* Long work, running and ended: an array, oldest first; and one of them. */
json_t *control_jobs(struct service *service);
json_t *control_job_facts(const struct job_facts *facts);

/* The array that `volumes` shows. */
json_t *control_volumes(struct service *service);

/* Counters as an object, by their names. */
json_t *control_counters(const struct counters *counters);
json_t *control_flash_counters(const struct flash_counters *counters);

/* Blocks read, by where they came from: {"from_ram": .., "from_flash": .., "from_zeros": ..,
 * "from_backing": .., "hit_ratio": ..}; the ratio is null before the first read. */
json_t *control_reads(const struct counters *counters);

/* Of one volume: by operation and tier, where there were any. */
json_t *control_latencies(const struct latency latencies[LATENCY_OPS][TIERS]);

/* One volume's element of `stats`. */
json_t *control_volume_stats(const struct volume *volume, const struct counters *counters,
                             const struct latency latencies[LATENCY_OPS][TIERS]);

/* `stats` of all volumes and of the flash, since the start. */
json_t *control_stats(struct service *service);

/* Predicted miss ratios of one volume, for caches from a sixteenth of the flash to sixteen times as
 * much: {"reads": .., "flash_bytes": .., "curve": [{"times": .., "bytes": .., "miss_ratio": ..}]}. */
json_t *control_mrc(struct service *service, const struct volume *volume);

double control_uptime_seconds(const struct service *service);

/* Does the backing store answer, and take what is written back? */
bool control_backing_is_up(struct service *service, const struct volume *volume);

void latencies_read(struct cache *cache, uint16_t volume,
                    struct latency latencies[LATENCY_OPS][TIERS]);

#endif
