/* SPDX-License-Identifier: Apache-2.0 */
/* The ublk front end: all devices. */
#include "frontends/ublk/ublk-server.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "frontends/ublk/ublk-device.h"
#include "io/volume.h"

/* Longer than the kernel needs to give up an old server, shorter than systemd waits. */
#define START_NS UINT64_C(60000000000)

struct ublk_server {
    struct cache *cache;
    unsigned started;
    struct ublk_device
        *devices[VOLUMES_MAX]; /* those that were taken away stay, without a volume */
};

/* ---- what earlier daemons left -------------------------------------------------------------- */

static struct volume *volume_of_mark(struct cache *cache, uint64_t mark)
{
    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++) {
        if (ublk_device_mark(volume) == mark)
            return volume;
    }
    return NULL;
}

static void clear_one(struct ublk_server *server, struct ublk_control *control, unsigned number)
{
    struct volume *volume;
    struct ublk_info info;
    char why[200];

    if (ublk_control_info(control, number, &info) != 0)
        return;
    volume = volume_of_mark(server->cache, info.server_flags);
    if (volume == NULL || volume->ublk == (int)number)
        return;
    if (ublk_device_clear(control, number, why, sizeof(why)))
        log_notice("removed a ublk device of an earlier configuration",
                   LOG_STR("volume", volume->name), LOG_UINT("number", number));
    else
        log_warning(
            "a ublk device of an earlier configuration is still in use, and nothing answers "
            "it: unmount it, or give the volume its old number",
            LOG_STR("volume", volume->name), LOG_UINT("number", number), LOG_STR("use", why));
}

/* Devices of our volumes under numbers that they do not have any more. */
static void clear_old_numbers(struct ublk_server *server)
{
    DIR *directory = opendir("/sys/class/ublk-char");
    struct ublk_control control;
    struct dirent *entry;
    char why[400];
    unsigned number;

    if (directory == NULL)
        return;
    if (ublk_control_open(&control, why, sizeof(why)) == 0) {
        while ((entry = readdir(directory)) != NULL) {
            if (sscanf(entry->d_name, "ublkc%u", &number) == 1)
                clear_one(server, &control, number);
        }
        ublk_control_close(&control);
    }
    closedir(directory);
}

/* ---- life ----------------------------------------------------------------------------------- */

int ublk_server_check(char *why, size_t why_bytes)
{
    struct ublk_control control;
    int error = ublk_control_open(&control, why, why_bytes);

    if (!error)
        ublk_control_close(&control);
    return error;
}

int ublk_server_create(struct ublk_server **created, struct cache *cache, char *why,
                       size_t why_bytes)
{
    struct ublk_server *server;
    const struct volume *volume;
    char reason[400];
    unsigned count = 0;
    int error;

    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++)
        count += volume->ublk >= 0;
    if (count > 0) {
        error = ublk_server_check(reason, sizeof(reason));
        if (error) {
            snprintf(why, why_bytes, "ublk: %s", reason);
            return error;
        }
    }
    server = calloc(1, sizeof(*server));
    if (server == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    server->cache = cache;
    *created = server;
    return 0;
}

/* Begins to start the volume's device.  NULL: no memory, or no place. */
static struct ublk_device *begin(struct ublk_server *server, struct volume *volume)
{
    struct ublk_device *device;
    unsigned place = 0;

    while (place < server->started && server->devices[place]->volume != NULL)
        place++;
    if (place == VOLUMES_MAX)
        return NULL;
    if (place == server->started) {
        device = calloc(1, sizeof(*device));
        if (device == NULL)
            return NULL;
        server->devices[place] = device;
        server->started++;
    } else {
        device = server->devices[place];
        ublk_device_destroy(device);
    }
    ublk_device_start(device, volume);
    return device;
}

static int wait_for(struct ublk_device *device, uint64_t due_ns, char *why, size_t why_bytes)
{
    if (!ublk_device_wait(device, due_ns)) {
        log_warning("a ublk device still starts: the backing store is slow",
                    LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number));
        return 0;
    }
    if (device->error)
        snprintf(why, why_bytes, "%s", device->why);
    return device->error;
}

int ublk_server_start(struct ublk_server *server, char *why, size_t why_bytes)
{
    struct volume *volume;
    uint64_t due_ns;
    char other[sizeof(server->devices[0]->why)];
    int error = 0;

    clear_old_numbers(server);
    for (unsigned i = 0; (volume = volume_at(server->cache, i)) != NULL && !error; i++) {
        if (volume->ublk < 0)
            continue;
        if (begin(server, volume) == NULL) {
            snprintf(why, why_bytes, "out of memory");
            error = -ENOMEM;
        }
    }
    due_ns = clock_ns() + START_NS;
    for (unsigned i = 0; i < server->started; i++) {
        int failed = wait_for(server->devices[i], due_ns, error ? other : why,
                              error ? sizeof(other) : why_bytes);

        error = error ? error : failed;
    }
    return error;
}

int ublk_server_attach(struct ublk_server *server, struct volume *volume, char *why,
                       size_t why_bytes)
{
    struct ublk_device *device;
    char reason[400];
    int error = ublk_server_check(reason, sizeof(reason));

    if (error) {
        snprintf(why, why_bytes, "ublk: %s", reason);
        return error;
    }
    device = begin(server, volume);
    if (device == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    error = wait_for(device, clock_ns() + START_NS, why, why_bytes);
    if (error) {
        ublk_device_stop(device);
        device->volume = NULL;
    }
    return error;
}

int ublk_server_detach(struct ublk_server *server, const struct volume *volume, char *why,
                       size_t why_bytes)
{
    for (unsigned i = 0; i < server->started; i++) {
        struct ublk_device *device = server->devices[i];

        if (device->volume != volume)
            continue;
        if (!ublk_device_take_away(device, why, why_bytes))
            return -EBUSY;
        device->volume = NULL;
    }
    return 0;
}

void ublk_server_stop(struct ublk_server *server)
{
    for (unsigned i = 0; i < server->started; i++)
        ublk_device_stop(server->devices[i]);
}

void ublk_server_destroy(struct ublk_server *server)
{
    for (unsigned i = 0; i < server->started; i++) {
        ublk_device_destroy(server->devices[i]);
        free(server->devices[i]);
    }
    free(server);
}

/* ---- what it tells -------------------------------------------------------------------------- */

bool ublk_server_status(struct ublk_server *server, const struct volume *volume,
                        struct ublk_status *status)
{
    static const char *const states[] = {"starting", "serving", "failed", "gone", "left"};

    memset(status, 0, sizeof(*status));
    for (unsigned i = 0; i < server->started; i++) {
        struct ublk_device *device = server->devices[i];
        int state = atomic_load(&device->state);

        if (device->volume != volume)
            continue;
        status->number = device->number;
        status->state = states[state];
        if (state != UBLK_DEVICE_SERVING)
            return true;
        status->adopted = device->adopted;
        status->queues = device->queue_count;
        status->depth = device->info.depth;
        for (unsigned q = 0; q < device->queue_count; q++) {
            for (unsigned counter = 0; counter < UBLK_COUNTER_COUNT; counter++)
                status->counters[counter] += atomic_load_explicit(
                    &device->queues[q].counters[counter], memory_order_relaxed);
        }
        return true;
    }
    return false;
}
