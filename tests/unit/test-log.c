/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define CAPTURED_BYTES_MAX (1 << 20)

static char captured[CAPTURED_BYTES_MAX];
static int capture_file = -1;
static int real_stderr = -1;

/* From here to capture_end() stderr goes into a file of its own. */
static void capture_begin(void)
{
    FILE *file = tmpfile();

    ck_assert_ptr_nonnull(file);
    capture_file = dup(fileno(file));
    fclose(file);
    ck_assert_int_ge(capture_file, 0);
    ck_assert_int_eq(fcntl(capture_file, F_SETFL, O_APPEND), 0);
    real_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(dup2(capture_file, STDERR_FILENO), STDERR_FILENO);
}

static void capture_end(void)
{
    ssize_t bytes;

    ck_assert_int_eq(dup2(real_stderr, STDERR_FILENO), STDERR_FILENO);
    close(real_stderr);
    bytes = pread(capture_file, captured, sizeof(captured) - 1, 0);
    ck_assert_int_ge(bytes, 0);
    captured[bytes] = '\0';
    close(capture_file);
}

/* The captured line after its time. */
static const char *after_time(void)
{
    ck_assert_uint_gt(strlen(captured), strlen("2026-01-01T00:00:00.000Z "));
    ck_assert_int_eq(captured[10], 'T');
    ck_assert_int_eq(captured[23], 'Z');
    return captured + strlen("2026-01-01T00:00:00.000Z ");
}

START_TEST(message_alone)
{
    capture_begin();
    log_notice("started");
    capture_end();
    ck_assert_str_eq(after_time(), "notice: started\n");
}
END_TEST

START_TEST(fields_of_all_types)
{
    capture_begin();
    log_error("backing store lost", LOG_STR("volume", "db"), LOG_UINT("bytes", UINT64_MAX),
              LOG_INT("delta", -5), LOG_ERRNO(-ENOENT));
    capture_end();
    ck_assert_str_eq(after_time(), "error: backing store lost volume=db bytes=18446744073709551615"
                                   " delta=-5 error=\"No such file or directory\"\n");
}
END_TEST

START_TEST(values_are_quoted_and_escaped)
{
    capture_begin();
    log_info("odd", LOG_STR("a", ""), LOG_STR("b", "x y"), LOG_STR("c", "k=v"),
             LOG_STR("d", "\"\\\n\t\r\x01\x7f"), LOG_STR("e", NULL), LOG_STR("f", "caf\xc3\xa9"));
    capture_end();
    ck_assert_str_eq(after_time(), "info: odd a=\"\" b=\"x y\" c=\"k=v\" "
                                   "d=\"\\\"\\\\\\n\\t\\r\\x01\\x7f\" e=- f=caf\xc3\xa9\n");
}
END_TEST

START_TEST(a_newline_in_a_message_does_not_end_the_line)
{
    capture_begin();
    log_info("one\ntwo \"three\"");
    capture_end();
    ck_assert_str_eq(after_time(), "info: one\\ntwo \"three\"\n");
}
END_TEST

START_TEST(levels_above_the_limit_are_dropped)
{
    log_set_level(LOG_LEVEL_WARNING);
    capture_begin();
    log_notice("no");
    log_debug("no");
    log_warning("yes");
    capture_end();
    ck_assert_str_eq(after_time(), "warning: yes\n");
    log_set_level(LOG_LEVEL_INFO);
}
END_TEST

START_TEST(level_names)
{
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
    enum log_level level;

    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
        ck_assert_int_eq(log_level_parse(names[i], &level), 0);
        ck_assert_int_eq(level, i);
        ck_assert_str_eq(log_level_name(level), names[i]);
    }
    ck_assert_int_eq(log_level_parse("", &level), -EINVAL);
    ck_assert_int_eq(log_level_parse("Error", &level), -EINVAL);
    ck_assert_int_eq(log_level_parse("infos", &level), -EINVAL);
}
END_TEST

