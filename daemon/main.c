/* SPDX-License-Identifier: Apache-2.0 */
/* blkcached: the daemon.  Options, start, waiting for signals, stop. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/log.h"
#include "common/output.h"
#include "daemon/background.h"
#include "daemon/change.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/events.h"
#include "daemon/limits.h"
#include "daemon/notify.h"
#include "daemon/preflight.h"
#include "daemon/service.h"
#include "daemon/single.h"
#include "io/core.h"
#include <config.h>

#define CONFIG_DEFAULT    "/etc/blkcached/blkcached.conf"
#define EXIT_USAGE        2
#define FLUSH_POLL_MS     100
#define FLUSH_PATIENCE_MS 10000 /* of tries to read what the flash fails to read */
#define WHY_BYTES         2048
#define LISTENING_MAX     64

struct options {
    const char *config_path;
    bool check, foreground, single;
    const char *log_level; /* NULL: as the configuration says */
    struct service_force force;
};

struct daemon {
    struct config *config;
    struct service service;
    struct control_socket socket;
    struct control *control;
    int signal_fd;
    int shutdown_fd; /* an eventfd: a client asked for a shutdown */
    struct single single;
    int listening[LISTENING_MAX]; /* sockets of the service manager */
    unsigned listening_count;
    atomic_bool shutdown_flush;
};

/* ---- options -------------------------------------------------------------------------------- */

static void print_help(void)
{
    puts(
        "Usage: blkcached [-c FILE] [--check] [--foreground] [--single] [--log-level LEVEL]\n"
        "                 [--without-flash] [--drain-flash] [--discard-dirty VOLUME]\n"
        "                 [--trust-flash VOLUME]\n"
        "Puts local flash and memory in front of slow block storage.\n"
        "\n"
        "  -c, --config FILE      configuration; default " CONFIG_DEFAULT "\n"
        "      --check            check the configuration and what it names, and exit\n"
        "      --foreground       stay in the foreground; without it the command returns when\n"
        "                         the daemon serves\n"
        "      --single           serve one NBD client on standard input and output, then stop;\n"
        "                         stays in the foreground and listens for no other\n"
        "      --log-level LEVEL  error, warning, notice, info or debug; the log goes to stderr\n"
        "      --without-flash    when the flash cannot be opened, read or written, serve all\n"
        "                         volumes without it, in pass-through\n"
        "      --drain-flash      of a flash that can only be read: bring what only it has to the\n"
        "                         backing stores, write nothing to it, and exit\n"
        "      --discard-dirty VOLUME\n"
        "                         start VOLUME from what its backing store has, giving up dirty\n"
        "                         data that are missing or stale; the log says which\n"
        "      --trust-flash VOLUME\n"
        "                         use what the flash has of VOLUME, although the state directory\n"
        "                         or the name of the backing store speaks against it\n"
        "      --version          print the version\n"
        "      --help             print this\n"
        "\n"
        "Listens on the sockets that a service manager passes (LISTEN_FDS), if there are any,\n"
        "instead of those of the configuration.\n"
        "Signals: SIGTERM and SIGINT stop it, dirty data stays on flash; SIGHUP reads the\n"
        "configuration again; SIGUSR1 logs its status.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
}

static int misused(const char *what, const char *why)
{
    fprintf(stderr, "blkcached: %s: %s; see blkcached --help\n", what, why);
    return EXIT_USAGE;
}

/* The option's value joins the names. */
static bool name_add(const char **names, unsigned *count)
{
    if (*count == SERVICE_FORCED_MAX)
        return false;
    names[(*count)++] = optarg;
    return true;
}

/* The exit code, unless what was to be printed was not. */
static int told(const char *what, int code)
{
    int error = output_end();

    if (error == 0 || code != EXIT_SUCCESS)
        return code;
    fprintf(stderr, "blkcached: %s: cannot write to standard output: %s\n", what, strerror(-error));
    return EXIT_FAILURE;
}

/* Returns -1 to go on, or an exit code. */
static int options_parse(int argc, char **argv, struct options *options)
{
    enum {
        OPTION_CHECK = 256,
        OPTION_FOREGROUND,
        OPTION_SINGLE,
        OPTION_LOG_LEVEL,
        OPTION_WITHOUT_FLASH,
        OPTION_DRAIN_FLASH,
        OPTION_DISCARD_DIRTY,
        OPTION_TRUST_FLASH,
        OPTION_VERSION,
        OPTION_HELP
    };
    static const struct option table[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, OPTION_CHECK},
        {"foreground", no_argument, NULL, OPTION_FOREGROUND},
        {"single", no_argument, NULL, OPTION_SINGLE},
        {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
        {"without-flash", no_argument, NULL, OPTION_WITHOUT_FLASH},
        {"drain-flash", no_argument, NULL, OPTION_DRAIN_FLASH},
        {"discard-dirty", required_argument, NULL, OPTION_DISCARD_DIRTY},
        {"trust-flash", required_argument, NULL, OPTION_TRUST_FLASH},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
    };
    enum log_level level;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":c:", table, NULL)) != -1) {
        switch (option) {
        case 'c': options->config_path = optarg; break;
        case OPTION_CHECK: options->check = true; break;
        case OPTION_FOREGROUND: options->foreground = true; break;
        case OPTION_SINGLE: options->single = options->foreground = true; break;
        case OPTION_LOG_LEVEL:
            if (log_level_parse(optarg, &level) != 0)
                return misused(optarg, "is no log level");
            options->log_level = optarg;
            break;
        case OPTION_WITHOUT_FLASH: options->force.without_flash = true; break;
        case OPTION_DRAIN_FLASH: options->force.drain_flash = true; break;
        case OPTION_DISCARD_DIRTY:
            if (!name_add(options->force.discard_dirty, &options->force.discard_dirty_count))
                return misused("--discard-dirty", "is given too often");
            break;
        case OPTION_TRUST_FLASH:
            if (!name_add(options->force.trust_flash, &options->force.trust_flash_count))
                return misused("--trust-flash", "is given too often");
            break;
        case OPTION_VERSION:
            puts("blkcached " PACKAGE_VERSION);
            return told("--version", EXIT_SUCCESS);
        case OPTION_HELP: print_help(); return told("--help", EXIT_SUCCESS);
        case ':': return misused(argv[optind - 1], "needs a value");
        default: return misused(argv[optind - 1], "unknown option");
        }
    }
    if (options->force.drain_flash && (options->single || options->force.without_flash))
        return misused("--drain-flash", "serves nobody, and needs the flash: give it without "
                                        "--single and --without-flash");
    return optind < argc ? misused(argv[optind], "is no option") : -1;
}

