/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl set. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/size.h"
#include "daemon/ctl-client.h"
#include "daemon/progress.h"
#include "daemon/table.h"

#define POLL_NS 50000000

/* Until no transition is under way; *answer, which is replaced, says so.  Or until it does not get on. */
static enum ctl_exit wait_for(const struct ctl *ctl, struct ctl_client *client, const char *volume,
                              json_t **answer)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    enum ctl_exit failed = CTL_DONE;
    struct progress progress;
    const json_t *at;
    char what[160], why[512] = "";

    progress_begin(&progress, "writing back", ctl->terminal);
    while (!failed && json_is_object(at = json_object_get(*answer, "transition"))) {
        progress_bytes(&progress, ctl_number(at, "begun_bytes") - ctl_number(at, "left_bytes"),
                       ctl_number(at, "begun_bytes"));
        if (progress_stalls(&progress, ctl_number(at, "left_bytes"),
                            json_is_string(json_object_get(at, "reason")),
                            json_number_value(json_object_get(at, "patience_seconds")))) {
            snprintf(why, sizeof(why), "%s is not in force yet: %s", ctl_text(at, "to"),
                     ctl_text(at, "reason"));
            break;
        }
        nanosleep(&pause, NULL);
        json_decref(*answer);
        failed = ctl_ask(client, json_pack("{s:s, s:s}", "verb", "set", "volume", volume),
                         CTL_ANSWER_SECONDS, answer);
    }
    progress_end(&progress);
    if (failed || why[0] == '\0')
        return failed;
    json_decref(*answer);
    *answer = NULL;
    snprintf(what, sizeof(what), "set %s", volume);
    return ctl_fail(what, "%s; it goes on in the background, and \"blkcachectl status\" shows it",
                    why);
}

static void print_keys(json_t *keys)
{
    static const char *const titles[] = {"KEY", "VALUE", "CONFIGURED"};
    struct table table;
    const char *name;
    json_t *key;

    table_begin(&table, "lll");
    for (unsigned i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        table_cell(&table, "%s", titles[i]);
    json_object_foreach(keys, name, key)
    {
        table_cell(&table, "%s", name);
        table_cell(&table, "%s", json_string_value(json_object_get(key, "value")));
        table_cell(&table, "%s", json_string_value(json_object_get(key, "configured")));
    }
    table_end(&table, "", stdout);
}

static void print_answer(const char *volume, const char *key, const json_t *answer)
{
    const json_t *at = json_object_get(answer, "transition");
    json_t *keys = json_object_get(answer, "keys");
    const json_t *value = json_object_get(json_object_get(keys, key ? key : ""), "value");
    char size[SIZE_TEXT_BYTES];

    if (key == NULL)
        print_keys(keys);
    else if (strcmp(key, "mode") != 0 || !json_is_object(at))
        printf("%s: %s is %s\n", volume, key, json_string_value(value));
    if (!json_is_object(at))
        return;
    printf("%s: %s for what is written from now on; %s written in %s are still to be written back",
           volume, json_string_value(json_object_get(at, "to")),
           size_print_human(size, ctl_number(at, "left_bytes")),
           json_string_value(json_object_get(at, "from")));
    if (json_is_string(json_object_get(at, "reason")))
        printf("; %s", json_string_value(json_object_get(at, "reason")));
    putchar('\n');
}

enum ctl_exit ctl_set_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {{"wait", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    const char *volume, *key = NULL;
    struct ctl_client client;
    enum ctl_exit failed;
    json_t *request, *answer;
    bool wait = false;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'w')
            return CTL_USAGE;
        wait = true;
    }
    if (!ctl_arguments(verb, argc, 1, 3))
        return CTL_USAGE;
    volume = argv[optind];
    request = json_pack("{s:s, s:s}", "verb", "set", "volume", volume);
    if (argc - optind >= 2) {
        char *equals = strchr(argv[optind + 1], '=');
        const char *value = argv[optind + 2];

        if (argc - optind == 2) { /* KEY=VALUE */
            if (equals == NULL) {
                json_decref(request);
                return ctl_misused(verb, "a value is missing");
            }
            *equals = '\0';
            value = equals + 1;
        }
        key = argv[optind + 1];
        json_object_set_new(request, "key", json_string(key));
        json_object_set_new(request, "value", json_string(value));
    }
    failed = ctl_connect(ctl, &client);
    if (failed) {
        json_decref(request);
        return failed;
    }
    failed = ctl_ask(&client, request, CTL_ANSWER_SECONDS, &answer);
    if (!failed && wait)
        failed = wait_for(ctl, &client, volume, &answer);
    ctl_disconnect(&client);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    print_answer(volume, key, answer);
    json_decref(answer);
    return CTL_DONE;
}
