/* SPDX-License-Identifier: Apache-2.0 */
/* Going to the background: the command returns when the daemon serves, or has failed. */
#ifndef DAEMON_BACKGROUND_H
#define DAEMON_BACKGROUND_H

/* Before there are threads.  Returns in the daemon, with what background_ready takes; the process
 * that was started waits and exits with 0, or with what the daemon failed with.  Negative errno. */
int background_enter(void);

/* The daemon serves. */
void background_ready(int fd);

#endif
