/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl top: what happens, once a second. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/output.h"
#include "common/size.h"
#include "daemon/ctl-client.h"
#include "daemon/table.h"

#define PERIOD_MS    1000
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_REST    "\033[K"
#define SCREEN_REST  "\033[J"
#define FRAME_BYTES  65536

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

/* What was asked at one time. */
struct sample {
    json_t *status, *stats; /* NULL: nothing was asked yet */
    uint64_t ns;
};

static void sample_free(struct sample *sample)
{
    json_decref(sample->status);
    json_decref(sample->stats);
    *sample = (struct sample){.status = NULL};
}

static enum ctl_exit sample_take(struct ctl_client *client, struct sample *sample)
{
    enum ctl_exit failed;

    failed =
        ctl_ask(client, json_pack("{s:s}", "verb", "status"), CTL_ANSWER_SECONDS, &sample->status);
    if (!failed)
        failed = ctl_ask(client, json_pack("{s:s}", "verb", "stats"), CTL_ANSWER_SECONDS,
                         &sample->stats);
    sample->ns = clock_ns();
    return failed;
}

/* ---- from two samples ----------------------------------------------------------------------- */

/* The volume's element of a list, by its name; NULL: it was not there. */
static const json_t *of_name(const json_t *root, const char *name)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(json_object_get(root, "volumes"), i, volume)
    {
        if (strcmp(json_string_value(json_object_get(volume, "name")), name) == 0)
            return volume;
    }
    return NULL;
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* How much more it is now; what was reset meanwhile counts from 0. */
static double more(const json_t *now, const json_t *before, const char *key)
{
    double old = number_of(before, key), new = number_of(now, key);

    return new >= old ? new - old : new;
}

/* "12 us" on average of what ended between the two, or "-". */
static void latency_cell(struct table *table, const json_t *now, const json_t *before,
                         const char *op, const char *tier)
{
    const json_t *new = json_object_get(json_object_get(json_object_get(now, "latency"), op), tier);
    const json_t *old =
        json_object_get(json_object_get(json_object_get(before, "latency"), op), tier);
    double count = number_of(new, "count") - number_of(old, "count");
    double sum = number_of(new, "count") * number_of(new, "mean_seconds") -
                 number_of(old, "count") * number_of(old, "mean_seconds");
    double us = count > 0 ? sum / count * 1e6 : 0;

    if (count <= 0)
        table_cell(table, "-");
    else if (us < 9999.5)
        table_cell(table, "%.0f us", us);
    else
        table_cell(table, "%.1f ms", us / 1e3);
}

static void rate_cell(struct table *table, double bytes, double seconds)
{
    char text[SIZE_TEXT_BYTES];

    table_cell(table, "%s/s", size_print_human(text, (uint64_t)(bytes / seconds)));
}

static void share_cell(struct table *table, double part, double whole)
{
    if (whole > 0)
        table_cell(table, "%.1f %%", 100 * part / whole);
    else
        table_cell(table, "-");
}

/* How long until all is clean at the pace of the last period. */
static void clean_cell(struct table *table, double dirty, double destaged, double seconds)
{
    double left = destaged > 0 ? dirty * seconds / destaged : 0;

    if (dirty <= 0)
        table_cell(table, "clean");
    else if (destaged <= 0)
        table_cell(table, "-");
    else if (left < 120)
        table_cell(table, "%.0f s", left);
    else
        table_cell(table, "%.0f min", left / 60);
}

