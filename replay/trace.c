/* SPDX-License-Identifier: Apache-2.0 */
/* Reading block traces. */
#include "replay/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define TEXT_BYTES     (1u << 17) /* leaves room for a newline behind the longest line */
#define LINE_MAX_BYTES 256u
#define DIGITS_MAX     18
#define WHY_BYTES      256u
/* Past this, offsets do not fit a volume: 2^36 blocks of 4 KiB. */
#define OFFSET_MAX (UINT64_C(1) << 48)

struct trace {
    int fd;
    ZSTD_DStream *zstd; /* NULL: plain text */
    bool ended;         /* the file */
    bool in_frame;      /* zstd: a frame is not complete yet */
    uint64_t line;
    unsigned char *packed; /* what was read of a compressed file */
    ZSTD_inBuffer input;
    char *text; /* TEXT_BYTES; [at, end) was not used yet */
    size_t at, end;
    char why[WHY_BYTES];
};

__attribute__((format(printf, 2, 3))) static int refuse(struct trace *trace, const char *format,
                                                        ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(trace->why, sizeof(trace->why), format, arguments);
    va_end(arguments);
    return -1;
}

const char *trace_why(const struct trace *trace)
{
    return trace->why;
}

/* ---- bytes -------------------------------------------------------------------------------- */

static ssize_t read_some(struct trace *trace, void *to, size_t bytes)
{
    ssize_t got;

    do
        got = read(trace->fd, to, bytes);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return refuse(trace, "%s", strerror(errno));
    if (got == 0)
        trace->ended = true;
    return got;
}

static int unpack(struct trace *trace)
{
    ZSTD_outBuffer output = {.dst = trace->text + trace->end, .size = TEXT_BYTES - trace->end};

    while (output.pos == 0) {
        size_t left;

        if (trace->input.pos == trace->input.size) {
            ssize_t got = read_some(trace, trace->packed, TEXT_BYTES);

            if (got < 0)
                return -1;
            trace->input.size = (size_t)got;
            trace->input.pos = 0;
            if (got == 0)
                return trace->in_frame ? refuse(trace, "the compressed data end too soon") : 0;
        }
        left = ZSTD_decompressStream(trace->zstd, &output, &trace->input);
        if (ZSTD_isError(left))
            return refuse(trace, "the compressed data are damaged: %s", ZSTD_getErrorName(left));
        trace->in_frame = left != 0;
    }
    trace->end += output.pos;
    return 0;
}

/* More text behind what is left; `ended` when there is none. */
static int more(struct trace *trace)
{
    ssize_t got;

    memmove(trace->text, trace->text + trace->at, trace->end - trace->at);
    trace->end -= trace->at;
    trace->at = 0;
    if (trace->zstd)
        return unpack(trace);
    got = read_some(trace, trace->text + trace->end, TEXT_BYTES - trace->end);
    if (got > 0)
        trace->end += (size_t)got;
    return got < 0 ? -1 : 0;
}

/* ---- opening ------------------------------------------------------------------------------ */

static int detect(struct trace *trace)
{
    static const unsigned char magic[] = {0x28, 0xb5, 0x2f, 0xfd};

    while (trace->end < sizeof(magic) && !trace->ended)
        if (more(trace) < 0)
            return -1;
    if (trace->end < sizeof(magic) || memcmp(trace->text, magic, sizeof(magic)) != 0)
        return 0;
    trace->zstd = ZSTD_createDStream();
    trace->packed = malloc(TEXT_BYTES);
    if (!trace->zstd || !trace->packed)
        return refuse(trace, "not enough memory");
    memcpy(trace->packed, trace->text, trace->end);
    trace->input = (ZSTD_inBuffer){.src = trace->packed, .size = trace->end};
    trace->in_frame = true;
    trace->end = 0;
    return 0;
}

struct trace *trace_open(const char *path, char *why, size_t why_bytes)
{
    struct trace *trace = calloc(1, sizeof(*trace));
    char *text = malloc(TEXT_BYTES);

