/* SPDX-License-Identifier: Apache-2.0 */
/* Trying again, for a while, what fails because a process that has just ended holds something yet: the
 * kernel lets the files of an io_uring go only when its last I/O has ended, after the process. */
#ifndef COMMON_PATIENCE_H
#define COMMON_PATIENCE_H

#include <stdbool.h>

struct patience {
    unsigned left_ms, step_ms; /* of sleep in all, and between two tries; step < 1000 */
};

/* Sleeps before the next try.  False, at once: the patience is over. */
bool patience_wait(struct patience *patience);

#endif
