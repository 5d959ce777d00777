/* SPDX-License-Identifier: Apache-2.0 */
/* The thread for what is due at a time, without anybody asking: samples of the history, ends of pauses. */
#ifndef DAEMON_UPKEEP_H
#define DAEMON_UPKEEP_H

#include "daemon/service.h"

struct upkeep;

/* Negative errno. */
int upkeep_begin(struct upkeep **upkeep, struct service *service);
void upkeep_end(struct upkeep *upkeep); /* NULL: nothing */

/* Something may be due earlier than it knows.  Any thread. */
void upkeep_kick(struct upkeep *upkeep);

#endif
