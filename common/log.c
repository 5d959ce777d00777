/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log on stderr. */
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

/* A line under construction. LINE_TAIL_BYTES are kept free for what ends it. */
struct line {
    size_t bytes;
    bool cut;
    char text[LOG_LINE_BYTES_MAX];
};

#define CUT_MARK        "..."
#define LINE_TAIL_BYTES (sizeof(CUT_MARK) - 1 + 1)

static const struct {
    const char *name;
    int priority; /* of syslog(3) */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", 3},   [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_NOTICE] = {"notice", 5}, [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

#define LEVEL_COUNT (sizeof(levels) / sizeof(levels[0]))

static _Atomic int limit = LOG_LEVEL_INFO;
static bool to_journal; /* written before there are threads */
static log_listener *listener;
static enum log_level listener_level;

void log_init(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    /* A child whose stderr was redirected inherits the variable all the same. */
    to_journal = stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                 fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
                 status.st_ino == inode;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&limit, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&limit, memory_order_relaxed);
}

void log_listen(log_listener *new_listener, enum log_level level)
{
    listener = new_listener;
    listener_level = level;
}

static bool is_listened_to(enum log_level level)
{
    return listener != NULL && level <= listener_level;
}

bool log_is_wanted(enum log_level level)
{
    return level <= log_get_level() || is_listened_to(level);
}

int log_level_parse(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(name, levels[i].name) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

/* Add BYTES of TEXT whole, or nothing and mark the line as cut. */
static void line_add(struct line *line, const char *text, size_t bytes)
{
    if (line->cut || bytes > sizeof(line->text) - LINE_TAIL_BYTES - line->bytes) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->bytes, text, bytes);
    line->bytes += bytes;
}

static void line_add_string(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

/* One character, as it is or escaped so that it can stand between quotes. */
static void line_add_escaped(struct line *line, char character)
{
    char escaped[8];

    switch (character) {
    case '"': line_add(line, "\\\"", 2); break;
    case '\\': line_add(line, "\\\\", 2); break;
    case '\n': line_add(line, "\\n", 2); break;
    case '\r': line_add(line, "\\r", 2); break;
    case '\t': line_add(line, "\\t", 2); break;
    default:
        /* Bytes from 0x80 are UTF-8 and stay. */
        if ((unsigned char)character < ' ' || character == 0x7f) {
            snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned char)character);
            line_add(line, escaped, 4);
        } else {
            line_add(line, &character, 1);
        }
    }
}

/* Does a value need quotes to be told from its surroundings. */
static bool value_needs_quotes(const char *text)
{
    if (*text == '\0')
        return true;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f || strchr("\"=\\", *text) != NULL)
            return true;
    return false;
}

static void line_add_value(struct line *line, const char *text)
{
    if (!value_needs_quotes(text)) {
        line_add_string(line, text);
        return;
    }
    line_add(line, "\"", 1);
    for (; *text != '\0'; text++)
        line_add_escaped(line, *text);
    line_add(line, "\"", 1);
}

static void line_add_field(struct line *line, const struct log_field *field)
{
    char text[128];

    line_add(line, " ", 1);
    line_add_string(line, field->key);
    line_add(line, "=", 1);
    switch (field->type) {
    case LOG_FIELD_STRING:
        line_add_value(line, field->value.string != NULL ? field->value.string : "-");
        break;
    case LOG_FIELD_UNSIGNED:
        snprintf(text, sizeof(text), "%" PRIu64, field->value.number_unsigned);
        line_add_string(line, text);
        break;
    case LOG_FIELD_SIGNED:
        snprintf(text, sizeof(text), "%" PRId64, field->value.number_signed);
        line_add_string(line, text);
        break;
    case LOG_FIELD_ERRNO:
        line_add_value(line, strerror_r(abs((int)field->value.number_signed), text, sizeof(text)));
        break;
    }
}

/* What stands before the message. */
static void line_add_head(struct line *line, enum log_level level)
{
    char text[CLOCK_TEXT_BYTES];

    if (to_journal) {
        snprintf(text, sizeof(text), "<%d>", levels[level].priority);
        line_add_string(line, text);
        return;
    }
    line_add_string(line, clock_print(text));
    line_add_string(line, " ");
    line_add_string(line, levels[level].name);
    line_add_string(line, ": ");
}

void log_write(enum log_level level, const char *message, const struct log_field *fields,
               size_t field_count)
{
    int saved_errno = errno;
    struct line line;
    ssize_t ignored;
    size_t head;

    if (!log_is_wanted(level))
        return;
    line.bytes = 0;
    line.cut = false;
    line_add_head(&line, level);
    head = line.bytes;
    for (const char *at = message; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            line_add(&line, at, 1);
        else
            line_add_escaped(&line, *at);
    }
    for (size_t i = 0; i < field_count; i++)
        line_add_field(&line, &fields[i]);
    if (line.cut) {
        memcpy(line.text + line.bytes, CUT_MARK, sizeof(CUT_MARK) - 1);
        line.bytes += sizeof(CUT_MARK) - 1;
    }
    if (is_listened_to(level))
        listener(level, line.text + head, line.bytes - head);
    line.text[line.bytes++] = '\n';
    if (level <= log_get_level()) {
        ignored = write(STDERR_FILENO, line.text, line.bytes);
        (void)ignored;
    }
    errno = saved_errno;
}
