/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes are in service, with their front ends. */
#include "daemon/membership.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/size.h"
#include "daemon/limits.h"
#include "daemon/reload.h"
#include "daemon/settings.h"
#include "daemon/transition.h"
#include "io/backing.h"
#include "io/job.h"

#define LOOK_NS     20000000l
#define HANG_UP_NS  (10 * NS_PER_S) /* for clients that were hung up on to be gone */
#define PATIENCE_NS (10 * NS_PER_S) /* without progress, beyond the backing store's timeout */

static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
}

/* ---- coming --------------------------------------------------------------------------------- */

static int start_ublk(struct service *service, const char *name, char *why, size_t why_bytes)
{
    struct volume *volume = volume_find(service->cache, name);

    if (volume == NULL || volume->ublk < 0)
        return 0;
    limits_serve_kernel();
    return ublk_server_attach(service->ublk, volume, why, why_bytes);
}

/* After a failure behind cache_attach: out again what nobody has begun to use. */
static void take_back(struct service *service, const struct config_volume *const *volumes,
                      unsigned count)
{
    char ignored[512];
    unsigned users;

    for (unsigned i = 0; i < count; i++) {
        struct volume *volume = volume_find(service->cache, volumes[i]->name);

        if (ublk_server_detach(service->ublk, volume, ignored, sizeof(ignored)) != 0 ||
            !cache_claim(volume, &users))
            continue;
        if (cache_detach(service->cache, &volume, 1, ignored, sizeof(ignored)) != 0)
            cache_unclaim(volume);
    }
}

int membership_attach(struct service *service, const struct config_volume *const *volumes,
                      unsigned count, char *why, size_t why_bytes)
{
    static const struct service_force no_force;
    struct cache_volume_config *configs = calloc(count + 1, sizeof(*configs));
    int error = configs == NULL ? -ENOMEM : 0;

    if (error)
        snprintf(why, why_bytes, "out of memory");
    for (unsigned i = 0; i < count && !error; i++) {
        struct config_volume volume = *volumes[i];

        settings_apply(service->settings, &volume);
        configs[i] = service_cache_config(&volume, &no_force);
    }
    if (!error)
        error = cache_attach(service->cache, configs, count, why, why_bytes);
    if (!error) {
        for (unsigned i = 0; i < count && !error; i++)
            error = start_ublk(service, volumes[i]->name, why, why_bytes);
        if (error)
            take_back(service, volumes, count);
    }
    if (!error)
        service_set_unnamed(service);
    for (unsigned i = 0; i < count && !error; i++)
        transition_begin(service->transitions, volume_find(service->cache, volumes[i]->name),
                         MODE_WRITE_BACK);
    free(configs);
    return error;
}

int membership_attach_named(struct service *service, const char *name, char *why, size_t why_bytes)
{
    const struct config_volume *volume;
    struct config *config = NULL;
    int error = reload_read(service->config_path, &config, why, why_bytes);

    if (error)
        return error;
    volume = config_volume_find(config, name);
    if (volume_find(service->cache, name) != NULL) {
        snprintf(why, why_bytes, "it is in service already");
        error = -EEXIST;
    } else if (volume == NULL) {
        snprintf(why, why_bytes, "%s does not name it; add it there first", service->config_path);
        error = -ENOENT;
    } else {
        error = membership_attach(service, &volume, 1, why, why_bytes);
    }
    if (error || !service_keep(service, name, config))
        config_free(config);
    return error;
}

/* ---- going ---------------------------------------------------------------------------------- */

static bool claim(struct service *service, struct volume *volume, bool force, unsigned *users)
{
    uint64_t end_ns = clock_ns() + HANG_UP_NS;

    if (cache_claim(volume, users))
        return true;
    if (!force)
        return false;
    do {
        nbd_server_hang_up(service->nbd, volume);
        pause_a_moment();
        if (cache_claim(volume, users))
            return true;
    } while (clock_ns() < end_ns);
    return false;
}

/* Its jobs end soon after they are cancelled. */
static void end_jobs(struct service *service, const struct volume *volume)
{
    struct job_facts list[JOBS_MAX];
    bool running;

    do {
        unsigned count = jobs_list(service->jobs, list);

        running = false;
        for (unsigned i = 0; i < count; i++) {
            if (list[i].config.volume != volume || list[i].state > JOB_WAITING)
                continue;
            jobs_cancel(service->jobs, list[i].id);
            running = true;
        }
        if (running)
            pause_a_moment();
    } while (running);
}

static int close_front_ends(struct service *service, struct volume *volume, bool force, char *why,
                            size_t why_bytes)
{
    unsigned users = 0;
    char reason[400];
    int error;

    if (!claim(service, volume, force, &users)) {
        snprintf(why, why_bytes,
                 "volume \"%s\": %u client%s connected to it; disconnect %s, or hang up with "
                 "\"blkcachectl detach %s --force\"",
                 volume->name, users, users == 1 ? " is" : "s are", users == 1 ? "it" : "them",
                 volume->name);
        return -EBUSY;
    }
    error = ublk_server_detach(service->ublk, volume, reason, sizeof(reason));
    if (error) {
        cache_unclaim(volume);
        snprintf(why, why_bytes, "volume \"%s\": %s; unmount it first", volume->name, reason);
        return error;
    }
    end_jobs(service, volume);
    return 0;
}

