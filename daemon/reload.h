/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the configuration again: what is in service becomes what the file says, or nothing changes.
 *
 *   volumes         come and go; their keys that may change do
 *   daemon          log_level and metrics change
 *   all other keys  need a restart: a file that changes one is refused, and the key named
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include "daemon/change.h"

/* On the thread of changes.  Negative errno and a sentence; then nothing was changed. */
int reload(struct service *service, struct change_progress *progress, char *why, size_t why_bytes);

/* Reads and checks the file; a negative errno and all that is wrong, in one line. */
int reload_read(const char *path, struct config **config, char *why, size_t why_bytes);

#endif