    if (!trace || !text) {
        snprintf(why, why_bytes, "not enough memory");
        free(trace);
        free(text);
        return NULL;
    }
    trace->text = text;
    trace->fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (trace->fd >= 0 && detect(trace) == 0)
        return trace;
    snprintf(why, why_bytes, "%s", trace->fd < 0 ? strerror(errno) : trace->why);
    trace_close(trace);
    return NULL;
}

void trace_close(struct trace *trace)
{
    if (trace->fd >= 0)
        close(trace->fd);
    ZSTD_freeDStream(trace->zstd);
    free(trace->packed);
    free(trace->text);
    free(trace);
}

/* ---- lines -------------------------------------------------------------------------------- */

/* Reads decimal digits; false: there are none, or too many. */
static inline bool number(const char **at, uint64_t *value)
{
    const char *next = *at;
    uint64_t sum = 0;

    for (unsigned digit; (digit = (unsigned)(*next - '0')) <= 9; next++)
        sum = sum * 10 + digit;
    if (next == *at || next - *at > DIGITS_MAX)
        return false;
    *value = sum;
    *at = next;
    return true;
}

/* A number, and what ends it. */
static inline bool field(const char **at, char end, uint64_t *value)
{
    return number(at, value) && *(*at)++ == end;
}

static int parse(struct trace *trace, const char *line, struct trace_request *request)
{
    const char *at = line;
    uint64_t volume = 1;

    if (!field(&at, ',', &request->time_us))
        return refuse(trace, "line %llu: the first field is no time in microseconds",
                      (unsigned long long)trace->line);
    if ((*at != 'R' && *at != 'W') || at[1] != ',')
        return refuse(trace, "line %llu: the second field is neither R nor W",
                      (unsigned long long)trace->line);
    request->is_write = *at == 'W';
    at += 2;
    if (!field(&at, ',', &request->offset))
        return refuse(trace, "line %llu: the third field is no offset in bytes",
                      (unsigned long long)trace->line);
    if (!number(&at, &request->length) || (*at != ',' && *at != '\n'))
        return refuse(trace, "line %llu: the fourth field is no length in bytes",
                      (unsigned long long)trace->line);
    if (*at++ == ',' && (!field(&at, '\n', &volume) || volume < 1 || volume > TRACE_VOLUMES))
        return refuse(trace, "line %llu: the fifth field is no volume, 1 to %u",
                      (unsigned long long)trace->line, TRACE_VOLUMES);
    request->volume = (uint16_t)volume;
    if (request->length == 0)
        return refuse(trace, "line %llu: the length is 0", (unsigned long long)trace->line);
    if (request->offset >= OFFSET_MAX || request->length > OFFSET_MAX - request->offset)
        return refuse(trace, "line %llu: the request ends past the largest volume, 256 TiB",
                      (unsigned long long)trace->line);
    return 1;
}

/* The next line, with its newline; NULL: `got` says why, as trace_next does. */
static char *next_line(struct trace *trace, int *got)
{
    char *line, *end;

    *got = 0;
    while (!(end = memchr(trace->text + trace->at, '\n', trace->end - trace->at)) &&
           trace->end - trace->at <= LINE_MAX_BYTES) {
        if (!trace->ended) {
            if ((*got = more(trace)) < 0)
                return NULL;
            continue;
        }
        if (trace->at == trace->end)
            return NULL;
        trace->text[trace->end++] = '\n'; /* the last line lacks one */
    }
    line = trace->text + trace->at;
    trace->line++;
    if (!end || end - line > LINE_MAX_BYTES) {
        *got = refuse(trace, "line %llu: longer than %u bytes", (unsigned long long)trace->line,
                      LINE_MAX_BYTES);
        return NULL;
    }
    trace->at = (size_t)(end + 1 - trace->text);
    if (end > line && end[-1] == '\r')
        end[-1] = '\n';
    return line;
}

int trace_next(struct trace *trace, struct trace_request *request)
{
    int got;
    char *line = next_line(trace, &got);

    return line ? parse(trace, line, request) : got;
}