/* ---- signals and status ---------------------------------------------------------------------- */

/* Blocked before there are threads, so that all inherit it and only signal_fd gets them. */
static int signals_take(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void status_log(struct service *service)
{
    const struct volume *volume;
    struct shard_status status;

    cache_status(service->cache, &status);
    log_notice(
        "status",
        LOG_STR("state", service_state_name((enum service_state)atomic_load(&service->state))),
        LOG_STR("flash", status.flash_failed ? "failed" : "ok"),
        LOG_UINT("flash_bytes", status.slots_total << BLOCK_SHIFT),
        LOG_UINT("used_bytes", status.slots_used << BLOCK_SHIFT),
        LOG_UINT("dirty_bytes", status.slots_dirty << BLOCK_SHIFT),
        LOG_UINT("ram_bytes", status.frames_used << BLOCK_SHIFT));
    cache_hold(service->cache);
    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++) {
        struct counters counters;

        cache_counters(service->cache, volume->id, &counters);
        log_notice(
            "status", LOG_STR("volume", volume->name),
            LOG_UINT("dirty_bytes", cache_dirty_blocks(service->cache, volume->id) << BLOCK_SHIFT),
            LOG_UINT("ram_hit_blocks", counters.ram_hit_blocks),
            LOG_UINT("flash_hit_blocks", counters.flash_hit_blocks),
            LOG_UINT("miss_blocks", counters.miss_blocks),
            LOG_UINT("write_blocks", counters.write_blocks));
    }
    cache_release(service->cache);
}