START_TEST(a_long_line_is_cut)
{
    static char value[2 * LOG_LINE_BYTES_MAX];

    memset(value, 'v', sizeof(value) - 1);
    capture_begin();
    log_info("long", LOG_STR("key", value));
    capture_end();
    ck_assert_uint_le(strlen(captured), LOG_LINE_BYTES_MAX);
    ck_assert_str_eq(captured + strlen(captured) - 4, "...\n");
}
END_TEST

/* Longer and longer values, past every boundary of the buffer. */
START_TEST(every_length_near_the_limit)
{
    static char value[LOG_LINE_BYTES_MAX + 1];

    for (size_t bytes = LOG_LINE_BYTES_MAX - 100; bytes < LOG_LINE_BYTES_MAX; bytes++) {
        memset(value, '"', bytes);
        value[bytes] = '\0';
        value[bytes / 2] = 'v';
        capture_begin();
        log_info("long", LOG_STR("key", value + bytes / 2));
        log_info("long", LOG_STR("key", value), LOG_STR("other", "x"));
        capture_end();
        ck_assert_uint_le(strlen(captured), 2 * LOG_LINE_BYTES_MAX);
        ck_assert_int_eq(captured[strlen(captured) - 1], '\n');
    }
}
END_TEST

START_TEST(the_journal_gets_a_priority_and_no_time)
{
    struct stat status;
    char stream[64];

    capture_begin();
    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init();
    log_warning("careful", LOG_UINT("n", 1));
    setenv("JOURNAL_STREAM", "1:1", 1);
    log_init();
    log_warning("stderr is another file now");
    capture_end();
    ck_assert_int_eq(strncmp(captured, "<4>careful n=1\n2", 16), 0);
    unsetenv("JOURNAL_STREAM");
    log_init();
}
END_TEST

START_TEST(errno_is_left_alone)
{
    capture_begin();
    errno = EDOM;
    log_info("x", LOG_ERRNO(EIO));
    ck_assert_int_eq(errno, EDOM);
    capture_end();
}
END_TEST

#define THREAD_COUNT     4
#define LINES_PER_THREAD 500

static void *write_lines(void *letter)
{
    char text[201];

    memset(text, *(const char *)letter, 200);
    text[200] = '\0';
    for (int i = 0; i < LINES_PER_THREAD; i++)
        log_info("line", LOG_STR("text", text));
    return NULL;
}

START_TEST(lines_of_threads_do_not_mix)
{
    static char letters[THREAD_COUNT] = {'a', 'b', 'c', 'd'};
    pthread_t threads[THREAD_COUNT];
    int lines = 0;

    capture_begin();
    for (int i = 0; i < THREAD_COUNT; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_lines, &letters[i]), 0);
    for (int i = 0; i < THREAD_COUNT; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    capture_end();
    for (char *line = strtok(captured, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const char *text = strstr(line, "text=");

        ck_assert_ptr_nonnull(text);
        ck_assert_uint_eq(strlen(text + 5), 200);
        ck_assert_uint_eq(strspn(text + 5, (char[]){text[5], '\0'}), 200);
        lines++;
    }
    ck_assert_int_eq(lines, THREAD_COUNT * LINES_PER_THREAD);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("log");

    tcase_add_test(cases, message_alone);
    tcase_add_test(cases, fields_of_all_types);
    tcase_add_test(cases, values_are_quoted_and_escaped);
    tcase_add_test(cases, a_newline_in_a_message_does_not_end_the_line);
    tcase_add_test(cases, levels_above_the_limit_are_dropped);
    tcase_add_test(cases, level_names);
    tcase_add_test(cases, a_long_line_is_cut);
    tcase_add_test(cases, every_length_near_the_limit);
    tcase_add_test(cases, the_journal_gets_a_priority_and_no_time);
    tcase_add_test(cases, errno_is_left_alone);
    tcase_add_test(cases, lines_of_threads_do_not_mix);
    return unit_run("log", cases);
}
