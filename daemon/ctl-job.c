/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl verbs for a range of a volume: prefetch and invalidate, which are jobs, pin and unpin. */
#include <stdio.h>
#include <string.h>

#include "common/size.h"
#include "daemon/ctl-client.h"

static bool is_running(const json_t *job)
{
    return strcmp(ctl_text(job, "state"), "running") == 0 ||
           strcmp(ctl_text(job, "state"), "waiting") == 0;
}

/* VOLUME [OFFSET LENGTH], behind the options. */
static bool take_range(const struct ctl_verb *verb, int argc, char **argv, json_t *request)
{
    static const char *const keys[] = {"offset", "length"};
    uint64_t bytes;

    if (!ctl_arguments(verb, argc, 1, 3))
        return false;
    if (argc - optind == 2) {
        ctl_misused(verb, "a range is an offset and a length");
        return false;
    }
    json_object_set_new(request, "volume", json_string(argv[optind]));
    for (int i = 0; i < 2 && argc - optind == 3; i++) {
        const char *text = argv[optind + 1 + i];

        if (size_parse(text, &bytes) != 0 || bytes > INT64_MAX) {
            ctl_misused(verb, "\"%s\" is no size", text);
            return false;
        }
        json_object_set_new(request, keys[i], json_integer((json_int_t)bytes));
    }
    return true;
}

static void show(struct progress *progress, const json_t *job)
{
    progress_bytes(progress, ctl_number(job, "done_bytes"), ctl_number(job, "length"));
}

static const struct ctl_work prefetch_work = {"job", "prefetching", is_running, show};
static const struct ctl_work invalidate_work = {"job", "invalidating", is_running, show};

/* ---- prefetch ------------------------------------------------------------------------------- */

static enum ctl_exit prefetch_tell(const json_t *job)
{
    char done[SIZE_TEXT_BYTES], rate[SIZE_TEXT_BYTES];
    double seconds = json_number_value(json_object_get(job, "seconds"));
    uint64_t bytes = ctl_number(job, "done_bytes");
    const char *volume = ctl_text(job, "volume");

    if (is_running(job))
        printf("%s: %s are being prefetched; job %llu, see blkcachectl status\n", volume,
               size_print_human(done, ctl_number(job, "length")),
               (unsigned long long)ctl_number(job, "id"));
    else
        printf("%s: %s prefetched in %.1f s, %s/s%s\n", volume, size_print_human(done, bytes),
               seconds, size_print_human(rate, (uint64_t)((double)bytes / (seconds + 1e-9))),
               strcmp(ctl_text(job, "state"), "cancelled") == 0 ? ", then cancelled" : "");
    if (!is_running(job) && ctl_number(job, "missed_bytes") > 0)
        printf("%s: %s of it found no place in the cache\n", volume,
               size_print_human(done, ctl_number(job, "missed_bytes")));
    return CTL_DONE;
}

static enum ctl_exit prefetch_cancel(const struct ctl *ctl, json_t *request)
{
    json_t *answer;
    enum ctl_exit failed;

    json_object_set_new(request, "cancel", json_true());
    failed = ctl_ask_once(ctl, request, &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    printf("%lld cancelled\n", (long long)json_integer_value(json_object_get(answer, "cancelled")));
    json_decref(answer);
    return CTL_DONE;
}

enum ctl_exit ctl_prefetch_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'}, {"cancel", no_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
    json_t *request = json_pack("{s:s}", "verb", "prefetch"), *job;
    bool wait = false, cancel = false;
    enum ctl_exit result;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        wait |= option == 'w';
        cancel |= option == 'c';
        if (option == '?') {
            json_decref(request);
            return CTL_USAGE;
        }
    }
    if (!take_range(verb, argc, argv, request)) {
        json_decref(request);
        return CTL_USAGE;
    }
    if (cancel)
        return prefetch_cancel(ctl, request);
    result = ctl_follow(ctl, request, &prefetch_work, wait, &job);
    if (!result && strcmp(ctl_text(job, "state"), "failed") == 0)
        result =
            ctl_fail("prefetch", "%s: %s at offset %llu", ctl_text(job, "volume"),
                     ctl_text(job, "error"), (unsigned long long)ctl_number(job, "error_offset"));
    else if (!result && ctl->json)
        return ctl_print_json(job);
    else if (!result)
        result = prefetch_tell(job);
    json_decref(job);
    return result;
}

/* ---- invalidate ----------------------------------------------------------------------------- */

static enum ctl_exit invalidate_failed(const json_t *job)
{
    char dirty[SIZE_TEXT_BYTES], done[SIZE_TEXT_BYTES];
    const char *volume = ctl_text(job, "volume");

    size_print_human(done, ctl_number(job, "done_bytes"));
    if (ctl_number(job, "dirty_bytes") == 0)
        return ctl_fail("invalidate", "%s: %s at offset %llu; %s before it are dropped", volume,
                        ctl_text(job, "error"), (unsigned long long)ctl_number(job, "error_offset"),
                        done);
    return ctl_fail(
        "invalidate",
        "%s: %s of it are dirty: they are newer than the backing store, %s are dropped; "
        "\"blkcachectl flush %s --wait\" writes them there, --discard-dirty gives them "
        "up",
        volume, size_print_human(dirty, ctl_number(job, "dirty_bytes")),
        ctl_number(job, "done_bytes") > 0 ? done : "no blocks", volume);
}

enum ctl_exit ctl_invalidate_run(struct ctl *ctl, const struct ctl_verb *verb, int argc,
                                 char **argv)
{
    static const struct option options[] = {{"discard-dirty", no_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    json_t *request = json_pack("{s:s}", "verb", "invalidate"), *job;
    char size[SIZE_TEXT_BYTES];
    enum ctl_exit result;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) == 'd')
        json_object_set_new(request, "discard_dirty", json_true());
    if (option == '?' || !take_range(verb, argc, argv, request)) {
        json_decref(request);
        return CTL_USAGE;
    }
    result = ctl_follow(ctl, request, &invalidate_work, true, &job);
    if (!result && strcmp(ctl_text(job, "state"), "done") != 0) {
        result = invalidate_failed(job);
    } else if (!result && ctl->json) {
        return ctl_print_json(job);
    } else if (!result) {
        printf("%s: %s are not cached any more", ctl_text(job, "volume"),
               size_print_human(size, ctl_number(job, "done_bytes")));
        if (ctl_number(job, "dirty_bytes") > 0)
            printf(", %s of dirty data discarded",
                   size_print_human(size, ctl_number(job, "dirty_bytes")));
        putchar('\n');
    }
    json_decref(job);
    return result;
}

/* ---- pin and unpin ------------------------------------------------------------------------- */

enum ctl_exit ctl_pin_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    json_t *request, *answer, *keys;
    enum ctl_exit failed;

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1)
        return CTL_USAGE;
    request = json_pack("{s:s}", "verb", verb->name);
    if (!take_range(verb, argc, argv, request)) {
        json_decref(request);
        return CTL_USAGE;
    }
    failed = ctl_ask_once(ctl, request, &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    keys = json_object_get(answer, "keys");
    printf("%s: pinned: %s\n", ctl_text(answer, "volume"),
           ctl_text(json_object_get(keys, "pin"), "value"));
    json_decref(answer);
    return CTL_DONE;
}
