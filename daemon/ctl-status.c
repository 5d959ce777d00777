/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl status and volumes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"
#include "daemon/ctl-client.h"
#include "daemon/table.h"

/* ---- values of the answer -------------------------------------------------------------------- */

static double real_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static unsigned percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (unsigned)(part * 100 / whole) : 0;
}

static const char *size_of(char text[SIZE_TEXT_BYTES], const json_t *object, const char *key)
{
    return size_print_human(text, ctl_number(object, key));
}

/* "3 d 4 h", in two units at most. */
static void print_duration(double seconds)
{
    unsigned long all = (unsigned long)seconds;

    if (all >= 86400)
        printf("%lu d %lu h", all / 86400, all % 86400 / 3600);
    else if (all >= 3600)
        printf("%lu h %lu min", all / 3600, all % 3600 / 60);
    else if (all >= 60)
        printf("%lu min %lu s", all / 60, all % 60);
    else
        printf("%lu s", all);
}

/* ---- volumes -------------------------------------------------------------------------------- */

static void volume_rows(struct table *table, const json_t *volumes)
{
    char size[SIZE_TEXT_BYTES], dirty[SIZE_TEXT_BYTES], in[SIZE_TEXT_BYTES], out[SIZE_TEXT_BYTES];
    const json_t *volume;
    size_t i;

    json_array_foreach(volumes, i, volume)
    {
        const json_t *ratio = json_object_get(json_object_get(volume, "reads"), "hit_ratio");

        table_cell(table, "%s", ctl_text(volume, "name"));
        table_cell(table, "%s", size_of(size, volume, "bytes"));
        table_cell(table, "%s%s", ctl_text(volume, "mode"),
                   is_true(volume, "read_only") ? ", read-only" : "");
        table_cell(table, "%s", ctl_text(volume, "state"));
        table_cell(table, "%s", size_of(dirty, volume, "dirty_bytes"));
        if (json_is_number(ratio))
            table_cell(table, "%.1f %%", json_number_value(ratio) * 100);
        else
            table_cell(table, "-");
        table_cell(table, "%s", size_of(in, volume, "read_bytes"));
        table_cell(table, "%s", size_of(out, volume, "written_bytes"));
        table_cell(table, "%s (%s)", ctl_text(volume, "backing"),
                   ctl_text(volume, "backing_state"));
    }
}

/* What would be left if the flash were lost now. */
static void print_ordered(const json_t *volumes, const char *indent)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(volumes, i, volume)
    {
        const json_t *age = json_object_get(volume, "backing_age_seconds");

        if (age == NULL)
            continue;
        if (is_true(volume, "backing_consistent"))
            printf("%s%s: the backing store alone is consistent, %.1f s old\n", indent,
                   ctl_text(volume, "name"), json_number_value(age));
        else
            printf("%s%s: the backing store alone is not consistent, until what the last stop left "
                   "dirty is destaged\n",
                   indent, ctl_text(volume, "name"));
    }
}

/* What is not as configured, for a time. */
static void print_paused(const json_t *volumes, const char *indent)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(volumes, i, volume)
    {
        if (ctl_number(volume, "fill_paused_seconds") == 0)
            continue;
        printf("%s%s: fill paused until %s, ", indent, ctl_text(volume, "name"),
               ctl_text(volume, "fill_paused_until"));
        print_duration(real_of(volume, "fill_paused_seconds"));
        puts(" left");
    }
}

static void print_pins(const json_t *volumes, const char *indent)
{
    char all[SIZE_TEXT_BYTES], on_flash[SIZE_TEXT_BYTES];
    const json_t *volume;
    size_t i;

    json_array_foreach(volumes, i, volume)
    {
        if (ctl_number(volume, "pinned_bytes") > 0)
            printf("%s%s: pinned %s, %s of %s on flash\n", indent, ctl_text(volume, "name"),
                   ctl_text(volume, "pin"), size_of(on_flash, volume, "pinned_flash_bytes"),
                   size_of(all, volume, "pinned_bytes"));
    }
}

/* What is on its way to the mode that was asked for. */
static void print_transitions(const json_t *volumes, const char *indent)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(volumes, i, volume)
    {
        const json_t *at = json_object_get(volume, "transition"), *left;
        char size[SIZE_TEXT_BYTES];

        if (!json_is_object(at))
            continue;
        printf("%s%s: on its way to %s, %s left to write back", indent, ctl_text(volume, "name"),
               ctl_text(at, "to"), size_of(size, at, "left_bytes"));
        left = json_object_get(at, "seconds_left");
        if (json_is_string(json_object_get(at, "reason"))) {
            printf("; %s", ctl_text(at, "reason"));
        } else if (json_is_number(left)) {
            printf(", ");
            print_duration(json_number_value(left));
        }
        putchar('\n');
    }
}

