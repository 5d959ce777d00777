/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl attach, detach and reload. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/ctl-client.h"
#include "daemon/progress.h"

#define POLL_NS 20000000

static uint64_t number_of(const json_t *change, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(change, key));
}

static bool is_over(const json_t *change)
{
    const char *state = json_string_value(json_object_get(change, "state"));

    return state == NULL || strcmp(state, "done") == 0 || strcmp(state, "failed") == 0;
}

static enum ctl_exit ask(struct ctl_client *client, json_t *request, json_t **change)
{
    json_t *answer;
    enum ctl_exit failed = ctl_ask(client, request, CTL_ANSWER_SECONDS, &answer);

    *change = NULL;
    if (failed)
        return failed;
    *change = json_incref(json_object_get(answer, "change"));
    json_decref(answer);
    return CTL_DONE;
}

/* Follows a change to its end: *change, the caller's. */
static enum ctl_exit run(const struct ctl *ctl, json_t *request, json_t **change)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    struct ctl_client client;
    struct progress progress;
    enum ctl_exit failed = ctl_connect(ctl, &client);

    *change = NULL;
    if (failed) {
        json_decref(request);
        return failed;
    }
    failed = ask(&client, request, change);
    progress_begin(&progress, "writing back", ctl->terminal);
    while (!failed && !is_over(*change)) {
        uint64_t begun = number_of(*change, "begun_bytes"), id = number_of(*change, "id");

        if (begun > 0)
            progress_bytes(&progress, begun - number_of(*change, "left_bytes"), begun);
        nanosleep(&pause, NULL);
        json_decref(*change);
        failed =
            ask(&client, json_pack("{s:s, s:I}", "verb", "change", "id", (json_int_t)id), change);
    }
    progress_end(&progress);
    ctl_disconnect(&client);
    return failed;
}

static enum ctl_exit finish(struct ctl *ctl, json_t *request, const char *what, const char *done)
{
    json_t *change;
    const char *error;
    enum ctl_exit result = run(ctl, request, &change);

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