/* True: the daemon shall stop. */
static bool signals_handle(struct daemon *daemon)
{
    struct signalfd_siginfo info;
    bool stop = false;

    while (read(daemon->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGHUP:
            changes_ask(daemon->service.changes, &(struct change_request){.kind = CHANGE_RELOAD});
            break;
        case SIGUSR1: status_log(&daemon->service); break;
        default:
            log_notice("stopping", LOG_STR("signal", strsignal((int)info.ssi_signo)));
            stop = true;
            break;
        }
    }
    return stop;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* On the control thread. */
static void shutdown_wanted(void *opaque, bool flush)
{
    struct daemon *daemon = opaque;
    uint64_t one = 1;

    atomic_store(&daemon->shutdown_flush, flush);
    if (write(daemon->shutdown_fd, &one, sizeof(one)) < 0)
        log_error("a shutdown cannot be passed on", LOG_ERRNO(errno));
}

/* What is written during a flush is flushed, too; a signal ends the waiting. `stuck` counts how often
 * nothing was left but what the flash fails to read. */
static bool flush_is_done(struct daemon *daemon, unsigned *stuck)
{
    struct cache *cache = daemon->service.cache;
    uint64_t dirty, lost, unreadable;

    cache_destage_all(cache, VOLUME_ALL);
    dirty = cache_dirty_blocks(cache, VOLUME_ALL);
    lost = cache_lost_blocks(cache, VOLUME_ALL);
    unreadable = cache_unreadable_blocks(cache, VOLUME_ALL);
    *stuck = dirty <= lost + unreadable ? *stuck + 1 : 0;
    return dirty == lost || *stuck >= FLUSH_PATIENCE_MS / FLUSH_POLL_MS;
}

/* Until it is time to stop. */
static void serve(struct daemon *daemon)
{
    struct pollfd polls[] = {
        {.fd = daemon->signal_fd, .events = POLLIN},
        {.fd = daemon->shutdown_fd, .events = POLLIN},
    };
    int watchdog_ms = notify_watchdog_ms();
    bool flushing = false;
    unsigned stuck = 0;
    uint64_t asked;

    for (;;) {
        /* Every core must have come round: the watchdog is for one that hangs. */
        if (watchdog_ms >= 0 && cores_visit(NULL, NULL) == 0)
            notify_send("WATCHDOG=1");
        if (poll(polls, 2, flushing ? FLUSH_POLL_MS : watchdog_ms) < 0 && errno != EINTR)
            return;
        if (polls[0].revents && signals_handle(daemon))
            return;
        if (polls[1].revents && read(daemon->shutdown_fd, &asked, sizeof(asked)) > 0) {
            if (!atomic_load(&daemon->shutdown_flush))
                return;
            flushing = true;
            atomic_store(&daemon->service.state, SERVICE_FLUSHING);
            log_notice("writing all dirty data back before the stop");
        }
        if (flushing && flush_is_done(daemon, &stuck))
            return;
    }
}

/* ---- sockets -------------------------------------------------------------------------------- */

/* Before the process forks: they are meant for its id. */
static int sockets_take(struct daemon *daemon)
{
    int count = sd_listen_fds(1);

    if (count < 0)
        return count;
    if (count > LISTENING_MAX)
        return -E2BIG;
    for (int i = 0; i < count; i++)
        daemon->listening[i] = SD_LISTEN_FDS_START + i;
    daemon->listening_count = (unsigned)count;
    return 0;
}

/* On a core. */
static void single_gone(void *opaque)
{
    shutdown_wanted(opaque, false);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int start(struct daemon *daemon, const struct options *options, char *why)
{
    struct control_config control = {
        .socket = &daemon->socket,
        .service = &daemon->service,
        .shutdown = shutdown_wanted,
        .opaque = daemon,
    };
    struct service_sockets sockets = {
        .listening = daemon->listening,
        .listening_count = daemon->listening_count,
        .single = options->single,
        .single_fd = daemon->single.fd,
        .single_gone = options->single ? single_gone : NULL,
        .opaque = daemon,
    };
    char ignored[WHY_BYTES];
    int error;

    /* First, because its lock keeps two daemons with one configuration apart. */
    error = control_socket_open(&daemon->socket, daemon->config->daemon.control, why, WHY_BYTES);
    if (error)
        return error;
    if (events_begin(daemon->config->daemon.state_dir, ignored, sizeof(ignored)) != 0)
        log_warning("events are not kept", LOG_STR("reason", ignored));
    error = service_start(&daemon->service, daemon->config, options->config_path, &sockets,
                          &options->force, why, WHY_BYTES);
    if (!error) {
        error = control_begin(&daemon->control, &control, why, WHY_BYTES);
        if (error)
            service_stop(&daemon->service, ignored, sizeof(ignored));
    }
    if (error)
        control_socket_close(&daemon->socket);
    return error;
}

static int stop(struct daemon *daemon, char *why)
{
    int error;

    notify_send("STOPPING=1");
    control_quiesce(daemon->control);
    error = service_stop(&daemon->service, why, WHY_BYTES);
    control_end(daemon->control, error, why);
    control_socket_close(&daemon->socket);
    return error;
}

static int run(struct daemon *daemon, const struct options *options, int background)
{
    char why[WHY_BYTES] = "";
    int error;

    daemon->signal_fd = signals_take();
    daemon->shutdown_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (daemon->signal_fd < 0 || daemon->shutdown_fd < 0) {
        log_error("cannot start", LOG_ERRNO(errno));
        return EXIT_FAILURE;
    }
    limits_raise();
    if (options->single && single_open(&daemon->single) != 0) {
        log_error("standard input and output cannot be used", LOG_ERRNO(errno));
        return EXIT_FAILURE;
    }
    if (config_has_ublk(daemon->config))
        limits_serve_kernel();
    if (start(daemon, options, why) != 0) {
        log_error("cannot start", LOG_STR("reason", why));
        events_end();
        return EXIT_FAILURE;
    }
    log_notice("blkcached serves", LOG_STR("version", PACKAGE_VERSION),
               LOG_STR("control", daemon->config->daemon.control),
               LOG_UINT("volumes", volume_count(daemon->service.cache)),
               LOG_UINT("cores", daemon->service.core_count));
    notify_send("READY=1");
    if (background >= 0)
        background_ready(background);
    serve(daemon);
    error = stop(daemon, why);
    single_end(&daemon->single);
    if (error)
        log_error("stopped, but not cleanly", LOG_STR("reason", why));
    else
        log_notice("stopped");
    events_end();
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int check(const struct config *config, const char *path)
{
    unsigned errors;

    printf("%s: is right, %u volume%s\n", path, config->volume_count,
           config->volume_count == 1 ? "" : "s");
    errors = preflight(config, stdout);
    if (errors > 0)
        printf("%u error%s\n", errors, errors == 1 ? "" : "s");
    return told("--check", errors > 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int drain(struct daemon *daemon, const struct options *options)
{
    char why[WHY_BYTES] = "";
    /* Its lock keeps a daemon with this configuration away. */
    int error =
        control_socket_open(&daemon->socket, daemon->config->daemon.control, why, sizeof(why));

    limits_raise();
    if (!error) {
        error = service_drain(daemon->config, &options->force, why, sizeof(why));
        control_socket_close(&daemon->socket);
    }
    if (error)
        log_error("the flash is not drained", LOG_STR("reason", why));
    else
        log_notice(
            "the flash is drained: nothing is needed of it any more; start with another one, "
            "or with --without-flash",
            LOG_STR("flash", daemon->config->cache.flash));
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Checks the configuration, or serves what it says; an exit code. */
static int obey(struct daemon *daemon, const struct options *options)
{
    int background = -1;

    if (options->check)
        return check(daemon->config, options->config_path);
    if (options->force.drain_flash)
        return drain(daemon, options);
    if (sockets_take(daemon) != 0) {
        log_error("the sockets of the service manager cannot be used");
        return EXIT_FAILURE;
    }
    if (options->single && daemon->listening_count > 0) {
        log_error("--single is not possible with sockets of a service manager (LISTEN_FDS)");
        return EXIT_USAGE;
    }
    if (!options->foreground) {
        background = background_enter();
        if (background < 0) {
            log_error("cannot go to the background", LOG_ERRNO(background));
            return EXIT_FAILURE;
        }
    }
    return run(daemon, options, background);
}

int main(int argc, char **argv)
{
    struct options options = {.config_path = CONFIG_DEFAULT};
    struct daemon daemon = {.signal_fd = -1, .shutdown_fd = -1};
    enum log_level level = LOG_LEVEL_INFO;
    int code;

    output_begin();
    code = options_parse(argc, argv, &options);
    if (code >= 0)
        return code;
    log_init();
    if (config_load(&daemon.config, options.config_path, stderr) != 0)
        return EXIT_FAILURE;
    level = (enum log_level)daemon.config->daemon.log_level;
    if (options.log_level != NULL)
        log_level_parse(options.log_level, &level);
    log_set_level(level);
    code = obey(&daemon, &options);
    config_free(daemon.config);
    return code;
}
