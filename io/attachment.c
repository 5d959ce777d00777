/* SPDX-License-Identifier: Apache-2.0 */
/* Attachment epochs in the state directory: one small text file for each volume. */
#include "io/attachment.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/uuid.h"

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

int attachment_load(const char *state_dir, const char *volume, uint64_t *epoch, char *why,
                    size_t why_bytes)
{
    char path[PATH_MAX];
    FILE *file;
    int got;

    *epoch = 0;
    attachment_path(state_dir, volume, path, sizeof(path));
    file = fopen(path, "re");
    if (file == NULL && errno == ENOENT)
        return 0;
    if (file == NULL)
        return refuse(path, "cannot read the attachment epoch", -errno, why, why_bytes);
    got = fscanf(file, "epoch %" SCNu64, epoch);
    fclose(file);
    if (got == 1)
        return 0;
    snprintf(why, why_bytes,
             "%s: not an attachment epoch; restore the file, or remove it if volume \"%s\" was "
             "never used without this flash",
             path, volume);
    return -EBADMSG;
}

static int write_all(int fd, const char *text)
{
    size_t bytes = strlen(text);
    ssize_t written = write(fd, text, bytes);

    if (written < 0)
        return -errno;
    if ((size_t)written != bytes)
        return -EIO;
    return fsync(fd) == 0 ? 0 : -errno;
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error;

    if (fd < 0)
        return -errno;
    error = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return error;
}

int attachment_store(const char *state_dir, const char *volume, uint64_t epoch,
                     const uint8_t flash_uuid[16], char *why, size_t why_bytes)
{
    char path[PATH_MAX], new_path[PATH_MAX + 8], text[128], uuid_text[UUID_TEXT_BYTES];
    struct uuid uuid;
    int fd, error;

    if (mkdir(state_dir, 0700) != 0 && errno != EEXIST)
        return refuse(state_dir, "cannot make the state directory", -errno, why, why_bytes);
    attachment_path(state_dir, volume, path, sizeof(path));
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    memcpy(uuid.bytes, flash_uuid, sizeof(uuid.bytes));
    snprintf(text, sizeof(text), "epoch %" PRIu64 "\nflash %s\n", epoch,
             uuid_print(uuid_text, &uuid));

    fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return refuse(new_path, "cannot write the attachment epoch", -errno, why, why_bytes);
    error = write_all(fd, text);
    close(fd);
    if (!error && rename(new_path, path) != 0)
        error = -errno;
    if (!error)
        error = sync_directory(state_dir);
    if (error)
        return refuse(path, "cannot write the attachment epoch", error, why, why_bytes);
    return 0;
}
