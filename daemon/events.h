/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log: what an operator wants to know later, kept over restarts in STATE_DIR/events.
 *
 * Whatever is logged as notice, warning or error is an event.  The newest EVENTS_MAX are kept in
 * memory and in two files that replace each other, so that their size is bounded.  A thread of its
 * own writes them: no core waits for the disk.
 */
#ifndef DAEMON_EVENTS_H
#define DAEMON_EVENTS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define EVENTS_MAX            1000u /* in memory */
#define EVENTS_FILE_BYTES_MAX (1u << 20)

/* Reads what there is and listens to the log.  Negative errno and a sentence.  Once a process. */
int events_begin(const char *state_dir, char *why, size_t why_bytes);

/* Writes what is left. */
void events_end(void);

/* {"last": N, "events": [{"number": .., "time": .., "level": .., "text": ..}...]}: those with a
 * number above `after`, at most `most` of the newest, oldest first.  Any thread. */
json_t *events_json(uint64_t after, unsigned most);

#endif
