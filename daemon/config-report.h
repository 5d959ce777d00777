/* SPDX-License-Identifier: Apache-2.0 */
/* Telling what is wrong with a configuration, with file, line and key. */
#ifndef DAEMON_CONFIG_REPORT_H
#define DAEMON_CONFIG_REPORT_H

#include <libconfig.h>
#include <stdio.h>

/* A path of a key from the top, with its NUL. */
#define CONFIG_PATH_BYTES 160

struct config_report {
    FILE *to;
    const char *file;
    unsigned errors, warnings;
};

/* `at` gives the line; NULL: the first.  `path` names the key, in full. */
void config_report_error(struct config_report *report, const config_setting_t *at, const char *path,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
void config_report_warning(struct config_report *report, const config_setting_t *at,
                           const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same without a setting. */
void config_report_line(struct config_report *report, const char *file, unsigned line,
                        const char *what);

#endif
