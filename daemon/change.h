/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of what is in service: attach, detach, reload.  A thread of its own carries them out, one
 * after the other, as each may take long; whoever asked looks how far it is.
 */
#ifndef DAEMON_CHANGE_H
#define DAEMON_CHANGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/service.h"

#define CHANGES_MAX 16u /* waiting, under way, and ended, that are remembered */

enum change_kind {
    CHANGE_ATTACH,
    CHANGE_DETACH,
    CHANGE_RELOAD
};

struct change_request {
    enum change_kind kind;
    char volume[VOLUME_NAME_BYTES];
    bool flush; /* DETACH: what is dirty is destaged first, however long it takes */
    bool force; /* DETACH: hangs up on clients */
};

/* How far a change is; whoever carries it out writes it. */
struct change_progress {
    _Atomic(uint64_t) left_bytes, begun_bytes; /* to be destaged */
    atomic_bool cancelled;                     /* read by whoever carries it out */
};

struct changes;

/* Negative errno. */
int changes_begin(struct changes **changes, struct service *service);

/* What is under way is cancelled.  NULL: nothing. */
void changes_end(struct changes *changes);

/* Its number, from 1, or 0: too many wait.  Any thread. */
uint64_t changes_ask(struct changes *changes, const struct change_request *request);

/* {"id": .., "verb": .., "volume": .., "state": "waiting"|"running"|"done"|"failed", "error": ..,
 * "left_bytes": .., "begun_bytes": ..}; null: there is none of this number (any more). */
json_t *changes_json(struct changes *changes, uint64_t id);

/* Cancels detaching `volume`; false: it is not being detached. */
bool changes_cancel(struct changes *changes, const char *volume);

#endif
