/* SPDX-License-Identifier: Apache-2.0 */
/* blkcached --check: looks at what a configuration names, and changes nothing. */
#ifndef DAEMON_PREFLIGHT_H
#define DAEMON_PREFLIGHT_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/config.h"

/* Prints what it finds to `to`, one a line, problems as "error: ...".  Returns how many there are.
 */
unsigned preflight(const struct config *config, FILE *to);

#endif