static void volume_row(struct table *table, const struct sample *now, const struct sample *before,
                       const json_t *volume)
{
    const char *name = json_string_value(json_object_get(volume, "name"));
    const json_t *was = of_name(before->status, name), *stats = of_name(now->stats, name);
    const json_t *was_stats = of_name(before->stats, name);
    const json_t *reads = json_object_get(volume, "reads"),
                 *was_reads = json_object_get(was, "reads");
    double seconds = (double)(now->ns - before->ns) / (double)NS_PER_S;
    double dirty = number_of(volume, "dirty_bytes"), ram, flash, all;
    double destaged = 4096 * more(json_object_get(stats, "counters"),
                                  json_object_get(was_stats, "counters"), "destage_blocks");
    char size[SIZE_TEXT_BYTES];

    ram = more(reads, was_reads, "from_ram") + more(reads, was_reads, "from_zeros");
    flash = more(reads, was_reads, "from_flash");
    all = ram + flash + more(reads, was_reads, "from_backing");
    table_cell(table, "%s", name);
    table_cell(table, "%s", json_string_value(json_object_get(volume, "state")));
    rate_cell(table, more(volume, was, "read_bytes"), seconds);
    share_cell(table, ram, all);
    share_cell(table, flash, all);
    latency_cell(table, stats, was_stats, "read", "ram");
    latency_cell(table, stats, was_stats, "read", "flash");
    latency_cell(table, stats, was_stats, "read", "backing");
    rate_cell(table, more(volume, was, "written_bytes"), seconds);
    latency_cell(table, stats, was_stats, "write", "flash");
    latency_cell(table, stats, was_stats, "write", "backing");
    latency_cell(table, stats, was_stats, "flush", "flash");
    table_cell(table, "%s", size_print_human(size, (uint64_t)dirty));
    clean_cell(table, dirty, destaged, seconds);
}

static void frame_print(const struct sample *now, const struct sample *before, FILE *to)
{
    static const char *const titles[] = {"VOLUME",  "STATE", "READ",  "RAM",     "FLASH",
                                         "ram",     "flash", "store", "WRITE",   "flash",
                                         "through", "flush", "DIRTY", "CLEAN IN"};
    const json_t *flash = json_object_get(now->status, "flash");
    const json_t *ram = json_object_get(now->status, "ram"), *volume;
    char one[SIZE_TEXT_BYTES], other[SIZE_TEXT_BYTES], third[SIZE_TEXT_BYTES];
    struct table table;
    size_t i;

    fprintf(to, "blkcached %s, flash %s: %s of %s used, ",
            json_string_value(json_object_get(now->status, "state")),
            json_string_value(json_object_get(flash, "state")),
            size_print_human(one, (uint64_t)number_of(flash, "used_bytes")),
            size_print_human(other, (uint64_t)number_of(flash, "capacity_bytes")));
    fprintf(to, "%s dirty; ram: %s of %s; %.0f NBD connections\n\n",
            size_print_human(third, (uint64_t)number_of(flash, "dirty_bytes")),
            size_print_human(one, (uint64_t)number_of(ram, "used_bytes")),
            size_print_human(other, (uint64_t)number_of(ram, "bytes")),
            number_of(json_object_get(now->status, "nbd"), "connections"));
    table_begin(&table, "llrrrrrrrrrrrr");
    for (i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        table_cell(&table, "%s", titles[i]);
    json_array_foreach(json_object_get(now->status, "volumes"), i, volume)
        volume_row(&table, now, before, volume);
    table_end(&table, "", to);
}

static json_t *share_json(double part, double whole)
{
    return whole > 0 ? json_real(part / whole) : json_null();
}

/* One line for each period. */
static void frame_json(const struct sample *now, const struct sample *before)
{
    double seconds = (double)(now->ns - before->ns) / (double)NS_PER_S;
    json_t *array = json_array(), *root;
    const json_t *volume;
    size_t i;

    json_array_foreach(json_object_get(now->status, "volumes"), i, volume)
    {
        const char *name = json_string_value(json_object_get(volume, "name"));
        const json_t *was = of_name(before->status, name), *reads, *was_reads;
        double ram, flash, all;

        reads = json_object_get(volume, "reads");
        was_reads = json_object_get(was, "reads");
        ram = more(reads, was_reads, "from_ram") + more(reads, was_reads, "from_zeros");
        flash = more(reads, was_reads, "from_flash");
        all = ram + flash + more(reads, was_reads, "from_backing");
        json_array_append_new(
            array,
            json_pack("{s:s, s:f, s:f, s:o, s:o, s:f}", "name", name, "read_bytes_per_second",
                      more(volume, was, "read_bytes") / seconds, "written_bytes_per_second",
                      more(volume, was, "written_bytes") / seconds, "ram_hit_ratio",
                      share_json(ram, all), "flash_hit_ratio", share_json(flash, all),
                      "dirty_bytes", number_of(volume, "dirty_bytes")));
    }
    root = json_pack("{s:f, s:o}", "seconds", seconds, "volumes", array);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    output_flush();
    json_decref(root);
}

/* ---- the screen ----------------------------------------------------------------------------- */

/* Over the old frame, line by line, so that nothing flickers. */
static void frame_show(const char *frame, bool screen)
{
    if (!screen) {
        fputs(frame, stdout);
        putchar('\n');
    } else {
        fputs(SCREEN_HOME, stdout);
        for (; *frame != '\0'; frame++) {
            if (*frame == '\n')
                fputs(LINE_REST, stdout);
            putchar(*frame);
        }
        fputs("\nq: quit" LINE_REST SCREEN_REST, stdout);
    }
    output_flush();
}

/* Until the next period; true: a q was typed, or a signal came. */
static bool wait_or_quit(bool screen)
{
    struct pollfd keys = {.fd = screen ? STDIN_FILENO : -1, .events = POLLIN};
    char key;

    if (poll(&keys, 1, PERIOD_MS) <= 0)
        return ended;
    return read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q' || ended;
}

static bool screen_enter(struct termios *old)
{
    struct termios raw;

    if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, old) != 0)
        return false;
    raw = *old;
    raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs(SCREEN_ENTER, stdout);
    return true;
}

