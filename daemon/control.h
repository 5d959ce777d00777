/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control server: one thread of its own, never a core, that answers requests of blkcachectl.
 *
 * Requests and replies are JSON objects, one a line:
 *
 *   {"verb": "flush", "volume": "db"}
 *   {"ok": true, "result": {...}}
 *   {"ok": false, "error": {"what": "flush db", "why": "there is no such volume"}}
 *
 * Clients, their requests and their time are bounded; one that misbehaves costs itself only.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/control-socket.h"
#include "daemon/service.h"

#define CONTROL_CLIENTS_MAX       16u
#define CONTROL_REQUEST_BYTES_MAX 65536u
#define CONTROL_IDLE_SECONDS      60

struct control;

struct control_config {
    struct control_socket *socket; /* stays the caller's, until control_end */
    struct service *service;
    /* A client asked for a shutdown, after a flush if so.  On the control thread. */
    void (*shutdown)(void *opaque, bool flush);
    void *opaque;
};

/* Listens and starts the thread.  Negative errno and a sentence. */
int control_begin(struct control **control, const struct control_config *config, char *why,
                  size_t why_bytes);

/* From here on requests are refused, because the cache goes away.  Returns when none is under way.
 */
void control_quiesce(struct control *control);

/* Answers the clients that wait for the shutdown, with `error` and `why` if it was not clean, and
 * ends the thread. */
void control_end(struct control *control, int error, const char *why);

#endif
