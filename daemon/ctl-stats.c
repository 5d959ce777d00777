/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl stats: counters and latencies. */
#include <stdio.h>

#include "daemon/ctl-client.h"
#include "daemon/table.h"
#include "engine/counters.h"
#include "frontends/nbd/nbd-server.h"

/* In the unit that fits. */
static void latency_cell(struct table *table, const json_t *latency, const char *key)
{
    double seconds = json_number_value(json_object_get(latency, key));

    if (seconds < 1e-3)
        table_cell(table, "%.1f us", seconds * 1e6);
    else if (seconds < 1)
        table_cell(table, "%.1f ms", seconds * 1e3);
    else
        table_cell(table, "%.1f s", seconds);
}

static void print_latencies(const json_t *volume)
{
    const json_t *by_tier, *latency;
    const char *op, *tier;
    struct table table;
    unsigned count = 0;

    table_begin(&table, "llrrrrr");
    table_cell(&table, "REQUESTS");
    table_cell(&table, "FROM");
    table_cell(&table, "COUNT");
    table_cell(&table, "MEAN");
    table_cell(&table, "50 %%");
    table_cell(&table, "99 %%");
    table_cell(&table, "99.9 %%");
    json_object_foreach(json_object_get(volume, "latency"), op, by_tier)
    {
        json_object_foreach((json_t *)(uintptr_t)by_tier, tier, latency)
        {
            table_cell(&table, "%s", op);
            table_cell(&table, "%s", tier);
            table_cell(&table, "%lld",
                       (long long)json_integer_value(json_object_get(latency, "count")));
            latency_cell(&table, latency, "mean_seconds");
            latency_cell(&table, latency, "p50_seconds");
            latency_cell(&table, latency, "p99_seconds");
            latency_cell(&table, latency, "p999_seconds");
            count++;
        }
    }
    table_end(&table, "  ", stdout);
    if (count == 0)
        puts("  none yet");
}

static void print_counters(const json_t *volume)
{
    const json_t *counters = json_object_get(volume, "counters");
    struct table table;

    table_begin(&table, "rl");
#define X(name, text)                                                                            \
    table_cell(&table, "%lld", (long long)json_integer_value(json_object_get(counters, #name))); \
    table_cell(&table, "%s", text);
    COUNTERS(X)
#undef X
    table_end(&table, "  ", stdout);
}

static void print_volume(const json_t *volume)
{
    const json_t *ratio = json_object_get(json_object_get(volume, "reads"), "hit_ratio");

    printf("%s", json_string_value(json_object_get(volume, "name")));
    if (json_is_number(ratio))
        printf(": %.1f %% of the blocks read were cached", json_number_value(ratio) * 100);
    putchar('\n');
    print_latencies(volume);
    putchar('\n');
    print_counters(volume);
}

static void print_flash(const json_t *flash)
{
    const json_t *counters = json_object_get(flash, "counters");
    struct table table;

    table_begin(&table, "rl");
#define X(name, text)                                                                            \
    table_cell(&table, "%lld", (long long)json_integer_value(json_object_get(counters, #name))); \
    table_cell(&table, "%s", text);
    FLASH_COUNTERS(X)
#undef X
    puts("\nflash");
    table_end(&table, "  ", stdout);
}

static void print_nbd(const json_t *nbd)
{
    const json_t *counters = json_object_get(nbd, "counters"), *limit;
    struct table table;
    const char *name;

    table_begin(&table, "rl");
#define X(name, text)                                                                            \
    table_cell(&table, "%lld", (long long)json_integer_value(json_object_get(counters, #name))); \
    table_cell(&table, "%s", text);
    NBD_COUNTERS(X)
#undef X
    puts("\nNBD server");
    table_end(&table, "  ", stdout);
    puts("\nits limits");
    table_begin(&table, "rl");
    json_object_foreach(json_object_get(nbd, "limits"), name, limit)
    {
        if (json_is_null(limit))
            table_cell(&table, "%s", "none");
        else
            table_cell(&table, "%.15g", json_number_value(limit));
        table_cell(&table, "%s", name);
    }
    table_end(&table, "  ", stdout);
}

static bool parse(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
                  json_t *request)
{
    static const struct option options[] = {{"reset", no_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'r')
            return false;
        json_object_set_new(request, "reset", json_true());
    }
    if (!ctl_arguments(verb, argc, 0, 1))
        return false;
    if (optind < argc)
        json_object_set_new(request, "volume", json_string(argv[optind]));
    return true;
}

enum ctl_exit ctl_stats_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    json_t *request = json_pack("{s:s}", "verb", "stats"), *answer;
    const json_t *volume;
    enum ctl_exit failed;
    size_t i;

    if (!parse(ctl, verb, argc, argv, request)) {
        json_decref(request);
        return CTL_USAGE;
    }
    failed = ctl_ask_once(ctl, request, &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    json_array_foreach(json_object_get(answer, "volumes"), i, volume)
    {
        if (i > 0)
            putchar('\n');
        print_volume(volume);
    }
    if (json_object_get(answer, "flash") != NULL)
        print_flash(json_object_get(answer, "flash"));
    if (json_object_get(answer, "nbd") != NULL)
        print_nbd(json_object_get(answer, "nbd"));
    json_decref(answer);
    return CTL_DONE;
}
