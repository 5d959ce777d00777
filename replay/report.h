/* SPDX-License-Identifier: Apache-2.0 */
/* Results, for people and for programs. */
#ifndef REPLAY_REPORT_H
#define REPLAY_REPORT_H

#include <jansson.h>

#include "replay/policy.h"

struct report {
    const char *policy, *trace;
    const struct replay_config *config;
    struct replay_result result;
    double seconds;
};

json_t *report_json(const struct report *report); /* a new reference; NULL: no memory */
void report_print_head(void);
void report_print(const struct report *report);

#endif
