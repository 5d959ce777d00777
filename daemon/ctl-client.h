/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the daemon, over its control socket. */
#ifndef DAEMON_CTL_CLIENT_H
#define DAEMON_CTL_CLIENT_H

#include "daemon/ctl.h"
#include "daemon/progress.h"

/* How long an answer may take; that to a shutdown may take any time. */
#define CTL_ANSWER_SECONDS 30

struct ctl_client {
    const char *socket;
    int fd;
};

/* CTL_DONE, or CTL_UNREACHABLE after a message. */
enum ctl_exit ctl_connect(const struct ctl *ctl, struct ctl_client *client);
void ctl_disconnect(struct ctl_client *client);

/* Sends `request`, which it takes over, and waits `seconds` (0: for ever) for the answer; *result
 * is the caller's.  On anything but CTL_DONE the message has been printed. */
enum ctl_exit ctl_ask(struct ctl_client *client, json_t *request, int seconds, json_t **result);

/* Connects, asks and disconnects. */
enum ctl_exit ctl_ask_once(const struct ctl *ctl, json_t *request, json_t **result);

/* Values of an answer; 0 and "?" when they are not there. */
uint64_t ctl_number(const json_t *object, const char *key);
const char *ctl_text(const json_t *object, const char *key);

/* What the daemon does in the background, and tells by number. */
struct ctl_work {
    const char *name;  /* the verb that asks for it by its "id", and its key in the answer */
    const char *doing; /* in -ing */
    bool (*is_running)(const json_t *work);
    void (*show)(struct progress *progress, const json_t *work);
};

/* Begins work with `request`, which it takes over, and with `wait` follows it to its end, with progress on a
 * terminal.  *state is what is known of it last, and the caller's. */
enum ctl_exit ctl_follow(const struct ctl *ctl, json_t *request, const struct ctl_work *work,
                         bool wait, json_t **state);

#endif
