/* SPDX-License-Identifier: Apache-2.0 */
/* One value of the configuration: from the file, or its fallback, into its field. */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include "common/ranges.h"
#include "daemon/config-report.h"
#include "daemon/config.h"

/* Reads `setting` as what `key` says into `field`, or reports why not.  Lists are allocated:
 * config_value_free.  Texts are borrowed from the file. */
void config_value_read(const struct config_key *key, const config_setting_t *setting, void *field,
                       const char *path, struct config_report *report);

/* The value of a key that is not given and need not be. */
void config_value_fall_back(const struct config_key *key, void *field);

/* The same for a plain value given as a text, as a command line has it.  A negative errno and a phrase
 * in `why` that names the value and what the key wants. */
int config_value_parse(const struct config_key *key, const char *text, void *field, char *why,
                       size_t why_bytes);

/* The value in the form that config_value_parse takes; "" for a plain value that is not given. */
#define CONFIG_VALUE_BYTES RANGES_TEXT_BYTES
const char *config_value_print(const struct config_key *key, const void *field,
                               char text[CONFIG_VALUE_BYTES]);

/* Are two values of the key the same? */
bool config_value_same(const struct config_key *key, const void *one, const void *other);

void config_value_free(const struct config_key *key, void *field);

#endif
