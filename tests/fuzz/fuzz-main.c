/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays inputs through a fuzz target, without libFuzzer:  fuzz-TARGET FILE|DIRECTORY...
 *
 * The name of each input is printed before it runs, so that the last one is the one that failed.
 * Options of libFuzzer are ignored.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES_MAX   (1u << 20)
#define SECONDS_PER_INPUT 60 /* also under valgrind; what hangs is ended by SIGALRM */

#pragma weak LLVMFuzzerInitialize

static unsigned replayed;

static int fail(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
}

static int file_replay(const char *path)
{
    FILE *file = fopen(path, "re");
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    size_t bytes;
    uint8_t *exact;

    if (file == NULL || data == NULL)
        return fail(path);
    bytes = fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    /* Of its exact size, so that reading past the end is noticed. */
    exact = realloc(data, bytes ? bytes : 1);
    if (exact == NULL)
        return fail(path);
    fprintf(stderr, "%s\n", path);
    alarm(SECONDS_PER_INPUT);
    LLVMFuzzerTestOneInput(exact, bytes);
    alarm(0);
    free(exact);
    replayed++;
    return 0;
}

static int skip_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int directory_replay(const char *path)
{
    struct dirent **entries;
    char name[4096];
    int count = scandir(path, &entries, skip_hidden, alphasort), failed = 0;

    if (count < 0)
        return fail(path);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        failed |= file_replay(name);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    struct stat status;
    int failed = 0;

    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            continue;
        if (stat(argv[i], &status) != 0)
            failed |= fail(argv[i]);
        else
            failed |= S_ISDIR(status.st_mode) ? directory_replay(argv[i]) : file_replay(argv[i]);
    }
    fprintf(stderr, "%u inputs replayed\n", replayed);
    return failed || replayed == 0;
}
