/* SPDX-License-Identifier: Apache-2.0 */
/* Telling whoever started the daemon how it is: systemd by sd_notify's protocol. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* Sends `state`, such as "READY=1", to $NOTIFY_SOCKET when there is one (sd_notify(3)). */
void notify_send(const char *state);

/* How often a service manager wants to be told that all is well, in ms; -1: it does not.  Twice as
 * often as it must. */
int notify_watchdog_ms(void);

/* A reload begins; READY=1 ends it. */
void notify_reloading(void);

#endif
