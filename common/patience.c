/* SPDX-License-Identifier: Apache-2.0 */
/* Trying again what is busy. */
#include "common/patience.h"

#include <time.h>

bool patience_wait(struct patience *patience)
{
    const struct timespec pause = {.tv_nsec = (long)patience->step_ms * 1000000};

    if (patience->left_ms == 0)
        return false;
    patience->left_ms -=
        patience->step_ms < patience->left_ms ? patience->step_ms : patience->left_ms;
    nanosleep(&pause, NULL);
    return true;
}
