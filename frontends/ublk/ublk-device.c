/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's ublk device. */
#include "frontends/ublk/ublk-device.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "frontends/ublk/ublk-openers.h"
#include "frontends/ublk/ublk-params.h"
#include "io/backing.h"
#include "io/volume.h"

#define DEPTH              64u
#define DEPTH_MAX          1024u                /* of a device that another version left behind */
#define MARK_MAGIC         UINT64_C(0x626b6364) /* "bkcd" */
#define REQUEST_TIMEOUT_MS 1000u
#define POLL_NS            20000000
#define NODE_TRIES         250u /* times POLL_NS: for /dev/ublkcN to appear */
#define ADOPT_TRIES \
    4500u              /* times POLL_NS: the kernel may need its request timeout, 30 s, to see
                                that a server is gone whose queue was full */
#define FREE_TRIES 25u /* times POLL_NS: for those to be gone who only had a look */

static void pause_a_moment(void)
{
    struct timespec moment = {.tv_nsec = POLL_NS};

    nanosleep(&moment, NULL);
}

static int fail(struct ublk_device *device, int error, const char *what)
{
    snprintf(device->why, sizeof(device->why), "volume \"%s\": /dev/ublkb%u: %s: %s",
             device->volume->name, device->number, what, strerror(-error));
    return error;
}

uint64_t ublk_device_mark(struct volume *volume)
{
    uint64_t halves[2];

    memcpy(halves, volume_uuid(volume), sizeof(halves));
    return MARK_MAGIC << 32 | (uint32_t)hash_pair64(halves[0], halves[1]);
}

static struct ublk_facts facts_of(const struct ublk_device *device)
{
    const struct backing_info *backing = backing_info(device->volume->backing);

    return (struct ublk_facts){
        .bytes = device->volume->bytes,
        .sector_bytes = backing->sector_bytes,
        .read_only = device->volume->read_only,
        .is_volatile = volume_is_volatile(device->volume),
        .can_trim = backing->can_trim,
    };
}

/* ---- queues --------------------------------------------------------------------------------- */

/* On a core. */
static void queue_told(struct ublk_queue *queue, enum ublk_queue_event event)
{
    struct ublk_device *device = queue->owner;

    pthread_mutex_lock(&device->lock);
    switch (event) {
    case UBLK_QUEUE_OPENED: device->queues_opened++; break;
    case UBLK_QUEUE_ENDED: device->queues_ended++; break;
    case UBLK_QUEUE_LEFT: device->queues_left++; break;
    }
    if (queue->error != 0)
        device->queue_error = queue->error;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->lock);
}

static void wait_for_queues(struct ublk_device *device, const unsigned *count)
{
    pthread_mutex_lock(&device->lock);
    while (*count < device->queue_count)
        pthread_cond_wait(&device->changed, &device->lock);
    pthread_mutex_unlock(&device->lock);
}

/* They end or are left; one may end while it is being left. */
static void wait_until_left(struct ublk_device *device)
{
    pthread_mutex_lock(&device->lock);
    while (device->queues_left + device->queues_ended < device->queue_count)
        pthread_cond_wait(&device->changed, &device->lock);
    pthread_mutex_unlock(&device->lock);
}

static int open_node(struct ublk_device *device)
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/ublkc%u", device->number);
    for (unsigned tries = 0; tries < NODE_TRIES; tries++) {
        device->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (device->fd >= 0)
            return 0;
        if (errno != ENOENT && errno != EBUSY && errno != EACCES)
            break;
        pause_a_moment();
    }
    snprintf(device->why, sizeof(device->why), "volume \"%s\": %s: %s", device->volume->name, path,
             strerror(errno));
    return -errno;
}

/* The kernel has as many queues as it likes, at most as many as it was asked for. */
static int open_queues(struct ublk_device *device, bool has_flush)
{
    int error = open_node(device);

    if (error)
        return error;
    device->queues = calloc(device->info.queues, sizeof(*device->queues));
    if (device->queues == NULL)
        return fail(device, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < device->info.queues; i++) {
        struct ublk_queue *queue = &device->queues[i];

        queue->volume = device->volume;
        queue->core = core_at(i % core_count());
        queue->fd = device->fd;
        queue->index = (uint16_t)i;
        queue->depth = device->info.depth;
        queue->encoded = device->control.encoded;
        queue->has_flush = has_flush;
        queue->told = queue_told;
        queue->owner = device;
        error = ublk_queue_create(queue, device->info.io_bytes_max);
        device->queue_count = i + 1; /* also a half-made one: there is something to destroy */
        if (error)
            return fail(device, error, "cannot set up a queue");
    }
    for (unsigned i = 0; i < device->queue_count; i++)
        ublk_queue_open(&device->queues[i]);
    wait_for_queues(device, &device->queues_opened);
    if (device->queue_error)
        return fail(device, device->queue_error, "the kernel refused a queue");
    return 0;
}

