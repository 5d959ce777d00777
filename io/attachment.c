/* SPDX-License-Identifier: Apache-2.0 */
/* Attachment files: text, replaced as a whole. */
#include "io/attachment.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/sync.h"
#include "common/uuid.h"
#include "engine/shard.h"

#define RANGES_TOLD 8u

/* Volume names may hold anything: what could be special in a path is written as %XX. */
void attachment_path(const char *state_dir, const char *volume, char *path, size_t path_bytes)
{
    size_t used = (size_t)snprintf(path, path_bytes, "%s/", state_dir);

    for (const char *at = volume; *at != '\0' && used + 16 < path_bytes; at++) {
        unsigned char byte = (unsigned char)*at;
        bool plain = isalnum(byte) || byte == '-' || byte == '_' || (byte == '.' && at != volume);

        used += (size_t)snprintf(path + used, path_bytes - used, plain ? "%c" : "%%%02x", byte);
    }
    if (used + 16 < path_bytes)
        snprintf(path + used, path_bytes - used, ".epoch");
}

static int refuse(const char *path, const char *what, int error, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: %s: %s", path, what, strerror(-error));
    return error;
}

/* ---- reading ------------------------------------------------------------------------------ */

static const char *const states[] = {
    [ATTACHMENT_NONE] = "",
    [ATTACHMENT_ATTACHED] = "attached",
    [ATTACHMENT_STOPPED] = "stopped",
    [ATTACHMENT_DETACHED] = "detached",
};

struct reader {
    FILE *stream;
    char *line; /* the present one, without its newline; NULL: none */
    size_t bytes;
    uint32_t crc; /* of the lines before it */
    uint64_t dirty_read;
};

static bool next_line(struct reader *reader)
{
    ssize_t length;

    length = getline(&reader->line, &reader->bytes, reader->stream);
    if (length <= 0 || reader->line[length - 1] != '\n')
        return false;
    if (strncmp(reader->line, "end ", 4) != 0)
        reader->crc = crc32c(reader->crc, reader->line, (size_t)length);
    reader->line[length - 1] = '\0';
    return true;
}

/* The value of the line that must come now. */
static const char *value_of(struct reader *reader, const char *key)
{
    size_t length = strlen(key);

    if (!next_line(reader) || strncmp(reader->line, key, length) != 0 ||
        reader->line[length] != ' ')
        return NULL;
    return reader->line + length + 1;
}

static bool parse_number(const char **at, int base, uint64_t *number)
{
    char *end;

    if (!isxdigit((unsigned char)**at))
        return false;
    errno = 0;
    *number = strtoull(*at, &end, base);
    if (errno != 0 || end == *at || (*end != ' ' && *end != '\0'))
        return false;
    *at = *end == ' ' ? end + 1 : end;
    return true;
}

static bool read_number(struct reader *reader, const char *key, int base, uint64_t *number)
{
    const char *value = value_of(reader, key);

    return value != NULL && parse_number(&value, base, number) && *value == '\0';
}

static bool parse_content(const char **at, struct dirty_block *block)
{
    uint64_t crc = 0;

    block->zero = strncmp(*at, "zero", 4) == 0;
    block->lost = strncmp(*at, "lost", 4) == 0;
    if (!block->zero && !block->lost)
        return parse_number(at, 16, &crc) && crc <= UINT32_MAX && ((block->crc = (uint32_t)crc), 1);
    *at += 4;
    if (**at == ' ')
        ++*at;
    return true;
}

/* "BLOCK COUNT CONTENT..." */
static bool parse_range(struct reader *reader, struct attachment *file)
{
    const char *at = reader->line;
    uint64_t block, count, last = 0;

    if (reader->dirty_read > 0)
        last = file->dirty[reader->dirty_read - 1].block + 1;
    if (!parse_number(&at, 10, &block) || !parse_number(&at, 10, &count) || block < last ||
        count == 0 || count > file->dirty_count - reader->dirty_read ||
        block + count > VOLUME_BLOCKS_MAX)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        struct dirty_block *to = &file->dirty[reader->dirty_read++];

        *to = (struct dirty_block){.block = block + i};
        if (!parse_content(&at, to))
            return false;
    }
    return *at == '\0';
}