static enum ctl_exit watch(const struct ctl *ctl, struct ctl_client *client, uint64_t count,
                           bool screen)
{
    struct sample now = {.status = NULL}, before = {.status = NULL};
    char *frame = malloc(FRAME_BYTES);
    enum ctl_exit failed = frame == NULL ? ctl_fail("top", "out of memory") : CTL_DONE;

    if (!failed)
        failed = sample_take(client, &before);
    for (uint64_t i = 0; !failed && i < count && output_flush() && !wait_or_quit(screen); i++) {
        FILE *to = ctl->json ? NULL : fmemopen(frame, FRAME_BYTES, "w");

        failed = sample_take(client, &now);
        if (!failed && to != NULL)
            frame_print(&now, &before, to);
        if (to != NULL)
            fclose(to);
        if (!failed && ctl->json)
            frame_json(&now, &before);
        else if (!failed && to != NULL)
            frame_show(frame, screen);
        sample_free(&before);
        before = now;
        now = (struct sample){.status = NULL};
    }
    sample_free(&before);
    free(frame);
    return failed;
}

enum ctl_exit ctl_top_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    static const struct option options[] = {{"count", required_argument, NULL, 'n'},
                                            {NULL, 0, NULL, 0}};
    struct sigaction action = {.sa_handler = end};
    struct ctl_client client;
    struct termios old;
    uint64_t count = UINT64_MAX;
    enum ctl_exit failed;
    bool screen;
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        if (option != 'n')
            return CTL_USAGE;
        if (size_parse(optarg, &count) != 0 || count == 0)
            return ctl_misused(verb, "\"%s\" is no number of times", optarg);
    }
    if (!ctl_arguments(verb, argc, 0, 0))
        return CTL_USAGE;
    failed = ctl_connect(ctl, &client);
    if (failed)
        return failed;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    screen = !ctl->json && screen_enter(&old);
    failed = watch(ctl, &client, count, screen);
    if (screen) {
        fputs(SCREEN_LEAVE, stdout);
        output_flush();
        tcsetattr(STDIN_FILENO, TCSANOW, &old);
    }
    ctl_disconnect(&client);
    return failed;
}