static void close_queues(struct ublk_device *device)
{
    for (unsigned i = 0; i < device->queue_count; i++)
        ublk_queue_destroy(&device->queues[i]);
    free(device->queues);
    device->queues = NULL;
    device->queue_count = 0;
    if (device->fd >= 0)
        close(device->fd);
    device->fd = -1;
}

/* ---- a new device --------------------------------------------------------------------------- */

static int add(struct ublk_device *device)
{
    struct ublk_facts facts = facts_of(device);
    struct ublk_params params;
    int error;

    device->info = (struct ublk_info){
        .queues = (uint16_t)core_count(),
        .depth = DEPTH,
        .io_bytes_max = UBLK_IO_BYTES,
        .number = device->number,
        .pid = getpid(),
        .flags = UBLK_FLAG_USER_RECOVERY | UBLK_FLAG_USER_RECOVERY_REISSUE |
                 (device->control.features & UBLK_FLAG_UPDATE_SIZE),
        .server_flags = ublk_device_mark(device->volume),
    };
    if (facts.sector_bytes != 512 && facts.sector_bytes != 4096)
        return fail(device, -EINVAL, "the backing store's logical block size is not supported");
    if (ublk_params_sectors(&facts) == 0)
        return fail(device, -EINVAL, "the volume is smaller than a sector");
    error = ublk_control_add(&device->control, &device->info);
    if (error)
        return fail(device, error,
                    error == -EEXIST ? "the number is taken; give the volume another one"
                                     : "cannot add a ublk device");
    device->exists = true;
    if (device->info.io_bytes_max != UBLK_IO_BYTES || device->info.depth != DEPTH)
        return fail(device, -EINVAL, "the kernel changed the size of its queues");
    ublk_params_fill(&params, &facts, device->info.io_bytes_max);
    error = ublk_control_set_params(&device->control, device->number, &params);
    if (error)
        return fail(device, error, "the kernel refused its parameters");
    error = open_queues(device, facts.is_volatile);
    if (error)
        return error;
    /* Reads the partition table: from here the queues answer. */
    error = ublk_control_start(&device->control, device->number);
    return error ? fail(device, error, "the kernel cannot start it") : 0;
}

/* ---- one that was left behind ---------------------------------------------------------------- */

/* The kernel takes a moment, or its request timeout, to be done with the old server. */
static int begin_recovery(struct ublk_device *device)
{
    int error = -EBUSY;

    for (unsigned tries = 0; tries < ADOPT_TRIES && error == -EBUSY; tries++) {
        error = ublk_control_begin_recovery(&device->control, device->number);
        if (error != -EBUSY)
            break;
        if (tries == 100)
            log_notice("waiting for the kernel to give up the old server of a ublk device",
                       LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number),
                       LOG_INT("pid", device->info.pid));
        pause_a_moment();
    }
    if (error == -EBUSY) {
        snprintf(device->why, sizeof(device->why),
                 "volume \"%s\": /dev/ublkb%u is still served by process %d; stop it",
                 device->volume->name, device->number, (int)device->info.pid);
        return error;
    }
    return error ? fail(device, error, "the kernel does not hand it over") : 0;
}

/* What cannot be changed while it exists, and what that means. */
static void compare(struct ublk_device *device, const struct ublk_params *params)
{
    struct ublk_facts facts = facts_of(device);
    uint64_t sectors = ublk_params_sectors(&facts);
    bool read_only = params->basic.attributes & UBLK_ATTRIBUTE_READ_ONLY;

    if (sectors != params->basic.sectors &&
        ublk_control_set_size(&device->control, device->number, sectors) != 0)
        log_warning("a ublk device keeps its old size until nobody uses it at a stop of the daemon",
                    LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number),
                    LOG_UINT("bytes", params->basic.sectors << UBLK_SECTOR_SHIFT));
    if (read_only != facts.read_only)
        log_warning("a ublk device stays read-only or writable, as it was, until nobody uses it at "
                    "a stop of the daemon; writes are refused as read_only says",
                    LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number));
}

