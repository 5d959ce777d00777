/* SPDX-License-Identifier: Apache-2.0 */
/* Telling whoever started the daemon how it is: systemd by sd_notify's protocol. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* Sends `state`, such as "READY=1", to $NOTIFY_SOCKET when there is one (sd_notify(3)). */
void notify_send(const char *state);

/* A reload begins; READY=1 ends it. */
void notify_reloading(void);

#endif
