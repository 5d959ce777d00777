/* SPDX-License-Identifier: Apache-2.0 */
/* Telling what is wrong with a configuration, with file, line and key. */
#include "daemon/config-report.h"

#include <stdarg.h>

static void report_place(struct config_report *report, const config_setting_t *at)
{
    const char *file = at ? config_setting_source_file(at) : NULL;
    unsigned line = at ? config_setting_source_line(at) : 0;

    /* The top group has no line of its own. */
    fprintf(report->to, "%s:%u: ", file ? file : report->file, line ? line : 1);
}

void config_report_error(struct config_report *report, const config_setting_t *at, const char *path,
                         const char *format, ...)
{
    va_list arguments;

    report->errors++;
    report_place(report, at);
    fprintf(report->to, "%s: ", path);
    va_start(arguments, format);
    vfprintf(report->to, format, arguments);
    va_end(arguments);
    fputc('\n', report->to);
}

void config_report_warning(struct config_report *report, const config_setting_t *at,
                           const char *path, const char *format, ...)
{
    va_list arguments;

    report->warnings++;
    report_place(report, at);
    fprintf(report->to, "%s: warning: ", path);
    va_start(arguments, format);
    vfprintf(report->to, format, arguments);
    va_end(arguments);
    fputc('\n', report->to);
}

void config_report_line(struct config_report *report, const char *file, unsigned line,
                        const char *what)
{
    report->errors++;
    fprintf(report->to, "%s:%u: %s\n", file ? file : report->file, line ? line : 1, what);
}
