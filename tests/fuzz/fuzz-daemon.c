/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz-daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "daemon/target.h"
#include "engine/superblock.h"

#define FLASH_BYTES (UINT64_C(40) << 20)
#define WHY_BYTES   512

static char directory[64];
static struct fuzz_daemon *running;
static struct config *config;
static pid_t owner;

const char *fuzz_daemon_directory(void)
{
    return directory;
}

/* ---- files ---------------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

uint64_t fuzz_steady_word(uint64_t word)
{
    return (word + 1) * 0x9e3779b97f4a7c15u;
}

static void backing_make(const char *name)
{
    int fd = open(path_of(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint64_t words[BLOCK_BYTES / sizeof(uint64_t)];

    FUZZ_CHECK(fd >= 0, "%s cannot be created", path_of(name));
    for (uint64_t at = 0; at < FUZZ_VOLUME_BYTES; at += sizeof(words)) {
        for (unsigned i = 0; i < BLOCK_BYTES / sizeof(uint64_t); i++)
            words[i] = fuzz_steady_word(at / sizeof(uint64_t) + i);
        FUZZ_CHECK(write(fd, words, sizeof(words)) == sizeof(words), "%s cannot be written", name);
    }
    close(fd);
}

static void flash_make(void)
{
    struct superblock_geometry geometry = {.device_bytes = FLASH_BYTES, .cores = 1};
    struct superblock *sb = malloc(sizeof(*sb));
    char why[WHY_BYTES] = "";
    struct target target;
    struct progress progress;
    int error;

    FUZZ_CHECK(sb != NULL, "no memory");
    progress_begin(&progress, "writing", false);
    error = target_open(&target, path_of("flash"), FLASH_BYTES, why);
    if (!error)
        error = target_allocate(&target, FLASH_BYTES, true, &progress, why);
    if (!error)
        error =
            superblock_init(sb, &geometry, (const uint8_t *)"0123456789abcde", why, sizeof(why));
    if (!error)
        error = target_write_superblocks(&target, sb, why);
    FUZZ_CHECK(!error, "the flash cannot be formatted: %s", why);
    target_close(&target, false);
    free(sb);
}

static void config_make(const struct fuzz_daemon *daemon)
{
    FILE *file = fopen(path_of("conf"), "we");

    FUZZ_CHECK(file != NULL, "the configuration cannot be written");
    fprintf(file,
            "daemon = { control = \"%s\"; state_dir = \"%s/state\"; metrics = \"\"; };\n"
            "cache = { flash = \"%s/flash\"; ram = \"1M\"; };\n"
            "nbd = { listen = ( \"unix:%s\" ); };\n"
            "volumes = ( { name = \"work\"; backing = \"%s/work\"; mode = \"write-back\"; },\n"
            "  { name = \"steady\"; backing = \"%s/steady\"; read_only = true; } );\n",
            daemon->control_path, directory, directory, daemon->nbd_path, directory, directory);
    fclose(file);
}

static void files_remove(void)
{
    static const char *const names[] = {"conf", "flash",   "work",         "steady",
                                        "nbd",  "control", "control.lock", "state"};
    char command[128];

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i]));
    snprintf(command, sizeof(command), "rm -rf %s/state", directory);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", directory);
    rmdir(directory);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void daemon_stop(void)
{
    char why[WHY_BYTES];

    if (running == NULL || getpid() != owner)
        return;
    FUZZ_CHECK(service_stop(&running->service, why, sizeof(why)) == 0, "no clean stop: %s", why);
    config_free(config);
    files_remove();
    running = NULL;
}

void fuzz_daemon_start(struct fuzz_daemon *daemon)
{
    static const struct service_sockets none;
    static const struct service_force unforced;
    const char *parent = getenv("TMPDIR");
    char why[WHY_BYTES] = "";

    signal(SIGPIPE, SIG_IGN);
    log_init();
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(directory, sizeof(directory), "%.40s/blkcached-fuzz.XXXXXX", parent ? parent : "/tmp");
    FUZZ_CHECK(mkdtemp(directory) != NULL, "no directory for files in %s", directory);
    snprintf(daemon->nbd_path, sizeof(daemon->nbd_path), "%s/nbd", directory);
    snprintf(daemon->control_path, sizeof(daemon->control_path), "%s/control", directory);
    backing_make("work");
    backing_make("steady");
    flash_make();
    config_make(daemon);
    FUZZ_CHECK(config_load(&config, path_of("conf"), stderr) == 0, "the configuration is refused");
    FUZZ_CHECK(service_start(&daemon->service, config, path_of("conf"), &none, &unforced, why,
                             sizeof(why)) == 0,
               "no start: %s", why);
    running = daemon;
    owner = getpid();
    atexit(daemon_stop);
}

/* ---- clients -------------------------------------------------------------------------------- */

int fuzz_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    FUZZ_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
               "no connection to %s: %s", path, strerror(errno));
    return fd;
}

short fuzz_wait(int fd, short events, const char *who)
{
    struct pollfd poll_one = {.fd = fd, .events = events};
    int ready;

    do
        ready = poll(&poll_one, 1, FUZZ_PATIENCE_MS);
    while (ready < 0 && errno == EINTR);
    FUZZ_CHECK(ready == 1, "%s waits in vain", who);
    return poll_one.revents;
}

void fuzz_send_all(int fd, const void *data, size_t bytes, const char *who)
{
    const char *at = data;

    while (bytes > 0) {
        ssize_t sent;

        fuzz_wait(fd, POLLOUT, who);
        sent = send(fd, at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        FUZZ_CHECK(sent > 0 || errno == EAGAIN || errno == EINTR, "%s is hung up on", who);
        at += sent > 0 ? sent : 0;
        bytes -= sent > 0 ? (size_t)sent : 0;
    }
}

void fuzz_receive_all(int fd, void *data, size_t bytes, const char *who)
{
    char *at = data;

    while (bytes > 0) {
        ssize_t got;

        fuzz_wait(fd, POLLIN, who);
        got = recv(fd, at, bytes, MSG_DONTWAIT);
        FUZZ_CHECK(got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)), "%s is hung up on",
                   who);
        at += got > 0 ? got : 0;
        bytes -= got > 0 ? (size_t)got : 0;
    }
}