static int parse_dirty(struct reader *reader, struct attachment *file)
{
    struct stat status;
    uint64_t crc, computed;

    if (!read_number(reader, "dirty", 10, &file->dirty_count) ||
        fstat(fileno(reader->stream), &status) != 0 || file->dirty_count > (uint64_t)status.st_size)
        return -EBADMSG;
    file->dirty = calloc(file->dirty_count + 1, sizeof(*file->dirty));
    if (file->dirty == NULL)
        return -ENOMEM;
    while (reader->dirty_read < file->dirty_count)
        if (!next_line(reader) || !parse_range(reader, file))
            return -EBADMSG;
    computed = reader->crc;
    return read_number(reader, "end", 16, &crc) && crc == computed ? 0 : -EBADMSG;
}

static int parse(struct reader *reader, struct attachment *file)
{
    const char *value;
    struct uuid uuid;
    bool old, first;

    if (!next_line(reader))
        return -EBADMSG;
    old = strncmp(reader->line, "epoch ", 6) == 0; /* of a version that kept nothing else */
    value = reader->line + 6;
    if (old && !(parse_number(&value, 10, &file->epoch) && *value == '\0'))
        return -EBADMSG;
    first = strcmp(reader->line, "blkcached attachment 1") == 0;
    if (!old && ((!first && strcmp(reader->line, "blkcached attachment 2") != 0) ||
                 !read_number(reader, "epoch", 10, &file->epoch)))
        return -EBADMSG;
    value = value_of(reader, "flash");
    if (value == NULL || uuid_parse(value, &uuid) != 0)
        return -EBADMSG;
    memcpy(file->flash, uuid.bytes, sizeof(file->flash));
    file->state = ATTACHMENT_ATTACHED;
    if (old)
        return 0;
    if (!first && !read_number(reader, "sequence", 10, &file->sequence))
        return -EBADMSG;
    value = value_of(reader, "state");
    for (file->state = ATTACHMENT_ATTACHED; file->state <= ATTACHMENT_DETACHED; file->state++)
        if (value != NULL && strcmp(value, states[file->state]) == 0)
            return parse_dirty(reader, file);
    return -EBADMSG;
}