static int adopt(struct ublk_device *device)
{
    struct ublk_params params;
    bool has_flush;
    int error;

    if (device->info.io_bytes_max > UBLK_IO_BYTES_MAX || device->info.io_bytes_max == 0 ||
        device->info.depth > DEPTH_MAX || device->info.depth == 0 || device->info.queues == 0)
        return fail(device, -EINVAL,
                    "left behind by a version whose queues this one cannot serve; unmount it, and "
                    "start that version once more");
    error = begin_recovery(device);
    if (error)
        return error;
    error = ublk_control_get_params(&device->control, device->number, &params);
    if (error)
        return fail(device, error, "the kernel does not tell its parameters");
    has_flush = params.basic.attributes & UBLK_ATTRIBUTE_VOLATILE_CACHE;
    error = open_queues(device, has_flush);
    if (error)
        return error;
    error = ublk_control_end_recovery(&device->control, device->number);
    if (error)
        return fail(device, error, "the kernel does not let it go on");
    device->adopted = true;
    compare(device, &params);
    return 0;
}

static int find_or_add(struct ublk_device *device)
{
    int error = ublk_control_info(&device->control, device->number, &device->info);

    if (error == -ENODEV || error == -EINVAL)
        return add(device);
    if (error)
        return fail(device, error, "cannot ask the kernel about it");
    if (device->info.server_flags != ublk_device_mark(device->volume)) {
        bool ours = device->info.server_flags >> 32 == MARK_MAGIC;

        snprintf(device->why, sizeof(device->why),
                 "volume \"%s\": /dev/ublkb%u is taken by %s (process %d); give the volume another "
                 "number, or remove that device",
                 device->volume->name, device->number,
                 ours ? "another volume, or by this one on another flash" : "another program",
                 (int)device->info.pid);
        return -EEXIST;
    }
    if (device->info.state == UBLK_STATE_DEAD) {
        /* A daemon ended between two steps; nobody ever saw this one. */
        error = ublk_control_delete(&device->control, device->number);
        return error ? fail(device, error, "cannot remove what is left of it") : add(device);
    }
    device->exists = true;
    return adopt(device);
}

/* The kernel looks for a dead server when a request is that old, if all tags of a queue are in use:
 * by default after 30 s, which the next daemon would have to wait. */
static void shorten_timeout(const struct ublk_device *device)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/sys/block/ublkb%u/queue/io_timeout", device->number);
    file = fopen(path, "we");
    if (file == NULL || fprintf(file, "%u\n", REQUEST_TIMEOUT_MS) < 0)
        log_debug("the request timeout of a ublk device cannot be set",
                  LOG_STR("volume", device->volume->name));
    if (file != NULL)
        fclose(file);
}

/* ---- start ---------------------------------------------------------------------------------- */

/* It never served, or it was never adopted: a new one is taken away, one that waits goes on doing so.
 * FETCH commands that the kernel holds are ended with the ring in the latter case. */
static void undo(struct ublk_device *device)
{
    if (device->exists && device->info.state == UBLK_STATE_DEAD) {
        ublk_control_stop(&device->control, device->number);
        if (device->queues_opened == device->queue_count)
            wait_for_queues(device, &device->queues_ended);
        close_queues(device);
        ublk_control_delete(&device->control, device->number);
    }
}

static void *start(void *argument)
{
    struct ublk_device *device = argument;
    char why[400] = "";
    int error;

    pthread_setname_np(pthread_self(), "ublk");
    error = ublk_control_open(&device->control, why, sizeof(why));
    if (error)
        snprintf(device->why, sizeof(device->why), "volume \"%s\": ublk: %s", device->volume->name,
                 why);
    else
        error = find_or_add(device);
    if (error)
        undo(device);
    else
        shorten_timeout(device);
    if (!error)
        log_notice(device->adopted ? "serving a ublk device that was left behind"
                                   : "serving a ublk device",
                   LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number),
                   LOG_UINT("queues", device->queue_count));
    pthread_mutex_lock(&device->lock);
    device->error = error;
    atomic_store(&device->state, error ? UBLK_DEVICE_FAILED : UBLK_DEVICE_SERVING);
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->lock);
    return NULL;
}

