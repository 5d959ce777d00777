/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process: raised as far as allowed, and a word where that is too little. */
#ifndef DAEMON_LIMITS_H
#define DAEMON_LIMITS_H

void limits_raise(void);

/* Before memory is allocated and threads are started: what a process needs in whose way the kernel's
 * own memory is freed, because dirty pages and swap are written to a block device of ours. */
void limits_serve_kernel(void);

#endif