int attachment_load(const char *state_dir, const char *volume, struct attachment *file, char *why,
                    size_t why_bytes)
{
    struct reader reader = {0};
    char path[PATH_MAX];
    int error, synced = 0;

    memset(file, 0, sizeof(*file));
    attachment_path(state_dir, volume, path, sizeof(path));
    reader.stream = fopen(path, "re");
    if (reader.stream == NULL && errno == ENOENT)
        return 0;
    if (reader.stream == NULL)
        return refuse(path, "cannot read it", -errno, why, why_bytes);
    error = parse(&reader, file);
    /* Whoever wrote it may have been killed before it was durable. */
    if (!error)
        synced = fsync(fileno(reader.stream)) == 0 ? sync_path(state_dir) : -errno;
    fclose(reader.stream);
    free(reader.line);
    if (!error && !synced)
        return 0;
    free(file->dirty);
    memset(file, 0, sizeof(*file));
    if (synced)
        return refuse(path, "cannot make it durable", synced, why, why_bytes);
    snprintf(why, why_bytes,
             "%s: this file, which tells what is dirty on which flash for volume \"%s\", is "
             "damaged; restore it, or remove it and start with --trust-flash or --discard-dirty",
             path, volume);
    return error;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void put(FILE *stream, uint32_t *crc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void put(FILE *stream, uint32_t *crc, const char *format, ...)
{
    char text[128];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    *crc = crc32c(*crc, text, (size_t)length);
    fwrite(text, 1, (size_t)length, stream);
}

/* How many from `first` on lie side by side. */
static uint64_t range_length(const struct dirty_block *dirty, uint64_t first, uint64_t count)
{
    uint64_t end = first + 1;

    while (end < count && dirty[end].block == dirty[end - 1].block + 1)
        end++;
    return end - first;
}

static void put_dirty(FILE *stream, uint32_t *crc, const struct attachment *file)
{
    put(stream, crc, "dirty %" PRIu64 "\n", file->dirty_count);
    for (uint64_t i = 0, end; i < file->dirty_count; i = end) {
        uint64_t count = range_length(file->dirty, i, file->dirty_count);

        end = i + count;
        put(stream, crc, "%" PRIu64 " %" PRIu64, file->dirty[i].block, count);
        for (uint64_t k = i; k < end; k++) {
            if (file->dirty[k].lost || file->dirty[k].zero)
                put(stream, crc, file->dirty[k].lost ? " lost" : " zero");
            else
                put(stream, crc, " %08" PRIx32, file->dirty[k].crc);
        }
        put(stream, crc, "\n");
    }
}

static int write_file(FILE *stream, const struct attachment *file)
{
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;
    uint32_t crc = 0;

    memcpy(uuid.bytes, file->flash, sizeof(uuid.bytes));
    put(stream, &crc, "blkcached attachment 2\n");
    put(stream, &crc, "epoch %" PRIu64 "\n", file->epoch);
    put(stream, &crc, "flash %s\n", uuid_print(text, &uuid));
    put(stream, &crc, "sequence %" PRIu64 "\n", file->sequence);
    put(stream, &crc, "state %s\n", states[file->state]);
    put_dirty(stream, &crc, file);
    fprintf(stream, "end %08" PRIx32 "\n", crc);
    errno = 0;
    if (fflush(stream) != 0 || ferror(stream))
        return errno != 0 ? -errno : -EIO;
    return fsync(fileno(stream)) == 0 ? 0 : -errno;
}

int attachment_store(const char *state_dir, const char *volume, const struct attachment *file,
                     char *why, size_t why_bytes)
{
    char path[PATH_MAX], new_path[PATH_MAX + 8];
    FILE *stream;
    int fd, error;

    if (mkdir(state_dir, 0700) != 0 && errno != EEXIST)
        return refuse(state_dir, "cannot make the state directory", -errno, why, why_bytes);
    attachment_path(state_dir, volume, path, sizeof(path));
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    stream = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (stream == NULL) {
        error = -errno;
        if (fd >= 0)
            close(fd);
        return refuse(new_path, "cannot write it", error, why, why_bytes);
    }
    error = write_file(stream, file);
    if (fclose(stream) != 0 && !error)
        error = -errno;
    if (!error && rename(new_path, path) != 0)
        error = -errno;
    if (!error)
        error = sync_path(state_dir);
    if (error)
        return refuse(path, "cannot write it", error, why, why_bytes);
    return 0;
}

/* ---- telling ------------------------------------------------------------------------------ */

void attachment_describe(const struct dirty_block *dirty, uint64_t count, char *text,
                         size_t text_bytes)
{
    size_t used;
    unsigned ranges = 0;

    used = (size_t)snprintf(text, text_bytes, "%" PRIu64 " block%s (%" PRIu64 " bytes)%s", count,
                            count == 1 ? "" : "s", count * BLOCK_BYTES, count > 0 ? ":" : "");
    for (uint64_t i = 0, length; i < count && used + 64 < text_bytes; i += length) {
        length = range_length(dirty, i, count);
        if (ranges++ == RANGES_TOLD) {
            snprintf(text + used, text_bytes - used, " ...");
            return;
        }
        used += (size_t)snprintf(text + used, text_bytes - used,
                                 length > 1 ? " %" PRIu64 "-%" PRIu64 : " %" PRIu64, dirty[i].block,
                                 dirty[i].block + length - 1);
    }
}
