/* SPDX-License-Identifier: Apache-2.0 */
/* One value of the configuration: from the file, or its fallback, into its field. */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include "daemon/config-report.h"
#include "daemon/config.h"

/* Reads `setting` as what `key` says into `field`, or reports why not.  Lists are allocated:
 * config_value_free.  Texts are borrowed from the file. */
void config_value_read(const struct config_key *key, const config_setting_t *setting, void *field,
                       const char *path, struct config_report *report);

/* The value of a key that is not given and need not be. */
void config_value_fall_back(const struct config_key *key, void *field);

void config_value_free(const struct config_key *key, void *field);

#endif
