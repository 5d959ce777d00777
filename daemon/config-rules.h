/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between the values of a configuration, and what this version cannot do. */
#ifndef DAEMON_CONFIG_RULES_H
#define DAEMON_CONFIG_RULES_H

#include "daemon/config-report.h"
#include "daemon/config.h"

void config_rules_check(const struct config *config, struct config_report *report);

/* Where to listen, taken apart. */
struct config_address {
    bool is_unix;
    const char *path; /* of a Unix socket; within the text it was made from */
    char host[256];   /* of a TCP socket; "" or "*" for all addresses */
    unsigned port;
};

/* Reads "unix:PATH" or "tcp:HOST:PORT", an IPv6 address in brackets.  Returns 0, or -EINVAL and a
 * phrase in *why. */
int config_address_parse(const char *text, struct config_address *address, const char **why);

/* The same for "HOST:PORT" alone; `path` and `is_unix` are left as they are. */
int config_host_port_parse(const char *text, struct config_address *address, const char **why);

#endif
