/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: any bytes as a file.  It is either accepted, with values that are in range, or
 * refused with at least one sentence that names the file.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config-keys.h"
#include "daemon/config.h"
#include "tests/fuzz/fuzz.h"

/* libconfig 1.5 leaks the string that a syntax error is in. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

static char path[64];
static int file = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    file = memfd_create("fuzz-config", 0);
    FUZZ_CHECK(file >= 0, "no memory file");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return 0;
}

static void text_check(const char *text, size_t low, size_t high)
{
    size_t bytes = text ? strlen(text) : 0;

    FUZZ_CHECK(text && bytes >= low && bytes <= high, "a text of %zu bytes was accepted", bytes);
}

static void accepted_check(const struct config *config)
{
    text_check(config->daemon.control, 1, CONFIG_SOCKET_PATH_MAX);
    text_check(config->daemon.state_dir, 1, 4095);
    text_check(config->cache.flash, 1, 4095);
    FUZZ_CHECK(config->daemon.control[0] == '/', "the control socket has a relative path");
    FUZZ_CHECK(config->cache.volatile_cache <= 2, "volatile_cache");
    for (unsigned i = 0; i < config->nbd.listen.count; i++)
        text_check(config->nbd.listen.list[i], 1, 255);
    for (unsigned i = 0; i < config->volume_count; i++) {
        const struct config_volume *volume = &config->volumes[i];

        text_check(volume->name, 1, 127);
        text_check(volume->backing, 1, 4095);
        FUZZ_CHECK(volume->mode <= 3 && volume->dirty_max >= 1 && volume->dirty_max <= 95,
                   "volume %u: a value out of range", i);
        for (unsigned j = 0; j < i; j++)
            FUZZ_CHECK(strcmp(config->volumes[j].name, volume->name) != 0, "one name twice");
    }
}

/* Files that the text includes could be any of this machine. */
static bool includes(const uint8_t *data, size_t bytes)
{
    return memmem(data, bytes, "@include", 8) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct config *config = NULL;
    char *problems = NULL;
    size_t problems_bytes;
    FILE *to;
    int error;

    if (includes(data, bytes))
        return 0;
    FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, bytes, 0) == (ssize_t)bytes,
               "the memory file cannot be written");
    to = open_memstream(&problems, &problems_bytes);
    error = config_load(&config, path, to);
    fclose(to);
    if (error) {
        FUZZ_CHECK(config == NULL && strncmp(problems, path, strlen(path)) == 0,
                   "refused without a reason: \"%s\"", problems);
    } else {
        accepted_check(config);
        config_free(config);
    }
    free(problems);
    return 0;
}
