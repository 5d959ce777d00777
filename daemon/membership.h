/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes are in service, with their front ends.  All on the thread of changes. */
#ifndef DAEMON_MEMBERSHIP_H
#define DAEMON_MEMBERSHIP_H

#include "daemon/change.h"

/* Takes into service what `volumes` describe, all or none.  Negative errno and a sentence. */
int membership_attach(struct service *service, const struct config_volume *const *volumes,
                      unsigned count, char *why, size_t why_bytes);

/* Makes volumes ready to leave: nobody uses them any more, no job runs, nothing is dirty.  Undone when
 * it fails; membership_stay undoes it later. */
int membership_prepare(struct service *service, struct volume *const *volumes, unsigned count,
                       const struct change_request *request, struct change_progress *progress,
                       char *why, size_t why_bytes);
void membership_stay(struct service *service, struct volume *const *volumes, unsigned count);

/* Then: they leave.  When it fails, they stay, as prepared. */
int membership_leave(struct service *service, struct volume *const *volumes, unsigned count,
                     char *why, size_t why_bytes);

/* The verbs. */
int membership_attach_named(struct service *service, const char *name, char *why, size_t why_bytes);
int membership_detach_named(struct service *service, const struct change_request *request,
                            struct change_progress *progress, char *why, size_t why_bytes);

#endif
