/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What "blkcachectl set" changed, kept over restarts in STATE_DIR/settings.json.
 *
 * For each change the file notes what the configuration said at that time.  The later of the two
 * counts: when the configuration gives the key another value than then, the change is dropped.
 */
#ifndef DAEMON_SETTINGS_H
#define DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/config.h"
#include "io/cache.h"

struct settings;

/* Reads what is kept.  Negative errno and a sentence. */
int settings_begin(struct settings **settings, const char *state_dir, char *why, size_t why_bytes);
void settings_end(struct settings *settings); /* NULL: nothing */

/* Changes what the configuration says of a volume to what was set since; forgets changes that the
 * configuration overtook.  NULL settings: nothing. */
void settings_apply(struct settings *settings, struct config_volume *volume);

/* Sets `key` of the volume that `file` describes, durably; `value` of the key's form.  The file's own
 * value takes the change back.  Negative errno and a sentence. */
int settings_put(struct settings *settings, const struct config_volume *file,
                 const struct config_key *key, const char *value, char *why, size_t why_bytes);

/* Is the key one that may be changed while the volume is in use? */
bool settings_may_change(const struct config_key *key);

#endif
