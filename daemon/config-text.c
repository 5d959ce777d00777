/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a configuration file, made ready for libconfig. */
#include "daemon/config-text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int config_text_read(const char *path, char **text)
{
    char *buffer = malloc(CONFIG_TEXT_BYTES_MAX + 1);
    size_t used = 0;
    ssize_t got;
    int fd, error = 0;

    if (buffer == NULL)
        return -ENOMEM;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error = -errno;
        free(buffer);
        return error;
    }
    while ((got = read(fd, buffer + used, CONFIG_TEXT_BYTES_MAX + 1 - used)) > 0)
        used += (size_t)got;
    if (got < 0)
        error = -errno;
    else if (used > CONFIG_TEXT_BYTES_MAX)
        error = -EFBIG;
    else if (memchr(buffer, '\0', used) != NULL)
        error = -EILSEQ;
    close(fd);
    if (error) {
        free(buffer);
        return error;
    }
    buffer[used] = '\0';
    *text = buffer;
    return 0;
}

/* ---- tokens --------------------------------------------------------------------------------- */

/* What libconfig's scanner sees at `at`, up to the end of one token. */
struct token {
    enum {
        TOKEN_BLANK,
        TOKEN_STRING,
        TOKEN_NAME,
        TOKEN_NUMBER,
        TOKEN_MARK
    } kind;
    size_t bytes;
};

static size_t comment_bytes(const char *at, const char *end)
{
    const char *stop;

    if (at[0] == '/' && end - at >= 2 && at[1] == '*') {
        for (stop = at + 2; end - stop >= 2; stop++) {
            if (stop[0] == '*' && stop[1] == '/')
                return (size_t)(stop + 2 - at);
        }
        return (size_t)(end - at);
    }
    if (at[0] != '#' && !(at[0] == '/' && end - at >= 2 && at[1] == '/'))
        return 0;
    stop = memchr(at, '\n', (size_t)(end - at));
    return (size_t)((stop ? stop : end) - at);
}

static size_t string_bytes(const char *at, const char *end)
{
    const char *stop = at + 1;

    while (stop < end && *stop != '"')
        stop += *stop == '\\' && end - stop >= 2 ? 2 : 1;
    return (size_t)((stop < end ? stop + 1 : end) - at);
}

static size_t word_bytes(const char *at, const char *end, const char *others)
{
    const char *stop = at + 1;

    while (stop < end && (isalnum((unsigned char)*stop) || strchr(others, *stop) != NULL))
        stop++;
    return (size_t)(stop - at);
}

static struct token token_at(const char *at, const char *end)
{
    size_t comment = comment_bytes(at, end);

    if (comment > 0)
        return (struct token){TOKEN_BLANK, comment};
    if (isspace((unsigned char)*at))
        return (struct token){TOKEN_BLANK, 1};
    if (*at == '"')
        return (struct token){TOKEN_STRING, string_bytes(at, end)};
    if (isdigit((unsigned char)*at))
        return (struct token){TOKEN_NUMBER, word_bytes(at, end, ".")};
    if (isalpha((unsigned char)*at) || *at == '*')
        return (struct token){TOKEN_NAME, word_bytes(at, end, "-_*")};
    return (struct token){TOKEN_MARK, 1};
}

/* ---- what is changed ------------------------------------------------------------------------ */

/* The first character after `at` that is neither blank nor in a comment, or 0. */
static char next_mark(const char *at, const char *end)
{
    while (at < end) {
        struct token token = token_at(at, end);

        if (token.kind != TOKEN_BLANK)
            return *at;
        at += token.bytes;
    }
    return 0;
}

/* Does an integer need the suffix L; -ERANGE when even that is too small.  What is no integer
 * without a suffix is left to libconfig. */
static int integer_is_long(const char *at, size_t bytes)
{
    bool hex = bytes > 2 && at[0] == '0' && (at[1] == 'x' || at[1] == 'X');
    uint64_t base = hex ? 16 : 10, value = 0;

    for (size_t i = hex ? 2 : 0; i < bytes; i++) {
        int digit = at[i];

        if (hex ? !isxdigit(digit) : !isdigit(digit))
            return 0;
        digit = isdigit(digit) ? digit - '0' : tolower(digit) - 'a' + 10;
        if (value > (INT64_MAX - (uint64_t)digit) / base)
            return -ERANGE;
        value = value * base + (uint64_t)digit;
    }
    return value > INT32_MAX;
}

static unsigned line_of(const char *text, const char *at)
{
    unsigned line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

int config_text_normalise(const char *text, size_t bytes, char **normal, unsigned *line)
{
    const char *at = text, *end = text + bytes;
    /* The shortest token that grows has ten digits. */
    char *out = malloc(bytes + bytes / 10 + 2), *to = out;

    if (out == NULL)
        return -ENOMEM;
    while (at < end) {
        struct token token = token_at(at, end);
        int is_long = 0;

        memcpy(to, at, token.bytes);
        if (token.kind == TOKEN_NUMBER)
            is_long = integer_is_long(at, token.bytes);
        if (is_long < 0) {
            *line = line_of(text, at);
            free(out);
            return -ERANGE;
        }
        if (token.kind == TOKEN_MARK && *at == ',' && strchr(")]", next_mark(at + 1, end)) &&
            next_mark(at + 1, end) != 0)
            *to = ' ';
        to += token.bytes;
        at += token.bytes;
        if (is_long)
            *to++ = 'L';
    }
    *to = '\0';
    *normal = out;
    return 0;
}
