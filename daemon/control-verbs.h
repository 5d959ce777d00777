/* SPDX-License-Identifier: Apache-2.0 */
/* What a control request does, and its reply. */
#ifndef DAEMON_CONTROL_VERBS_H
#define DAEMON_CONTROL_VERBS_H

#include <jansson.h>
#include <stdbool.h>

#include "daemon/service.h"

struct control_baseline;

struct control_verbs {
    struct service *service;
    void (*shutdown)(void *opaque, bool flush);
    void *opaque;
    /* What counters were when they were reset; of volumes by their ids. */
    struct flash_counters flash_baseline;
    struct control_baseline *baselines[VOLUME_ID_MAX + 1];
};

/* The reply, which the caller owns; NULL: it comes when the daemon has stopped.  Never blocks for
 * longer than a shard's lock is held, or a small file is made durable. */
json_t *control_answer(struct control_verbs *verbs, const json_t *request);

/* The volume that a request names: *volume is NULL when it names none.  False: there is none of
 * this name, or it is no name; *refusal then is the reply. */
bool control_volume_of(struct control_verbs *verbs, const json_t *request, const char *verb,
                       struct volume **volume, json_t **refusal);

void control_verbs_free(struct control_verbs *verbs);

/* {"ok": true, "result": ...}; takes `result` over. */
json_t *control_success(json_t *result);

/* {"ok": false, "error": {"what": ..., "why": ...}} */
json_t *control_refusal(const char *what, const char *why);

#endif
