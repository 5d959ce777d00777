/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transitions of a volume's mode.  Away from write-back the new mode applies to what is written from
 * now on; it is in force when nothing is left that was acknowledged before and that only the flash
 * has.  Until then a transition is under way: it has everything destaged, and says how far it is.
 * A volume that starts in another mode than write-back, with such data, is in transition, too: so a
 * transition goes on after a restart.
 */
#ifndef DAEMON_TRANSITION_H
#define DAEMON_TRANSITION_H

#include <jansson.h>
#include <stddef.h>

#include "io/cache.h"

struct transitions;

/* Negative errno. */
int transitions_begin(struct transitions **transitions, struct cache *cache);
void transitions_end(struct transitions *transitions); /* NULL: nothing */

/* The volume's mode was changed from `from`, in which it may have left dirty data; also ends the
 * transition that was under way.  Any thread. */
void transition_begin(struct transitions *transitions, struct volume *volume, uint8_t from);

/* It leaves: nothing is waited for any more. */
void transition_forget(struct transitions *transitions, const struct volume *volume);

/* {"from": .., "to": .., "seconds": .., "left_bytes": .., "begun_bytes": .., "seconds_left": ..,
 * "reason": ..}, or null: none is under way.  `reason` says why it does not get on, or is null. */
json_t *transition_json(struct transitions *transitions, const struct volume *volume);

/* The mode in force. */
uint8_t transition_mode(struct transitions *transitions, const struct volume *volume);

const char *transition_mode_name(uint8_t mode);

#endif
