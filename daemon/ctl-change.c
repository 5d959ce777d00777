/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl attach, detach and reload. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl-client.h"

static bool is_running(const json_t *change)
{
    const char *state = json_string_value(json_object_get(change, "state"));

    return state != NULL && strcmp(state, "done") != 0 && strcmp(state, "failed") != 0;
}

static void show(struct progress *progress, const json_t *change)
{
    uint64_t begun = ctl_number(change, "begun_bytes");

    if (begun > 0)
        progress_bytes(progress, begun - ctl_number(change, "left_bytes"), begun);
}

static enum ctl_exit finish(struct ctl *ctl, json_t *request, const char *what, const char *done)
{
    static const struct ctl_work work = {"change", "writing back", is_running, show};
    json_t *change;
    const char *error;
    enum ctl_exit result = ctl_follow(ctl, request, &work, true, &change);

    if (result)
        return result;
    error = json_string_value(json_object_get(change, "error"));
    if (error != NULL)
        result = ctl_fail(what, "%s", error);
    else if (ctl->json)
        return ctl_print_json(change);
    else
        puts(done);
    json_decref(change);
    return result;
}

enum ctl_exit ctl_attach_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    char what[200], done[200];

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 1, 1))
        return CTL_USAGE;
    snprintf(what, sizeof(what), "attach %s", argv[optind]);
    snprintf(done, sizeof(done), "%s: in service", argv[optind]);
    return finish(ctl, json_pack("{s:s, s:s}", "verb", "attach", "volume", argv[optind]), what,
                  done);
}

enum ctl_exit ctl_detach_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {{"flush", no_argument, NULL, 'f'},
                                            {"force", no_argument, NULL, 'F'},
                                            {"cancel", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    json_t *request = json_pack("{s:s}", "verb", "detach"), *answer;
    char what[200], done[200];
    enum ctl_exit failed;
    bool cancel = false;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1 && option != '?') {
        cancel |= option == 'c';
        json_object_set_new(request,
                            option == 'f'   ? "flush"
                            : option == 'F' ? "force"
                                            : "cancel",
                            json_true());
    }
    if (option == '?' || !ctl_arguments(verb, argc, 1, 1)) {
        json_decref(request);
        return CTL_USAGE;
    }
    json_object_set_new(request, "volume", json_string(argv[optind]));
    snprintf(what, sizeof(what), "detach %s", argv[optind]);
    snprintf(done, sizeof(done), "%s: out of service, its backing store is complete", argv[optind]);
    if (!cancel)
        return finish(ctl, request, what, done);
    failed = ctl_ask_once(ctl, request, &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    json_decref(answer);
    puts("cancelled");
    return CTL_DONE;
}

enum ctl_exit ctl_reload_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    return finish(ctl, json_pack("{s:s}", "verb", "reload"), "reload",
                  "the configuration is in force");
}
