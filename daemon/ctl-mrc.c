/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl mrc. */
#include <stdio.h>

#include "common/size.h"
#include "daemon/ctl-client.h"
#include "daemon/table.h"

#define BAR_WIDTH   50
#define READS_LEAST 10000 /* fewer say little */

static void print_bar(struct table *table, double ratio)
{
    char bar[BAR_WIDTH + 1];
    int length = (int)(ratio * BAR_WIDTH + .5);

    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < length ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    table_cell(table, "%s", bar);
}

static void print(const json_t *answer)
{
    char size[SIZE_TEXT_BYTES];
    struct table table;
    size_t index;
    json_t *point;

    printf("%s: misses that an LRU cache of its own of this size would have had, of %lld blocks "
           "read\n",
           json_string_value(json_object_get(answer, "volume")),
           (long long)json_integer_value(json_object_get(answer, "reads")));
    table_begin(&table, "rrrl");
    table_cell(&table, "FLASH");
    table_cell(&table, "SIZE");
    table_cell(&table, "MISSES");
    table_cell(&table, "%s", "");
    json_array_foreach(json_object_get(answer, "curve"), index, point)
    {
        double ratio = json_number_value(json_object_get(point, "miss_ratio"));

        table_cell(&table, "x %g", json_number_value(json_object_get(point, "times")));
        table_cell(
            &table, "%s",
            size_print_human(size, (uint64_t)json_integer_value(json_object_get(point, "bytes"))));
        table_cell(&table, "%.1f %%", ratio * 100);
        print_bar(&table, ratio);
    }
    table_end(&table, "  ", stdout);
    if (json_integer_value(json_object_get(answer, "reads")) < READS_LEAST)
        puts("It was read little so far: ask again later.");
}

enum ctl_exit ctl_mrc_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    enum ctl_exit failed;
    json_t *answer;

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 1, 1))
        return CTL_USAGE;
    failed =
        ctl_ask_once(ctl, json_pack("{s:s, s:s}", "verb", "mrc", "volume", argv[optind]), &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    print(answer);
    json_decref(answer);
    return CTL_DONE;
}
