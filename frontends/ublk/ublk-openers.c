/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a block device open. */
#include "frontends/ublk/ublk-openers.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEVICES_MAX         260u        /* the disk and its partitions */
#define PID_NAMESPACE_FIRST 0xEFFFFFFCu /* PROC_PID_INIT_INO in Linux' include/linux/proc_ns.h */

struct search {
    dev_t devices[DEVICES_MAX];
    unsigned device_count;
    char *who;
    size_t who_bytes;
};

/* ---- the numbers of the disk and its partitions --------------------------------------------- */

static bool read_number(const char *path, dev_t *device)
{
    unsigned major, minor;
    FILE *file = fopen(path, "re");
    bool good = file != NULL && fscanf(file, "%u:%u", &major, &minor) == 2;

    if (good)
        *device = makedev(major, minor);
    if (file != NULL)
        fclose(file);
    return good;
}

static void find_devices(struct search *search, unsigned number)
{
    char folder[64], path[400];
    struct dirent *entry;
    DIR *directory;

    snprintf(folder, sizeof(folder), "/sys/block/ublkb%u", number);
    snprintf(path, sizeof(path), "%s/dev", folder);
    if (!read_number(path, &search->devices[0]))
        return;
    search->device_count = 1;
    directory = opendir(folder);
    while (directory != NULL && search->device_count < DEVICES_MAX &&
           (entry = readdir(directory)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s/dev", folder, entry->d_name);
        if (strncmp(entry->d_name, "ublkb", 5) == 0 &&
            read_number(path, &search->devices[search->device_count]))
            search->device_count++;
    }
    if (directory != NULL)
        closedir(directory);
}

/* ---- processes ------------------------------------------------------------------------------ */

static bool is_ours(const struct search *search, const struct stat *status)
{
    for (unsigned i = 0; S_ISBLK(status->st_mode) && i < search->device_count; i++) {
        if (status->st_rdev == search->devices[i])
            return true;
    }
    return false;
}

static void name_process(const struct search *search, long pid)
{
    char path[64], name[64] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(name, sizeof(name), file) == NULL)
            name[0] = '\0';
        fclose(file);
    }
    name[strcspn(name, "\n")] = '\0';
    snprintf(search->who, search->who_bytes, "open in process %ld (%s)", pid, name);
}

/* One that ended meanwhile has nothing open; one that is hidden may have. */
static bool process_has_it(const struct search *search, long pid)
{
    struct dirent *entry;
    struct stat status;
    char path[64];
    bool found = false;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%ld/fd", pid);
    directory = opendir(path);
    if (directory == NULL)
        return errno == EACCES || errno == EPERM;
    while (!found && (entry = readdir(directory)) != NULL)
        found = isdigit((unsigned char)entry->d_name[0]) &&
                fstatat(dirfd(directory), entry->d_name, &status, 0) == 0 &&
                is_ours(search, &status);
    closedir(directory);
    return found;
}

static bool find_process(const struct search *search)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    bool found = false;

    while (directory != NULL && !found && (entry = readdir(directory)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);

        if (pid <= 0 || pid == getpid() || !process_has_it(search, pid))
            continue;
        found = true;
        name_process(search, pid);
    }
    if (directory != NULL)
        closedir(directory);
    return found;
}

bool ublk_openers_find(unsigned number, int *claim, char *who, size_t who_bytes)
{
    struct search search = {.who = who, .who_bytes = who_bytes};
    char path[64];

    snprintf(path, sizeof(path), "/dev/ublkb%u", number);
    *claim = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (*claim < 0 && errno == EBUSY) {
        snprintf(who, who_bytes, "mounted, or used by another device");
        return true;
    }
    find_devices(&search, number);
    if (search.device_count == 0 || !find_process(&search))
        return false;
    if (*claim >= 0)
        close(*claim);
    *claim = -1;
    return true;
}

bool ublk_openers_all_seen(void)
{
    struct stat status;

    return stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == PID_NAMESPACE_FIRST;
}
