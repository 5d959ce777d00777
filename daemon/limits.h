/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process: raised as far as allowed, and a word where that is too little. */
#ifndef DAEMON_LIMITS_H
#define DAEMON_LIMITS_H

/* Before threads are started. */
void limits_raise(void);

/* Before a block device is served: what a process needs in whose way the kernel's own memory is freed,
 * because dirty pages and swap are written there.  Memory is locked, also what is allocated later. */
void limits_serve_kernel(void);

#endif
