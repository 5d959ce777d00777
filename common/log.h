/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log on stderr: a message, then key=value fields.
 *
 *     log_warning("backing store lost", LOG_STR("volume", name), LOG_ERRNO(error));
 *
 * gives, when stderr is the journal's, "<4>backing store lost volume=db
 * error="Connection refused"", and elsewhere the same line after a UTC time
 * and the level's name. Messages are fixed text; what varies goes into fields.
 * Values are quoted and escaped where they need it, so a line is one line.
 *
 * Every function may be called from any thread. A line is one write(2), so
 * lines never mix; a line that is longer than LOG_LINE_BYTES_MAX is cut and
 * ends in "...". Errors in writing it are ignored: there is nowhere to tell.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest line, with its newline. */
#define LOG_LINE_BYTES_MAX 4096

/* Ordered: what is above the limit that is set is not written. */
enum log_level {
    LOG_LEVEL_ERROR,   /* something failed for good; the message says what to do */
    LOG_LEVEL_WARNING, /* something is wrong and was coped with */
    LOG_LEVEL_NOTICE,  /* rare and normal: start, stop, a changed state */
    LOG_LEVEL_INFO,    /* the default limit */
    LOG_LEVEL_DEBUG,
};

enum log_field_type {
    LOG_FIELD_STRING,
    LOG_FIELD_UNSIGNED,
    LOG_FIELD_SIGNED,
    LOG_FIELD_ERRNO,
};

/* One key=value; made by the macros below. Borrows its strings for the call. */
struct log_field {
    const char *key;
    enum log_field_type type;
    union {
        const char *string;
        uint64_t number_unsigned;
        int64_t number_signed;
    } value;
};

/* A string; NULL is written as "-". */
#define LOG_STR(key_, value_) \
    ((struct log_field){.key = (key_), .type = LOG_FIELD_STRING, .value.string = (value_)})

/* An integer without or with a sign. */
#define LOG_UINT(key_, value_) \
    ((struct log_field){       \
        .key = (key_), .type = LOG_FIELD_UNSIGNED, .value.number_unsigned = (uint64_t)(value_)})
#define LOG_INT(key_, value_) \
    ((struct log_field){      \
        .key = (key_), .type = LOG_FIELD_SIGNED, .value.number_signed = (int64_t)(value_)})

/* The text of an errno value, positive or negative, as error="...". */
#define LOG_ERRNO(error_) \
    ((struct log_field){  \
        .key = "error", .type = LOG_FIELD_ERRNO, .value.number_signed = (int64_t)(error_)})

/*
 * Looks at stderr: with the journal behind it (JOURNAL_STREAM names it), lines
 * carry a "<N>" priority and no time. Call it once, before there are threads;
 * without it lines have a time.
 */
void log_init(void);

/* Set the limit; takes effect at once in all threads. */
void log_set_level(enum log_level level);

/* The limit that is set; LOG_LEVEL_INFO until then. */
enum log_level log_get_level(void);

/*
 * Read a level's name: error, warning, notice, info or debug.
 * Returns 0 and sets *LEVEL, or -EINVAL.
 */
int log_level_parse(const char *name, enum log_level *level);

/* The name of a level; static. */
const char *log_level_name(enum log_level level);

/*
 * Also tell LISTENER of each line up to LEVEL, written or not: its text without time, priority and
 * newline. It is called on any thread and must not log. NULL: nobody. Set it while no other thread
 * logs.
 */
typedef void log_listener(enum log_level level, const char *text, size_t bytes);
void log_listen(log_listener *listener, enum log_level level);

/* Is there anybody for lines of LEVEL. */
bool log_is_wanted(enum log_level level);

/* Write one line, if LEVEL is within the limit. The macros below are handier. */
void log_write(enum log_level level, const char *message, const struct log_field *fields,
               size_t field_count);

/* The leading element lets a call have no fields at all; it is not passed on. */
#define LOG_AT(level, message, ...)                                                \
    do {                                                                           \
        if (log_is_wanted(level)) {                                                \
            const struct log_field log_fields_[] = {{.key = NULL}, ##__VA_ARGS__}; \
            log_write((level), (message), log_fields_ + 1,                         \
                      sizeof(log_fields_) / sizeof(log_fields_[0]) - 1);           \
        }                                                                          \
    } while (0)

#define log_error(message, ...)   LOG_AT(LOG_LEVEL_ERROR, message, ##__VA_ARGS__)
#define log_warning(message, ...) LOG_AT(LOG_LEVEL_WARNING, message, ##__VA_ARGS__)
#define log_notice(message, ...)  LOG_AT(LOG_LEVEL_NOTICE, message, ##__VA_ARGS__)
#define log_info(message, ...)    LOG_AT(LOG_LEVEL_INFO, message, ##__VA_ARGS__)
#define log_debug(message, ...)   LOG_AT(LOG_LEVEL_DEBUG, message, ##__VA_ARGS__)

#endif
