/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl events. */
#include <stdio.h>
#include <time.h>

#include "common/output.h"
#include "daemon/ctl-client.h"

#define SHOWN_MAX   1000
#define SHOWN_FIRST 50 /* before it follows */
#define POLL_NS     500000000

static void print(const struct ctl *ctl, json_t *answer)
{
    size_t index;
    json_t *event;

    json_array_foreach(json_object_get(answer, "events"), index, event)
    {
        if (ctl->json) { /* one a line, so that a program can follow, too */
            json_dumpf(event, stdout, JSON_COMPACT);
            putchar('\n');
            continue;
        }
        printf("%s %-7s %s\n", json_string_value(json_object_get(event, "time")),
               json_string_value(json_object_get(event, "level")),
               json_string_value(json_object_get(event, "text")));
    }
    output_flush();
}

/* Those after number *after, which becomes that of the newest. */
static enum ctl_exit ask(struct ctl *ctl, struct ctl_client *client, json_int_t *after, int most)
{
    json_t *answer;
    enum ctl_exit failed = ctl_ask(
        client, json_pack("{s:s, s:I, s:i}", "verb", "events", "after", *after, "most", most),
        CTL_ANSWER_SECONDS, &answer);

    if (failed)
        return failed;
    *after = json_integer_value(json_object_get(answer, "last"));
    print(ctl, answer);
    json_decref(answer);
    return CTL_DONE;
}

enum ctl_exit ctl_events_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {{"follow", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    const struct timespec pause = {.tv_nsec = POLL_NS};
    struct ctl_client client;
    json_int_t after = 0;
    enum ctl_exit failed;
    bool follow = false;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'f')
            return CTL_USAGE;
        follow = true;
    }
    if (!ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    failed = ctl_connect(ctl, &client);
    if (failed)
        return failed;
    failed = ask(ctl, &client, &after, follow ? SHOWN_FIRST : SHOWN_MAX);
    while (!failed && follow && output_flush()) {
        nanosleep(&pause, NULL);
        failed = ask(ctl, &client, &after, SHOWN_MAX);
    }
    ctl_disconnect(&client);
    return failed;
}
