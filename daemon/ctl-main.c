/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl: the control tool. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/output.h"
#include "daemon/ctl.h"
#include "daemon/suggest.h"
#include <config.h>

static const struct ctl_verb verbs[] = {
    {"status", "", "the daemon, its flash and its volumes", false, ctl_status_run},
    {"volumes", "", "the volumes, one a line", false, ctl_volumes_run},
    {"stats", "[VOLUME] [--reset]", "counters and latencies", false, ctl_stats_run},
    {"set", "VOLUME [KEY VALUE] [--wait]", "change a policy, or show what may change", false,
     ctl_set_run},
    {"flush", "[VOLUME] [--wait]", "write all dirty data to the backing store", false,
     ctl_flush_run},
    {"attach", "VOLUME", "take a volume of the configuration into service", false, ctl_attach_run},
    {"detach", "VOLUME [--flush] [--force] [--cancel]", "take a volume out of service", false,
     ctl_detach_run},
    {"prefetch", "VOLUME [OFFSET LENGTH] [--wait] [--cancel]",
     "read into the cache, in the background", false, ctl_prefetch_run},
    {"invalidate", "VOLUME [OFFSET LENGTH] [--discard-dirty]",
     "drop from the cache: the backing store was changed by somebody else", false,
     ctl_invalidate_run},
    {"pin", "VOLUME [OFFSET LENGTH]", "keep on flash what is there or gets there by being read",
     false, ctl_pin_run},
    {"unpin", "VOLUME [OFFSET LENGTH]", "let it go when something else is used more", false,
     ctl_pin_run},
    {"pause-fill", "VOLUME [--for DURATION]",
     "let reads leave the cache as it is, for an hour or DURATION", false, ctl_pause_fill_run},
    {"resume-fill", "VOLUME", "let reads fill the cache again", false, ctl_resume_fill_run},
    {"mrc", "VOLUME", "miss ratio against cache size", false, ctl_mrc_run},
    {"events", "[--follow]", "what happened, also before the last start", false, ctl_events_run},
    {"top", "[--count N]", "what happens, once a second", false, ctl_top_run},
    {"reload", "", "read the configuration again", false, ctl_reload_run},
    {"shutdown", "[--flush]", "stop the daemon; dirty data stays on flash", false,
     ctl_shutdown_run},
    {"format", "[--force] [--quick] [--segment-size SIZE] [--shards N] [--size SIZE] PATH",
     "prepare a flash device or file", true, ctl_format_run},
    {"check", "PATH", "verify a flash device or file", true, ctl_check_run},
    {"dump", "[--segment N] PATH", "print what is on a flash device or file", true, ctl_dump_run},
};

#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

static void help_group(bool offline)
{
    for (unsigned i = 0; i < VERB_COUNT; i++) {
        if (verbs[i].offline != offline)
            continue;
        printf("  %s%s%s\n        %s\n", verbs[i].name, *verbs[i].usage ? " " : "", verbs[i].usage,
               verbs[i].text);
    }
}

static enum ctl_exit help(void)
{
    puts("Usage: blkcachectl [-s SOCKET] [--json] VERB [ARGUMENT...]\n"
         "Controls blkcached, the flash cache for block devices.\n"
         "\n"
         "  -s, --socket SOCKET   where the daemon listens; default " CTL_SOCKET_DEFAULT "\n"
         "      --json            print JSON, for programs\n"
         "      --version         print the version\n"
         "      --help            print this; behind a verb, how it is used\n"
         "\n"
         "Verbs for a running daemon:");
    help_group(false);
    puts("\nVerbs for a flash device or file that no daemon uses:");
    help_group(true);
    puts("\n  format: --force overwrites other data; --size creates a file of this size;\n"
         "          --quick leaves a file's blocks unwritten, which makes first writes slower\n"
         "\nSizes take K, M, G, T (1024); durations s, m, h, d.\n"
         "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 daemon not reachable.");
    return CTL_DONE;
}

static enum ctl_exit misused(const char *what, const char *why)
{
    fprintf(stderr, "blkcachectl: %s: %s; see blkcachectl --help\n", what, why);
    return CTL_USAGE;
}

static enum ctl_exit unknown_verb(const char *typed)
{
    const char *names[VERB_COUNT], *meant;
    char why[80] = "unknown verb";

    for (unsigned i = 0; i < VERB_COUNT; i++)
        names[i] = verbs[i].name;
    meant = suggest(typed, names, VERB_COUNT);
    if (meant != NULL)
        snprintf(why, sizeof(why), "unknown verb, did you mean \"%s\"?", meant);
    return misused(typed, why);
}

/* What was done without telling it is not done. */
static enum ctl_exit told(const char *what, enum ctl_exit code)
{
    int error = output_end();

    if (error == 0 || code != CTL_DONE)
        return code;
    fprintf(stderr, "blkcachectl: %s: cannot write to standard output: %s\n", what,
            strerror(-error));
    return CTL_FAILED;
}

static enum ctl_exit verb_help(const struct ctl_verb *verb)
{
    printf("Usage: blkcachectl %s%s%s\n%s; more in blkcachectl(8)\n", verb->name,
           *verb->usage ? " " : "", verb->usage, verb->text);
    return CTL_DONE;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

static enum ctl_exit verb_run(struct ctl *ctl, int argc, char **argv)
{
    for (unsigned i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i].name, argv[0]) != 0)
            continue;
        if (asks_for_help(argc, argv))
            return verb_help(&verbs[i]);
        optind = 0;
        return verbs[i].run(ctl, &verbs[i], argc, argv);
    }
    return unknown_verb(argv[0]);
}

int main(int argc, char **argv)
{
    enum {
        OPTION_JSON = 256,
        OPTION_VERSION,
        OPTION_HELP
    };
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, OPTION_JSON},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
    };
    struct ctl ctl = {.socket = CTL_SOCKET_DEFAULT, .terminal = isatty(STDERR_FILENO)};
    const char *what;
    int option;

    output_begin();
    opterr = 0;
    while ((option = getopt_long(argc, argv, "+:s:", options, NULL)) != -1) {
        switch (option) {
        case 's': ctl.socket = optarg; break;
        case OPTION_JSON: ctl.json = true; break;
        case OPTION_VERSION:
            puts("blkcachectl " PACKAGE_VERSION);
            return told("--version", CTL_DONE);
        case OPTION_HELP: return told("--help", help());
        case ':': return misused(argv[optind - 1], "needs a value");
        default: return misused(argv[optind - 1], "unknown option");
        }
    }
    if (optind == argc)
        return misused("usage", "no verb given");
    what = argv[optind];
    return told(what, verb_run(&ctl, argc - optind, argv + optind));
}