void ublk_device_start(struct ublk_device *device, struct volume *volume)
{
    int error;

    *device = (struct ublk_device){
        .volume = volume, .number = (unsigned)volume->ublk, .control.fd = -1, .fd = -1};
    atomic_init(&device->state, UBLK_DEVICE_STARTING);
    pthread_mutex_init(&device->lock, NULL);
    clock_condition_init(&device->changed);
    error = -pthread_create(&device->thread, NULL, start, device);
    device->thread_runs = error == 0;
    if (error) {
        device->error = fail(device, error, "cannot start a thread");
        atomic_store(&device->state, UBLK_DEVICE_FAILED);
    }
}

bool ublk_device_wait(struct ublk_device *device, uint64_t due_ns)
{
    struct timespec due = clock_timespec(due_ns);
    int error = 0;
    bool ended;

    pthread_mutex_lock(&device->lock);
    while (atomic_load(&device->state) == UBLK_DEVICE_STARTING && error == 0)
        error = pthread_cond_timedwait(&device->changed, &device->lock, &due);
    ended = atomic_load(&device->state) != UBLK_DEVICE_STARTING;
    pthread_mutex_unlock(&device->lock);
    return ended;
}

/* ---- stop ----------------------------------------------------------------------------------- */

/* Those that only have a look at new devices are soon gone. */
static bool is_used(unsigned number, int *claim, char *who, size_t who_bytes)
{
    for (unsigned tries = 0; tries < FREE_TRIES; tries++) {
        if (!ublk_openers_find(number, claim, who, who_bytes))
            return false;
        pause_a_moment();
    }
    return true;
}

static void leave(struct ublk_device *device, const char *who)
{
    log_notice("a ublk device is in use and stays: its requests wait for the next start of the "
               "daemon",
               LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number),
               LOG_STR("use", who));
    for (unsigned i = 0; i < device->queue_count; i++)
        ublk_queue_leave(&device->queues[i]);
    wait_until_left(device);
    atomic_store(&device->state, UBLK_DEVICE_LEFT);
}

static void take_away(struct ublk_device *device, int claim)
{
    int error = ublk_control_stop(&device->control, device->number);

    if (claim >= 0)
        close(claim);
    if (error) {
        log_error("the kernel does not stop a ublk device", LOG_STR("volume", device->volume->name),
                  LOG_ERRNO(error));
        leave(device, "unknown");
        return;
    }
    wait_for_queues(device, &device->queues_ended);
    close_queues(device);
    error = ublk_control_delete(&device->control, device->number);
    if (error)
        log_warning("a ublk device goes away when the last one who has it open closes it",
                    LOG_STR("volume", device->volume->name), LOG_UINT("number", device->number),
                    LOG_ERRNO(error));
    atomic_store(&device->state, UBLK_DEVICE_GONE);
}

/* Its start has ended; false: in failure, or it was stopped before. */
static bool serves(struct ublk_device *device)
{
    if (device->thread_runs)
        pthread_join(device->thread, NULL);
    device->thread_runs = false;
    return atomic_load(&device->state) == UBLK_DEVICE_SERVING;
}

void ublk_device_stop(struct ublk_device *device)
{
    char who[128] = "";
    int claim = -1;

    if (!serves(device))
        return;
    if (is_used(device->number, &claim, who, sizeof(who))) {
        leave(device, who);
    } else if (!ublk_openers_all_seen()) { /* who has it open shall not get errors by a restart */
        if (claim >= 0)
            close(claim);
        leave(device, "perhaps; processes outside of this PID namespace are not seen; to take it "
                      "away, detach the volume before the daemon stops");
    } else {
        take_away(device, claim);
    }
}

bool ublk_device_take_away(struct ublk_device *device, char *why, size_t why_bytes)
{
    char who[128] = "";
    int claim = -1;

    if (!serves(device))
        return true;
    if (is_used(device->number, &claim, who, sizeof(who))) {
        snprintf(why, why_bytes, "/dev/ublkb%u is in use: %s", device->number, who);
        return false;
    }
    take_away(device, claim);
    return true;
}

void ublk_device_destroy(struct ublk_device *device)
{
    assert(!device->thread_runs);
    close_queues(device);
    ublk_control_close(&device->control);
    pthread_cond_destroy(&device->changed);
    pthread_mutex_destroy(&device->lock);
}

bool ublk_device_clear(struct ublk_control *control, unsigned number, char *why, size_t why_bytes)
{
    char who[128] = "";
    int claim = -1;

    if (is_used(number, &claim, who, sizeof(who))) {
        snprintf(why, why_bytes, "%s", who);
        return false;
    }
    ublk_control_stop(control, number);
    if (claim >= 0)
        close(claim);
    ublk_control_delete(control, number);
    return true;
}
