/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-save.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/format.h"

void sim_save(const struct disk *flash, const char *directory, uint64_t number)
{
    static const unsigned char zeros[BLOCK_BYTES];
    const unsigned char *image = disk_current(flash);
    uint64_t bytes = disk_bytes(flash);
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%" PRIu64 ".img", directory, number);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        perror(path);
        exit(2);
    }
    for (uint64_t at = 0; at < bytes; at += BLOCK_BYTES) {
        size_t length = bytes - at < BLOCK_BYTES ? (size_t)(bytes - at) : BLOCK_BYTES;

        if (memcmp(image + at, zeros, length) != 0 &&
            pwrite(fd, image + at, length, (off_t)at) != (ssize_t)length) {
            perror(path);
            exit(2);
        }
    }
    close(fd);
}
