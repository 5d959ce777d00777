/* SPDX-License-Identifier: Apache-2.0 */
/* "did you mean": the known word that a mistyped one is nearest to. */
#ifndef DAEMON_SUGGEST_H
#define DAEMON_SUGGEST_H

#include <stddef.h>

/* The nearest of `count` words when it is near enough to have been meant, else NULL. */
const char *suggest(const char *typed, const char *const *words, size_t count);

#endif
