/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests that change how a volume is served. */
#ifndef DAEMON_CONTROL_CHANGE_H
#define DAEMON_CONTROL_CHANGE_H

#include "daemon/control-verbs.h"

/* Each is the answer to the verb of its name, as control_answer. */
json_t *control_pause_fill(struct control_verbs *verbs, const json_t *request);
json_t *control_prefetch(struct control_verbs *verbs, const json_t *request);
json_t *control_invalidate(struct control_verbs *verbs, const json_t *request);
json_t *control_job(struct control_verbs *verbs, const json_t *request);
json_t *control_attach(struct control_verbs *verbs, const json_t *request);
json_t *control_detach(struct control_verbs *verbs, const json_t *request);
json_t *control_reload(struct control_verbs *verbs, const json_t *request);
json_t *control_change(struct control_verbs *verbs, const json_t *request);
json_t *control_set(struct control_verbs *verbs, const json_t *request);
json_t *control_pin(struct control_verbs *verbs, const json_t *request);
json_t *control_unpin(struct control_verbs *verbs, const json_t *request);
json_t *control_resume_fill(struct control_verbs *verbs, const json_t *request);

/* The range of a volume of `bytes` that a request names, or the whole volume.  NULL, or why not. */
const char *control_range_of(const json_t *request, uint64_t bytes, uint64_t *range_offset,
                             uint64_t *range_length);

#endif
