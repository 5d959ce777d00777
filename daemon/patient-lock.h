/* SPDX-License-Identifier: Apache-2.0 */
/* Locking what a daemon that has just ended may still hold for a moment. */
#ifndef DAEMON_PATIENT_LOCK_H
#define DAEMON_PATIENT_LOCK_H

/* flock(fd, operation | LOCK_NB), repeated for some seconds.  0, or -EWOULDBLOCK or another
 * negative errno. */
int patient_lock(int fd, int operation);

/* open(path, flags), repeated while it fails with EBUSY, as O_EXCL on a block device may. */
int patient_open(const char *path, int flags);

#endif
