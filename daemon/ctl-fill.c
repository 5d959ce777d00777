/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl pause-fill and resume-fill. */
#include <stdio.h>

#include "common/clock.h"
#include "common/duration.h"
#include "daemon/ctl-client.h"

static enum ctl_exit ask(struct ctl *ctl, json_t *request)
{
    enum ctl_exit failed;
    const json_t *until;
    const char *name;
    json_t *answer;

    failed = ctl_ask_once(ctl, request, &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    name = json_string_value(json_object_get(answer, "volume"));
    until = json_object_get(answer, "fill_paused_until");
    if (json_is_string(until))
        printf("%s: what is read does not enter the cache until %s\n", name,
               json_string_value(until));
    else
        printf("%s: what is read enters the cache%s\n", name,
               json_is_true(json_object_get(answer, "was_paused")) ? " again"
                                                                   : ", it was not paused");
    json_decref(answer);
    return CTL_DONE;
}

enum ctl_exit ctl_pause_fill_run(struct ctl *ctl, const struct ctl_verb *verb, int argc,
                                 char **argv)
{
    static const struct option options[] = {{"for", required_argument, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    uint64_t ns = 0;
    json_t *request;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'f')
            return CTL_USAGE;
        if (duration_parse(optarg, &ns) != 0 || ns < NS_PER_S)
            return ctl_misused(verb, "\"%s\" is no duration of a second or more, such as 90m",
                               optarg);
    }
    if (!ctl_arguments(verb, argc, 1, 1))
        return CTL_USAGE;
    request = json_pack("{s:s, s:s}", "verb", "pause-fill", "volume", argv[optind]);
    if (ns > 0)
        json_object_set_new(request, "seconds", json_integer((json_int_t)(ns / NS_PER_S)));
    return ask(ctl, request);
}

enum ctl_exit ctl_resume_fill_run(struct ctl *ctl, const struct ctl_verb *verb, int argc,
                                  char **argv)
{
    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 1, 1))
        return CTL_USAGE;
    return ask(ctl, json_pack("{s:s, s:s}", "verb", "resume-fill", "volume", argv[optind]));
}
