/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of blkcachectl share. */
#ifndef DAEMON_CTL_H
#define DAEMON_CTL_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CTL_SOCKET_DEFAULT "/run/blkcached/control.sock"

enum ctl_exit {
    CTL_DONE,
    CTL_FAILED,
    CTL_USAGE,
    CTL_UNREACHABLE, /* no daemon answers at the socket */
};

struct ctl {
    const char *socket;
    bool json;     /* print what programs read, and nothing else */
    bool terminal; /* a person watches stderr: show progress */
};

struct ctl_verb {
    const char *name;
    const char *usage; /* its arguments */
    const char *text;  /* one line */
    bool offline;      /* needs no daemon */
    /* argv[0] is the verb. */
    enum ctl_exit (*run)(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv);
};

enum ctl_exit ctl_status_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_volumes_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_stats_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_flush_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_attach_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_detach_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_reload_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_set_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_top_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_mrc_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_events_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_prefetch_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_invalidate_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_pin_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_pause_fill_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_resume_fill_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_shutdown_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_format_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_check_run(struct ctl *, const struct ctl_verb *, int, char **);
enum ctl_exit ctl_dump_run(struct ctl *, const struct ctl_verb *, int, char **);

/* "blkcachectl: WHAT: WHY" on stderr; returns CTL_FAILED. */
enum ctl_exit ctl_fail(const char *what, const char *why, ...)
    __attribute__((format(printf, 2, 3)));

/* The same about the command line, with the verb's usage; returns CTL_USAGE. */
enum ctl_exit ctl_misused(const struct ctl_verb *verb, const char *why, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The verb's next option, like getopt_long with `options`, and --json and --socket, which every verb
 * takes; -1 when there is none, and '?' after a message about a wrong one.  Starts anew when optind is 0.
 */
int ctl_option(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
               const struct option *options);

/* Checks that `least` to `most` arguments are left behind the options. */
bool ctl_arguments(const struct ctl_verb *verb, int argc, int least, int most);

/* Prints `root` and gives it up; what cannot be written is told at the end, as for all output. */
enum ctl_exit ctl_print_json(json_t *root);

#endif
