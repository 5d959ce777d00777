/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of blkcachectl share. */
#include "daemon/ctl.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/output.h"

enum ctl_exit ctl_fail(const char *what, const char *why, ...)
{
    va_list arguments;

    output_flush();
    fprintf(stderr, "blkcachectl: %s: ", what);
    va_start(arguments, why);
    vfprintf(stderr, why, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return CTL_FAILED;
}

enum ctl_exit ctl_misused(const struct ctl_verb *verb, const char *why, ...)
{
    va_list arguments;

    fprintf(stderr, "blkcachectl: %s: ", verb->name);
    va_start(arguments, why);
    vfprintf(stderr, why, arguments);
    va_end(arguments);
    fprintf(stderr, "; usage: blkcachectl %s%s%s\n", verb->name, *verb->usage ? " " : "",
            verb->usage);
    return CTL_USAGE;
}

#define OPTIONS_MAX   12
#define OPTION_JSON   1000
#define OPTION_SOCKET 1001

int ctl_option(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
               const struct option *options)
{
    struct option all[OPTIONS_MAX] = {{"json", no_argument, NULL, OPTION_JSON},
                                      {"socket", required_argument, NULL, OPTION_SOCKET}};
    int option;

    for (unsigned i = 0; options != NULL && options[i].name != NULL; i++) {
        assert(i + 3 < OPTIONS_MAX);
        all[i + 2] = options[i];
    }
    opterr = 0;
    do {
        option = getopt_long(argc, argv, ":s:", all, NULL);
        if (option == OPTION_JSON)
            ctl->json = true;
        if (option == OPTION_SOCKET || option == 's')
            ctl->socket = optarg;
    } while (option == OPTION_JSON || option == OPTION_SOCKET || option == 's');
    if (option == ':') {
        ctl_misused(verb, "%s needs a value", argv[optind - 1]);
        return '?';
    }
    if (option == '?')
        ctl_misused(verb, "unknown option %s", argv[optind - 1]);
    return option;
}

bool ctl_arguments(const struct ctl_verb *verb, int argc, int least, int most)
{
    int left = argc - optind;

    if (left < least)
        ctl_misused(verb, "an argument is missing");
    else if (left > most)
        ctl_misused(verb, "too many arguments");
    return left >= least && left <= most;
}

enum ctl_exit ctl_print_json(json_t *root)
{
    json_dumpf(root, stdout, JSON_INDENT(2));
    json_decref(root);
    putchar('\n');
    return CTL_DONE;
}