void membership_stay(struct service *service, struct volume *const *volumes, unsigned count)
{
    char why[512];

    for (unsigned i = 0; i < count; i++) {
        cache_unclaim(volumes[i]);
        if (start_ublk(service, volumes[i]->name, why, sizeof(why)) != 0)
            log_error("the ublk device of a volume that stays cannot be started again",
                      LOG_STR("volume", volumes[i]->name), LOG_STR("reason", why));
    }
}

/* Why a volume does not get clean; false: it does. */
static bool is_stuck(struct cache *cache, const struct volume *volume, uint64_t dirty, char *why,
                     size_t why_bytes)
{
    uint64_t lost =
        cache_lost_blocks(cache, volume->id) + cache_unreadable_blocks(cache, volume->id);
    char backing[256] = "";

    if (lost > 0 && lost >= dirty) {
        snprintf(why, why_bytes,
                 "volume \"%s\": the flash fails to read %llu dirty blocks; write them again, or "
                 "give them up with \"blkcachectl invalidate %s --discard-dirty\"",
                 volume->name, (unsigned long long)lost, volume->name);
        return true;
    }
    backing_state(volume->backing, backing, sizeof(backing));
    snprintf(why, why_bytes,
             "volume \"%s\": the backing store does not take its dirty data: %s; nothing is lost, "
             "try again when it works",
             volume->name, backing);
    return cache_backing_fails(cache, volume->id) || strncmp(backing, "up", 2) != 0;
}

/* Until nothing of it is dirty. */
static int destage(struct service *service, struct volume *volume, struct change_progress *progress,
                   char *why, size_t why_bytes)
{
    uint64_t least = UINT64_MAX, dirty, patience_ns = volume->backing_timeout_ns + PATIENCE_NS;
    uint64_t progress_ns = clock_ns();

    while ((dirty = cache_dirty_blocks(service->cache, volume->id)) > 0) {
        progress->left_bytes = dirty << BLOCK_SHIFT;
        if (progress->begun_bytes < progress->left_bytes)
            progress->begun_bytes = progress->left_bytes;
        if (dirty < least) {
            least = dirty;
            progress_ns = clock_ns();
        }
        if (atomic_load(&progress->cancelled)) {
            snprintf(why, why_bytes, "volume \"%s\": cancelled", volume->name);
            return -ECANCELED;
        }
        if (clock_ns() - progress_ns > patience_ns &&
            is_stuck(service->cache, volume, dirty, why, why_bytes))
            return -EIO;
        cache_destage_all(service->cache, volume->id);
        pause_a_moment();
    }
    progress->left_bytes = 0;
    return 0;
}

static int prepare(struct service *service, struct volume *volume,
                   const struct change_request *request, struct change_progress *progress,
                   char *why, size_t why_bytes)
{
    uint64_t dirty = cache_dirty_blocks(service->cache, volume->id);
    char size[SIZE_TEXT_BYTES];
    int error;

    /* What the other modes have dirty is on its way already. */
    if (volume->mode == MODE_WRITE_BACK && !request->flush && dirty > 0) {
        snprintf(why, why_bytes,
                 "volume \"%s\": %s of it are dirty, that is newer than its backing store; "
                 "--flush writes them there first",
                 volume->name, size_print_human(size, dirty << BLOCK_SHIFT));
        return -EBUSY;
    }
    error = close_front_ends(service, volume, request->force, why, why_bytes);
    if (error)
        return error;
    dirty = cache_dirty_blocks(service->cache, volume->id);
    if (volume->mode == MODE_WRITE_BACK && !request->flush && dirty > 0) {
        snprintf(why, why_bytes,
                 "volume \"%s\": its clients wrote until now; --flush writes that "
                 "to the backing store first",
                 volume->name);
        error = -EBUSY;
    }
    if (!error)
        error = destage(service, volume, progress, why, why_bytes);
    if (error)
        membership_stay(service, &volume, 1);
    return error;
}

int membership_prepare(struct service *service, struct volume *const *volumes, unsigned count,
                       const struct change_request *request, struct change_progress *progress,
                       char *why, size_t why_bytes)
{
    unsigned ready = 0;
    int error = 0;

    while (ready < count && !error) {
        error = prepare(service, volumes[ready], request, progress, why, why_bytes);
        if (!error)
            ready++;
    }
    if (error)
        membership_stay(service, volumes, ready);
    return error;
}

int membership_leave(struct service *service, struct volume *const *volumes, unsigned count,
                     char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < count; i++)
        transition_forget(service->transitions, volumes[i]);
    return cache_detach(service->cache, volumes, count, why, why_bytes);
}

int membership_detach_named(struct service *service, const struct change_request *request,
                            struct change_progress *progress, char *why, size_t why_bytes)
{
    struct volume *volume = volume_find(service->cache, request->volume);
    int error;

    if (volume == NULL) {
        snprintf(why, why_bytes, "it is not in service");
        return -ENOENT;
    }
    error = membership_prepare(service, &volume, 1, request, progress, why, why_bytes);
    if (error)
        return error;
    error = membership_leave(service, &volume, 1, why, why_bytes);
    if (error)
        membership_stay(service, &volume, 1);
    return error;
}
