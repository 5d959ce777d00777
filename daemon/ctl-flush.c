/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl flush and shutdown. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/size.h"
#include "daemon/ctl-client.h"
#include "daemon/progress.h"

#define POLL_NS        50000000
#define PATIENCE_POLLS 200 /* ten seconds, of tries to read what the flash fails to read */

struct flush {
    const char *volume; /* NULL: all */
    bool wait;
    char reason[512]; /* why they do not get to the backing store; "": they do */
    double patience;  /* seconds without progress, while there is a reason */
    /* Bytes that are dirty and, without hope, cannot be read from flash; or could not be read when
     * it was tried last. */
    uint64_t lost, unreadable;
};

static bool parse(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
                  struct flush *flush)
{
    static const struct option options[] = {{"wait", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'w')
            return false;
        flush->wait = true;
    }
    if (!ctl_arguments(verb, argc, 0, 1))
        return false;
    flush->volume = optind < argc ? argv[optind] : NULL;
    return true;
}

/* Asks for it, and how much is still dirty. */
static enum ctl_exit ask(struct ctl_client *client, struct flush *flush, uint64_t *dirty)
{
    json_t *request = json_pack("{s:s}", "verb", "flush"), *answer;
    const char *reason;
    enum ctl_exit failed;

    if (flush->volume != NULL)
        json_object_set_new(request, "volume", json_string(flush->volume));
    failed = ctl_ask(client, request, CTL_ANSWER_SECONDS, &answer);
    if (failed)
        return failed;
    *dirty = (uint64_t)json_integer_value(json_object_get(answer, "dirty_bytes"));
    flush->lost = (uint64_t)json_integer_value(json_object_get(answer, "lost_bytes"));
    flush->unreadable = (uint64_t)json_integer_value(json_object_get(answer, "unreadable_bytes"));
    flush->patience = json_number_value(json_object_get(answer, "patience_seconds"));
    reason = json_string_value(json_object_get(answer, "reason"));
    snprintf(flush->reason, sizeof(flush->reason), "%s", reason != NULL ? reason : "");
    json_decref(answer);
    return CTL_DONE;
}

/* Until nothing is dirty, what is written meanwhile included; or until it does not get on. */
static enum ctl_exit wait_clean(const struct ctl *ctl, struct ctl_client *client,
                                struct flush *flush, uint64_t *dirty)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    enum ctl_exit failed = CTL_DONE;
    uint64_t most = *dirty;
    unsigned stuck = 0;
    struct progress progress;

    progress_begin(&progress, "writing back", ctl->terminal);
    while (*dirty > flush->lost && !failed && stuck < PATIENCE_POLLS) {
        nanosleep(&pause, NULL);
        failed = ask(client, flush, dirty);
        if (*dirty > most)
            most = *dirty;
        if (progress_stalls(&progress, *dirty, flush->reason[0] != '\0', flush->patience))
            break;
        stuck = *dirty <= flush->lost + flush->unreadable ? stuck + 1 : 0;
        progress_bytes(&progress, most - *dirty, most);
    }
    progress_end(&progress);
    return failed;
}

/* Asks for it and, if so told, waits for its end; *asked and *dirty are what was and is dirty. */
static enum ctl_exit flush_do(const struct ctl *ctl, struct ctl_client *client, const char *what,
                              struct flush *flush, uint64_t *asked, uint64_t *dirty)
{
    enum ctl_exit failed = ask(client, flush, dirty);
    char size[SIZE_TEXT_BYTES];

    *asked = *dirty;
    if (failed || !flush->wait)
        return failed;
    failed = wait_clean(ctl, client, flush, dirty);
    if (failed)
        return failed;
    if (*dirty > flush->lost + flush->unreadable)
        return ctl_fail(what,
                        "%s are not written back: %s; they are safe on flash, and it goes on in "
                        "the background",
                        size_print_human(size, *dirty), flush->reason);
    if (*dirty > 0)
        flush->lost += flush->unreadable;
    if (flush->lost > 0)
        return ctl_fail(what,
                        "%s of dirty data cannot be read from flash; the rest is written back. The "
                        "log names the blocks; writing them again, or restoring them, ends this",
                        size_print_human(size, flush->lost));
    return CTL_DONE;
}

enum ctl_exit ctl_flush_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    struct flush flush = {0};
    struct ctl_client client;
    char size[SIZE_TEXT_BYTES];
    uint64_t dirty = 0, asked = 0;
    enum ctl_exit failed;

    if (!parse(ctl, verb, argc, argv, &flush))
        return CTL_USAGE;
    failed = ctl_connect(ctl, &client);
    if (failed)
        return failed;
    failed = flush_do(ctl, &client, "flush", &flush, &asked, &dirty);
    ctl_disconnect(&client);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(json_pack("{s:I, s:I}", "dirty_bytes_before", (json_int_t)asked,
                                        "dirty_bytes", (json_int_t)dirty));
    if (dirty == 0)
        printf("%s: nothing is dirty\n", flush.volume ? flush.volume : "all volumes");
    else
        printf("%s: %s are being written back\n", flush.volume ? flush.volume : "all volumes",
               size_print_human(size, dirty));
    return CTL_DONE;
}

enum ctl_exit ctl_shutdown_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {{"flush", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    struct flush wait = {.wait = true};
    struct ctl_client client;
    uint64_t asked, dirty;
    enum ctl_exit failed;
    json_t *answer;
    bool flush = false;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'f')
            return CTL_USAGE;
        flush = true;
    }
    if (!ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    failed = ctl_connect(ctl, &client);
    if (failed)
        return failed;
    /* What is not written back keeps it running; only what is written meanwhile is left to it then. */
    if (flush)
        failed = flush_do(ctl, &client, "shutdown", &wait, &asked, &dirty);
    if (failed) {
        ctl_disconnect(&client);
        return failed;
    }
    /* The answer comes when it has stopped. */
    failed = ctl_ask(&client, json_pack("{s:s, s:b}", "verb", "shutdown", "flush", (int)flush), 0,
                     &answer);
    ctl_disconnect(&client);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    json_decref(answer);
    puts("stopped");
    return CTL_DONE;
}
