/* SPDX-License-Identifier: Apache-2.0 */
/* Durations as people write them. */
#ifndef COMMON_DURATION_H
#define COMMON_DURATION_H

#include <stdint.h>

/* Digits, and ms, s, m, h or d behind them; without one they are seconds.  -EINVAL: no duration;
 * -ERANGE: too large for *ns. */
int duration_parse(const char *text, uint64_t *ns);

#endif
