/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process: raised as far as allowed, and a word where that is too little. */
#ifndef DAEMON_LIMITS_H
#define DAEMON_LIMITS_H

void limits_raise(void);

#endif