static void print_volumes(const json_t *volumes, const char *indent)
{
    static const char *const titles[] = {"VOLUME", "SIZE", "MODE",    "STATE",  "DIRTY",
                                         "HITS",   "READ", "WRITTEN", "BACKING"};
    struct table table;

    if (json_array_size(volumes) == 0) {
        printf("%sno volumes\n", indent);
        return;
    }
    table_begin(&table, "lrllrrrrl");
    for (unsigned i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        table_cell(&table, "%s", titles[i]);
    volume_rows(&table, volumes);
    table_end(&table, indent, stdout);
    print_paused(volumes, indent);
    print_pins(volumes, indent);
    print_transitions(volumes, indent);
    print_ordered(volumes, indent);
}

/* ---- status --------------------------------------------------------------------------------- */

static void print_daemon(const json_t *status)
{
    const json_t *recovery = json_object_get(status, "recovery");

    printf("blkcached %s, %s, pid %llu, up ", ctl_text(status, "version"),
           ctl_text(status, "state"), (unsigned long long)ctl_number(status, "pid"));
    print_duration(real_of(status, "uptime_seconds"));
    printf(", %zu core%s\n", json_array_size(json_object_get(status, "cores")),
           json_array_size(json_object_get(status, "cores")) == 1 ? "" : "s");
    printf("  recovery  %.3f s for %llu blocks, after %s\n", real_of(recovery, "seconds"),
           (unsigned long long)ctl_number(recovery, "blocks"),
           is_true(recovery, "stopped_cleanly") ? "a clean stop" : "a crash");
}

static void print_flash(const json_t *status)
{
    const json_t *flash = json_object_get(status, "flash");
    const json_t *segments = json_object_get(flash, "segments");
    const json_t *ram = json_object_get(status, "ram");
    const json_t *pins = json_object_get(status, "pins");
    uint64_t capacity = ctl_number(flash, "capacity_bytes");
    char one[SIZE_TEXT_BYTES], other[SIZE_TEXT_BYTES], most[SIZE_TEXT_BYTES];

    printf("  flash     %s, %s, %s", ctl_text(flash, "path"), size_of(one, flash, "bytes"),
           ctl_text(flash, "state"));
    if (ctl_number(segments, "retired") > 0)
        printf(", %llu of %llu segments given up after write errors",
               (unsigned long long)ctl_number(segments, "retired"),
               (unsigned long long)ctl_number(segments, "total"));
    putchar('\n');
    if (*ctl_text(flash, "advice") != '\0' && *ctl_text(flash, "advice") != '?')
        printf("            %s\n", ctl_text(flash, "advice"));
    printf("            %s used (%u %%), %s dirty (%u %%)\n", size_of(one, flash, "used_bytes"),
           percent(ctl_number(flash, "used_bytes"), capacity), size_of(other, flash, "dirty_bytes"),
           percent(ctl_number(flash, "dirty_bytes"), capacity));
    if (ctl_number(pins, "bytes") > 0)
        printf("            %s of %s pinned are there, %s may be%s%s\n",
               size_of(one, pins, "flash_bytes"), size_of(other, pins, "bytes"),
               size_of(most, pins, "max_bytes"), *ctl_text(pins, "advice") ? ";\n            " : "",
               ctl_text(pins, "advice"));
    printf("  ram       %s of %s used", size_of(one, ram, "used_bytes"),
           size_of(other, ram, "bytes"));
    printf(", %s of metadata (%.1f bytes per block of flash)\n",
           size_of(one, json_object_get(status, "metadata"), "bytes"),
           real_of(json_object_get(status, "metadata"), "bytes_per_block"));
}

static void print_nbd(const json_t *status)
{
    const json_t *nbd = json_object_get(status, "nbd");
    const json_t *listen = json_object_get(nbd, "listen"), *address;
    size_t i;

    printf("  nbd       ");
    json_array_foreach(listen, i, address)
        printf("%s%s", i ? ", " : "", json_string_value(address));
    if (json_array_size(listen) == 0)
        printf("off");
    printf(", %llu connection%s\n", (unsigned long long)ctl_number(nbd, "connections"),
           ctl_number(nbd, "connections") == 1 ? "" : "s");
}

static void print_ublk(const json_t *status)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(json_object_get(status, "volumes"), i, volume)
    {
        const json_t *ublk = json_object_get(volume, "ublk");

        if (json_is_object(ublk))
            printf("  ublk      %s, %s, volume %s%s\n", ctl_text(ublk, "device"),
                   ctl_text(ublk, "state"), ctl_text(volume, "name"),
                   is_true(ublk, "adopted") ? ", taken over from an earlier daemon" : "");
    }
}

static void print_jobs(const json_t *status)
{
    char done[SIZE_TEXT_BYTES], all[SIZE_TEXT_BYTES];
    const json_t *job;
    size_t i;

    json_array_foreach(json_object_get(status, "jobs"), i, job)
    {
        const char *state = ctl_text(job, "state");
        bool waits = strcmp(state, "waiting") == 0;

        if (waits || strcmp(state, "running") == 0)
            printf("  job       %s of %s: %s of %s%s\n", ctl_text(job, "verb"),
                   ctl_text(job, "volume"), size_of(done, job, "done_bytes"),
                   size_of(all, job, "length"), waits ? ", lets clients go first" : "");
    }
}

/* Only what happened. */
static void print_notices(const json_t *status)
{
    const json_t *count;
    const char *name;

    json_object_foreach(json_object_get(status, "notices"), name, count)
    {
        if (json_integer_value(count) > 0)
            printf("  %s: %lld times\n", name, (long long)json_integer_value(count));
    }
}

enum ctl_exit ctl_status_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    enum ctl_exit failed;
    json_t *status;

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    failed = ctl_ask_once(ctl, json_pack("{s:s}", "verb", "status"), &status);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(status);
    print_daemon(status);
    print_flash(status);
    print_nbd(status);
    print_ublk(status);
    print_jobs(status);
    print_notices(status);
    putchar('\n');
    print_volumes(json_object_get(status, "volumes"), "");
    json_decref(status);
    return CTL_DONE;
}

enum ctl_exit ctl_volumes_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    enum ctl_exit failed;
    json_t *answer;

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    failed = ctl_ask_once(ctl, json_pack("{s:s}", "verb", "volumes"), &answer);
    if (failed)
        return failed;
    if (ctl->json)
        return ctl_print_json(answer);
    print_volumes(json_object_get(answer, "volumes"), "");
    json_decref(answer);
    return CTL_DONE;
}
