/* SPDX-License-Identifier: Apache-2.0 */
/* Backing stores: files, and an NBD server that is slow, limited, killed, stopped, or gone. */
#include "io/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "engine/format.h"
#include "io/backing-identity.h"
#include "tests/unit/io-cores.h"

static char directory[64], image[80], socket_path[80], log_path[80], uri[128];
static struct backing *backing;
static pid_t server;

/* ---- a backing store to test -------------------------------------------------------------- */

static void make_image(uint64_t bytes)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static void set_up(void)
{
    snprintf(directory, sizeof(directory), "/tmp/io-backing-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(image, sizeof(image), "%s/image", directory);
    snprintf(socket_path, sizeof(socket_path), "%s/nbd", directory);
    snprintf(log_path, sizeof(log_path), "%s/log", directory);
    snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", socket_path);
}

static void end_server(int signal)
{
    if (server == 0)
        return;
    kill(server, signal);
    waitpid(server, NULL, 0);
    server = 0;
    unlink(socket_path);
}

static void tear_down(void)
{
    cores_stop();
    backing_close(backing);
    end_server(SIGKILL);
    unlink(image);
    unlink(socket_path);
    unlink(log_path);
    rmdir(directory);
}

/* A socket has a file before somebody listens at it. */
static bool is_listening(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listening;

    ck_assert_int_ge(fd, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    listening = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return listening;
}

/* nbdkit with a filter, or NULL, over the image; returns when it listens. What it is asked is in its log. */
static void start_server(const char *filter_name, const char *parameter)
{
    char filter[128], file[100], logfile[100];
    const char *arguments[12] = {"nbdkit", "-f", "-U", socket_path, "--filter=log"};
    unsigned count = 5;
    bool listening;

    if (filter_name != NULL) {
        snprintf(filter, sizeof(filter), "--filter=%s", filter_name);
        arguments[count++] = filter;
    }
    snprintf(file, sizeof(file), "file=%s", image);
    snprintf(logfile, sizeof(logfile), "logfile=%s", log_path);
    arguments[count++] = "file";
    arguments[count++] = file;
    arguments[count++] = logfile;
    if (parameter != NULL)
        arguments[count++] = parameter;
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp("nbdkit", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    for (unsigned i = 0; !(listening = is_listening()) && i < 1000; i++)
        usleep(10000);
    ck_assert(listening);
}

/* Until the server has begun with such a request, as its log calls it: "Read", "Write". */
static void await_request(const char *what)
{
    char *line = NULL, text[32];
    size_t line_bytes = 0;
    bool found = false;

    snprintf(text, sizeof(text), " %s id=", what);
    for (unsigned i = 0; !found && i < 3000; i++) {
        FILE *log = fopen(log_path, "r");

        while (log != NULL && !found && getline(&line, &line_bytes, log) > 0)
            found = strstr(line, text) != NULL;
        if (log != NULL)
            fclose(log);
        usleep(10000);
    }
    free(line);
    ck_assert(found);
}

/* Until the backing store says this of its connections. */
static void await_state(const char *what)
{
    char text[256] = "";

    for (unsigned i = 0; strstr(text, what) == NULL && i < 3000; i++) {
        usleep(10000);
        backing_state(backing, text, sizeof(text));
    }
    ck_assert_msg(strstr(text, what) != NULL, "%s", text);
}

static void open_backing(const char *spec, uint64_t timeout_ms, unsigned cores)
{
    char why[512] = "";
    int error = backing_open(&backing, spec, false, timeout_ms * 1000000u, why, sizeof(why));

    ck_assert_msg(error == 0, "%s", why);
    io_cores_start(cores);
}

/* ---- I/O from the test's thread ----------------------------------------------------------- */

struct io {
    struct call call;
    struct backing_io backing;
    int result;
    uint64_t ended_ns;
};

static void ended(struct core *core, struct backing_io *io, int result)
{
    struct io *own = container_of(io, struct io, backing);

    ck_assert_ptr_eq(core, io->core);
    own->result = result;
    own->ended_ns = clock_ns();
    io_cores_came();
}

static void submit(struct core *core, void *argument)
{
    struct io *io = argument;

    backing_submit(core, backing, &io->backing);
}

static void begin(struct io *io, unsigned core, uint8_t op, uint64_t offset, uint64_t length,
                  unsigned char *data)
{
    io->backing = (struct backing_io){
        .op = op, .offset = offset, .length = length, .data = data, .done = ended};
    io->result = 1;
    io_cores_expect(1);
    io_cores_call(core, &io->call, submit, io);
}

static int transfer(uint8_t op, uint64_t offset, uint64_t length, unsigned char *data)
{
    static unsigned next_core;
    struct io io;

    begin(&io, next_core++ % core_count(), op, offset, length, data);
    io_cores_wait();
    return io.result;
}

static unsigned char *memory(size_t bytes, int fill)
{
    unsigned char *data = aligned_alloc(BLOCK_BYTES, bytes);

    ck_assert_ptr_nonnull(data);
    memset(data, fill, bytes);
    return data;
}

static bool all_are(const unsigned char *data, size_t bytes, unsigned char value)
{
    return bytes == 0 || (data[0] == value && memcmp(data, data + 1, bytes - 1) == 0);
}

/* Write, read, zero in both ways, flush; `bytes` is the size of the backing store. */
static void exercise(uint64_t bytes)
{
    size_t length = 1 << 20;
    unsigned char *data = memory(length, 0x11), *back = memory(length, 0xee);
    uint64_t last = bytes / BLOCK_BYTES * BLOCK_BYTES;
    size_t inside = bytes - last;

    ck_assert_uint_eq(backing_info(backing)->bytes, bytes);
    ck_assert_int_eq(transfer(BACKING_WRITE, BLOCK_BYTES, length, data), 0);
    ck_assert_int_eq(transfer(BACKING_FLUSH, 0, 0, NULL), 0);
    ck_assert_int_eq(transfer(BACKING_READ, BLOCK_BYTES, length, back), 0);
    ck_assert_mem_eq(data, back, length);

    /* Zeros in the middle; the neighbours stay. */
    ck_assert_int_eq(transfer(BACKING_ZERO, 3 * BLOCK_BYTES, 300 * BLOCK_BYTES / 2, NULL), 0);
    ck_assert_int_eq(transfer(BACKING_READ, 2 * BLOCK_BYTES, 152 * BLOCK_BYTES, back), 0);
    ck_assert(all_are(back, BLOCK_BYTES, 0x11));
    ck_assert(all_are(back + BLOCK_BYTES, 150 * BLOCK_BYTES, 0));
    ck_assert(all_are(back + 151 * BLOCK_BYTES, BLOCK_BYTES, 0x11));

    /* The last block: read as zeros behind the end, written only up to it. */
    if (inside > 0) {
        ck_assert_int_eq(transfer(BACKING_WRITE, last, BLOCK_BYTES, data), 0);
        memset(back, 0xee, BLOCK_BYTES);
        ck_assert_int_eq(transfer(BACKING_READ, last, BLOCK_BYTES, back), 0);
        ck_assert(all_are(back, inside, 0x11));
        ck_assert(all_are(back + inside, BLOCK_BYTES - inside, 0));
        ck_assert_int_eq(transfer(BACKING_ZERO, last, BLOCK_BYTES, NULL), 0);
    }
    /* Wholly behind it. */
    memset(back, 0xee, BLOCK_BYTES);
    ck_assert_int_eq(transfer(BACKING_READ, last + BLOCK_BYTES, BLOCK_BYTES, back), 0);
    ck_assert(all_are(back, BLOCK_BYTES, 0));
    free(data);
    free(back);
}

static void exercise_flags(void)
{
    unsigned char *data = memory(BLOCK_BYTES, 0x77), *back = memory(BLOCK_BYTES, 0);
    struct io io;

    for (unsigned flags = 0; flags < 4; flags++) {
        ck_assert_int_eq(transfer(BACKING_WRITE, 0, BLOCK_BYTES, data), 0);
        for (uint8_t op = BACKING_WRITE; op <= BACKING_ZERO; op++) {
            begin(&io, 0, op, 0, BLOCK_BYTES, data);
            io_cores_wait();
            io.backing.flags = (uint8_t)flags;
            io_cores_expect(1);
            io_cores_call(0, &io.call, submit, &io);
            io_cores_wait();
            ck_assert_int_eq(io.result, 0);
        }
        ck_assert_int_eq(transfer(BACKING_READ, 0, BLOCK_BYTES, back), 0);
        ck_assert(all_are(back, BLOCK_BYTES, 0));
    }
    free(data);
    free(back);
}

/* ---- files -------------------------------------------------------------------------------- */

START_TEST(file)
{
    make_image(8 << 20);
    open_backing(image, 0, 2);
    exercise(8 << 20);
    exercise_flags();
}
END_TEST

START_TEST(file_of_sectors)
{
    make_image((8 << 20) + 1536);
    open_backing(image, 0, 1);
    exercise((8 << 20) + 1536);
}
END_TEST

START_TEST(file_of_an_odd_size)
{
    make_image((8 << 20) + 1001);
    open_backing(image, 0, 1);
    exercise((8 << 20) + 1001);
    exercise_flags();
}
END_TEST

START_TEST(file_is_locked)
{
    struct backing *other;
    char why[256] = "";

    make_image(1 << 20);
    open_backing(image, 0, 1);
    ck_assert_int_eq(backing_open(&other, image, false, 0, why, sizeof(why)), -EBUSY);
    ck_assert_ptr_nonnull(strstr(why, image));
    ck_assert_ptr_nonnull(strstr(why, "locked"));
}
END_TEST

START_TEST(file_that_is_missing_or_no_file)
{
    struct backing *other;
    char why[256] = "";

    ck_assert_int_eq(backing_open(&other, image, false, 0, why, sizeof(why)), -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, image));
    ck_assert_int_eq(backing_open(&other, directory, false, 0, why, sizeof(why)), -ENOTBLK);
}
END_TEST

START_TEST(file_that_shrank_gives_errors)
{
    unsigned char *data = memory(BLOCK_BYTES, 0);

    make_image(1 << 20);
    open_backing(image, 0, 1);
    ck_assert_int_eq(truncate(image, 4096), 0);
    ck_assert_int_eq(transfer(BACKING_READ, 65536, BLOCK_BYTES, data), -EIO);
    free(data);
}
END_TEST

/* ---- NBD ---------------------------------------------------------------------------------- */

START_TEST(identity_is_of_the_store)
{
    uint8_t before[BACKING_IDENTITY_BYTES], now[BACKING_IDENTITY_BYTES];
    int fd;

    make_image(4096);
    fd = open(image, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    backing_identify(before, "a", -1);
    backing_identify(now, "a", -1);
    ck_assert_int_eq(backing_identity_compare(before, now, "a"), BACKING_SAME);
    backing_identify(now, "b", -1);
    ck_assert_int_eq(backing_identity_compare(before, now, "b"), BACKING_RENAMED);
    /* What was not known cannot have changed. */
    backing_identify(now, "a", fd);
    ck_assert_int_eq(backing_identity_compare(before, now, "a"), BACKING_SAME);
    /* Of the version that hashed the name twice. */
    memcpy(before + 8, "\x40\x75\xae\xe6\x20\xe3\x74\x13", 8);
    ck_assert_int_eq(backing_identity_compare(before, now, "a"), BACKING_SAME);
    memset(before + 8, 1, 8);
    memset(now + 8, 2, 8);
    ck_assert_int_eq(backing_identity_compare(before, now, "a"), BACKING_REPLACED);
    memset(now + 8, 1, 8);
    backing_identify(before, "b", -1);
    memset(before + 8, 1, 8);
    ck_assert_int_eq(backing_identity_compare(before, now, "a"), BACKING_SAME);
    close(fd);
}
END_TEST

START_TEST(nbd)
{
    make_image((8 << 20) + 1536);
    start_server(NULL, NULL);
    open_backing(uri, 5000, 2);
    exercise((8 << 20) + 1536);
    exercise_flags();
}
END_TEST

START_TEST(nbd_with_limits)
{
    static const char *const servers[][2] = {{"blocksize-policy", "blocksize-maximum=64K"},
                                             {"nozero", NULL},
                                             {"fua", "fuamode=emulate"},
                                             {"fua", "fuamode=pass"},
                                             {"multi-conn", "multi-conn-mode=disable"},
                                             {"noparallel", "serialize=all-requests"}};

    make_image((8 << 20) + 1536);
    for (unsigned i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        start_server(servers[i][0], servers[i][1]);
        open_backing(uri, 5000, 2);
        exercise((8 << 20) + 1536);
        exercise_flags();
        cores_stop();
        backing_close(backing);
        backing = NULL;
        end_server(SIGKILL);
    }
}
END_TEST

START_TEST(nbd_that_is_not_there)
{
    struct backing *other;
    char why[512] = "";

    ck_assert_int_lt(backing_open(&other, uri, false, 500000000u, why, sizeof(why)), 0);
    ck_assert_ptr_nonnull(strstr(why, socket_path));
}
END_TEST

/* Reads outlive a restart of the server, as long as it takes less than the timeout. */
START_TEST(nbd_reads_survive_a_restart)
{
    unsigned char *data = memory(64 * BLOCK_BYTES, 0);
    struct io ios[64];

    make_image(8 << 20);
    start_server("delay", "delay-read=20");
    open_backing(uri, 20000, 2);
    for (unsigned i = 0; i < 64; i++)
        begin(&ios[i], i % 2, BACKING_READ, i * BLOCK_BYTES, BLOCK_BYTES, data + i * BLOCK_BYTES);
    await_request("Read");
    end_server(SIGKILL);
    await_state("reconnecting");
    start_server(NULL, NULL);
    io_cores_wait();
    for (unsigned i = 0; i < 64; i++)
        ck_assert_int_eq(ios[i].result, 0);
    await_state("up");
    free(data);
}
END_TEST

/* Writes in doubt fail, but not before the server is back; what comes after is served. */
START_TEST(nbd_writes_in_doubt_fail_after_the_restart)
{
    unsigned char *data = memory(BLOCK_BYTES, 0x33);
    struct io doubtful, flush;
    uint64_t back_ns;

    make_image(8 << 20);
    start_server("delay", "delay-write=20");
    open_backing(uri, 20000, 1);
    begin(&doubtful, 0, BACKING_WRITE, 0, BLOCK_BYTES, data);
    await_request("Write");
    end_server(SIGKILL);
    await_state("reconnecting");
    back_ns = clock_ns();
    start_server(NULL, NULL);
    io_cores_wait();
    ck_assert_int_eq(doubtful.result, -EIO);
    ck_assert_uint_ge(doubtful.ended_ns, back_ns);
    ck_assert_int_eq(transfer(BACKING_WRITE, 0, BLOCK_BYTES, data), 0);

    /* A server that went away may have lost what it had not flushed: one flush tells. */
    end_server(SIGKILL);
    await_state("reconnecting");
    start_server(NULL, NULL);
    begin(&flush, 0, BACKING_FLUSH, 0, 0, NULL);
    io_cores_wait();
    ck_assert_int_eq(flush.result, -EIO);
    ck_assert_int_eq(transfer(BACKING_FLUSH, 0, 0, NULL), 0);
    free(data);
}
END_TEST

/* After a flush there is nothing to lose. */
START_TEST(nbd_flushed_writes_are_not_in_doubt)
{
    unsigned char *data = memory(BLOCK_BYTES, 0x33);

    make_image(8 << 20);
    start_server(NULL, NULL);
    open_backing(uri, 20000, 1);
    ck_assert_int_eq(transfer(BACKING_WRITE, 0, BLOCK_BYTES, data), 0);
    ck_assert_int_eq(transfer(BACKING_FLUSH, 0, 0, NULL), 0);
    end_server(SIGKILL);
    await_state("reconnecting");
    start_server(NULL, NULL);
    ck_assert_int_eq(transfer(BACKING_FLUSH, 0, 0, NULL), 0);
    free(data);
}
END_TEST

/* Until the server is found again: reconnecting backs off for some seconds. */
static int read_again(unsigned char *data)
{
    int result = -EIO;

    for (int i = 0; i < 20 && result != 0; i++)
        result = transfer(BACKING_READ, 0, BLOCK_BYTES, data);
    return result;
}

START_TEST(nbd_that_stays_away_times_out)
{
    unsigned char *data = memory(BLOCK_BYTES, 0);
    struct io ios[3];
    uint64_t start_ns;

    make_image(8 << 20);
    start_server(NULL, NULL);
    open_backing(uri, 700, 1);
    ck_assert_int_eq(transfer(BACKING_READ, 0, BLOCK_BYTES, data), 0);
    end_server(SIGKILL);
    await_state("reconnecting");
    start_ns = clock_ns();
    begin(&ios[0], 0, BACKING_READ, 0, BLOCK_BYTES, data);
    begin(&ios[1], 0, BACKING_WRITE, BLOCK_BYTES, BLOCK_BYTES, data);
    begin(&ios[2], 0, BACKING_FLUSH, 0, 0, NULL);
    io_cores_wait();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(ios[i].result, -EIO);
        ck_assert_uint_ge(ios[i].ended_ns - start_ns, 600000000u);
        ck_assert_uint_le(ios[i].ended_ns - start_ns, 3000000000u);
    }
    /* And it is found again. */
    start_server(NULL, NULL);
    ck_assert_int_eq(read_again(data), 0);
    free(data);
}
END_TEST

/* A server that accepts and says nothing more: its connections are given up. */
START_TEST(nbd_that_hangs_times_out)
{
    unsigned char *data = memory(BLOCK_BYTES, 0);
    struct io io;

    make_image(8 << 20);
    start_server(NULL, NULL);
    open_backing(uri, 700, 1);
    ck_assert_int_eq(transfer(BACKING_READ, 0, BLOCK_BYTES, data), 0);
    kill(server, SIGSTOP);
    ck_assert_int_eq(waitpid(server, NULL, WUNTRACED),
                     server); /* it has stopped, not only been told */
    begin(&io, 0, BACKING_READ, 0, BLOCK_BYTES, data);
    io_cores_wait();
    ck_assert_int_eq(io.result, -EIO);
    kill(server, SIGCONT);
    ck_assert_int_eq(read_again(data), 0);
    free(data);
}
END_TEST

/* Killed and restarted under load: whatever is answered with success is there. */
/* A write that timed out may still be on its way: what comes after it waits for a new connection,
 * though others are there (I22). */
START_TEST(nbd_sends_nothing_beside_a_write_in_doubt)
{
    unsigned char *data = memory(BLOCK_BYTES, 0x33);
    char aside[110];

    make_image(8 << 20);
    start_server("delay", "delay-write=6");
    open_backing(uri, 600, 1);
    ck_assert_int_eq(transfer(BACKING_READ, 0, BLOCK_BYTES, data), 0);
    usleep(100000);
    snprintf(aside, sizeof(aside), "%s.aside", socket_path);
    ck_assert_int_eq(rename(socket_path, aside), 0);
    ck_assert_int_eq(transfer(BACKING_WRITE, 0, BLOCK_BYTES, data), -EIO);
    ck_assert_int_eq(transfer(BACKING_READ, 0, BLOCK_BYTES, data), -EIO);
    ck_assert_int_eq(rename(aside, socket_path), 0);
    ck_assert_int_eq(read_again(data), 0);
    free(data);
}
END_TEST

START_TEST(nbd_killed_again_and_again)
{
    unsigned char *data = memory(64 * BLOCK_BYTES, 0), *back = memory(BLOCK_BYTES, 0);
    static struct io ios[64];

    make_image(8 << 20);
    start_server(NULL, NULL);
    open_backing(uri, 20000, 2);
    for (unsigned round = 1; round <= 10; round++) {
        memset(data, (int)round, 64 * BLOCK_BYTES);
        for (unsigned i = 0; i < 64; i++)
            begin(&ios[i], i % 2, i % 3 == 0 ? BACKING_READ : BACKING_WRITE, i * BLOCK_BYTES,
                  BLOCK_BYTES, data + i * BLOCK_BYTES);
        usleep(round * 100);
        end_server(SIGKILL);
        start_server(NULL, NULL);
        io_cores_wait();
        for (unsigned i = 0; i < 64; i++) {
            if (i % 3 == 0 || ios[i].result != 0)
                continue;
            ck_assert_int_eq(transfer(BACKING_READ, i * BLOCK_BYTES, BLOCK_BYTES, back), 0);
            ck_assert(all_are(back, BLOCK_BYTES, (unsigned char)round));
        }
    }
    free(data);
    free(back);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-backing");

    if (system("command -v nbdkit >/dev/null") != 0) {
        printf("SKIP: nbdkit is not installed\n");
        return 77;
    }
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 90);
    tcase_add_test(cases, file);
    tcase_add_test(cases, file_of_sectors);
    tcase_add_test(cases, file_of_an_odd_size);
    tcase_add_test(cases, file_is_locked);
    tcase_add_test(cases, file_that_is_missing_or_no_file);
    tcase_add_test(cases, file_that_shrank_gives_errors);
    tcase_add_test(cases, identity_is_of_the_store);
    tcase_add_test(cases, nbd);
    tcase_add_test(cases, nbd_with_limits);
    tcase_add_test(cases, nbd_that_is_not_there);
    tcase_add_test(cases, nbd_reads_survive_a_restart);
    tcase_add_test(cases, nbd_writes_in_doubt_fail_after_the_restart);
    tcase_add_test(cases, nbd_flushed_writes_are_not_in_doubt);
    tcase_add_test(cases, nbd_that_stays_away_times_out);
    tcase_add_test(cases, nbd_that_hangs_times_out);
    tcase_add_test(cases, nbd_sends_nothing_beside_a_write_in_doubt);
    tcase_add_test(cases, nbd_killed_again_and_again);
    return unit_run("io-backing", cases);
}
