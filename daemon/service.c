/* SPDX-License-Identifier: Apache-2.0 */
/* The running service: cache and front ends. */
#include "daemon/service.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/change.h"
#include "daemon/history.h"
#include "daemon/settings.h"
#include "daemon/transition.h"
#include "daemon/upkeep.h"
#include "daemon/web.h"
#include "io/job.h"

const char *service_state_name(enum service_state state)
{
    static const char *const names[] = {"starting", "running", "flushing", "stopping"};

    return names[state];
}

/* The configured processors, or all that the process may use. */
static int choose_cores(struct service *service)
{
    const config_numbers *wanted = &service->config->daemon.cores;
    cpu_set_t usable;

    if (sched_getaffinity(0, sizeof(usable), &usable) != 0)
        return -errno;
    service->core_count = wanted->count ? wanted->count : (unsigned)CPU_COUNT(&usable);
    service->cores = calloc(service->core_count, sizeof(*service->cores));
    if (service->cores == NULL)
        return -ENOMEM;
    if (wanted->count > 0) {
        memcpy(service->cores, wanted->list, wanted->count * sizeof(*wanted->list));
        return 0;
    }
    for (unsigned processor = 0, i = 0; processor < CPU_SETSIZE && i < service->core_count;
         processor++) {
        if (CPU_ISSET(processor, &usable))
            service->cores[i++] = processor;
    }
    return 0;
}

static bool is_named(const char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* A name that is no volume is a mistake, where so much is at stake. */
static int check_named(const struct config *config, const char *option, const char *const *names,
                       unsigned count, char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < count; i++) {
        bool found = false;

        for (unsigned k = 0; k < config->volume_count; k++)
            found |= strcmp(config->volumes[k].name, names[i]) == 0;
        if (!found) {
            snprintf(why, why_bytes, "%s %s: there is no such volume", option, names[i]);
            return -ENOENT;
        }
    }
    return 0;
}

static int check_force(const struct config *config, const struct service_force *force, char *why,
                       size_t why_bytes)
{
    int error = check_named(config, "--discard-dirty", force->discard_dirty,
                            force->discard_dirty_count, why, why_bytes);

    return error ? error
                 : check_named(config, "--trust-flash", force->trust_flash,
                               force->trust_flash_count, why, why_bytes);
}

struct cache_volume_config service_cache_config(const struct config_volume *from,
                                                const struct service_force *force)
{
    return (struct cache_volume_config){
        .name = from->name,
        .backing = from->backing,
        .mode = (uint8_t)from->mode,
        .destage = (uint8_t)from->destage,
        .read_only = from->read_only,
        .nbd = from->nbd,
        .ublk = (int)from->ublk,
        .dirty_max_percent = from->dirty_max,
        .share_min_percent = from->share_min,
        .share_max_percent = from->share_max,
        .pins = from->pin,
        .sequential_cutoff_bytes = from->sequential_cutoff,
        .backing_timeout_ns = from->backing_timeout,
        .discard_dirty = is_named(force->discard_dirty, force->discard_dirty_count, from->name),
        .trust_flash = is_named(force->trust_flash, force->trust_flash_count, from->name),
    };
}

/* ---- the configuration in use --------------------------------------------------------------- */

struct service_extra {
    struct service_extra *next;
    struct config *config;
    char name[VOLUME_NAME_BYTES];
};

const struct config_volume *service_volume_config(const struct service *service, const char *name)
{
    for (const struct service_extra *extra = service->extra; extra != NULL; extra = extra->next) {
        if (strcmp(extra->name, name) == 0)
            return config_volume_find(extra->config, name);
    }
    return config_volume_find(service->config, name);
}

void service_set_unnamed(struct service *service)
{
    const struct config *config = service->config;
    const char *first = NULL;

    for (unsigned i = 0; i < config->volume_count && first == NULL; i++)
        if (config->volumes[i].nbd)
            first = config->volumes[i].name;
    volume_set_unnamed(service->cache, first);
}

bool service_keep(struct service *service, const char *name, struct config *config)
{
    struct service_extra *extra = malloc(sizeof(*extra));

    if (extra == NULL)
        return false;
    extra->config = config;
    snprintf(extra->name, sizeof(extra->name), "%s", name);
    cache_hold_alone(service->cache);
    extra->next = service->extra;
    service->extra = extra;
    cache_release(service->cache);
    return true;
}

static void extra_free(struct service_extra *extra)
{
    while (extra != NULL) {
        struct service_extra *next = extra->next;

        config_free(extra->config);
        free(extra);
        extra = next;
    }
}

void service_replace(struct service *service, struct config *config)
{
    struct service_extra *extra = service->extra;
    struct config *old = service->reloaded;

    cache_hold_alone(service->cache);
    service->config = service->reloaded = config;
    service->extra = NULL;
    service_set_unnamed(service);
    cache_release(service->cache);
    extra_free(extra);
    config_free(old);
}

static int open_cache(struct service *service, const struct service_force *force, char *why,
                      size_t why_bytes)
{
    const struct config *from = service->config;
    struct cache_volume_config *volumes = calloc(from->volume_count + 1, sizeof(*volumes));
    struct cache_config config = {
        .flash = from->cache.flash,
        .ram_bytes = from->cache.ram,
        .volatile_cache = (enum volatile_cache)from->cache.volatile_cache,
        .state_dir = from->daemon.state_dir,
        .cores = service->cores,
        .core_count = service->core_count,
        .volumes = volumes,
        .volume_count = from->volume_count,
        .without_flash = force->without_flash || from->cache.missing_flash == 1,
        .drain = force->drain_flash,
    };
    int error = check_force(from, force, why, why_bytes);

    if (error) {
        free(volumes);
        return error;
    }

    if (volumes == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < from->volume_count; i++) {
        struct config_volume volume = from->volumes[i];

        settings_apply(service->settings, &volume);
        volumes[i] = service_cache_config(&volume, force);
    }
    error = cache_open(&service->cache, &config, why, why_bytes);
    free(volumes);
    return error;
}

/* In the configuration 0 is never. */
static uint64_t timeout_ns(config_duration duration)
{
    return duration == 0 ? NBD_NEVER : duration;
}

struct nbd_limits service_nbd_limits(const struct config_nbd *from)
{
    return (struct nbd_limits){
        .connections_max = (uint32_t)from->connections_max,
        .requests_max = (uint32_t)from->requests_max,
        .bytes_max = from->bytes_max,
        .handshake_timeout_ns = from->handshake_timeout,
        .idle_timeout_ns = timeout_ns(from->idle_timeout),
        .send_timeout_ns = timeout_ns(from->send_timeout),
        .receive_timeout_ns = timeout_ns(from->receive_timeout),
    };
}

struct nbd_tls_config service_nbd_tls(const struct config_nbd *from)
{
    return (struct nbd_tls_config){
        .mode = (enum nbd_tls_mode)from->tls.mode,
        .certificates = from->tls.certificates,
        .psk = from->tls.psk,
        .verify_clients = from->tls.verify_clients,
    };
}

static int create_nbd(struct service *service, const struct service_sockets *sockets, char *why,
                      size_t why_bytes)
{
    const struct config_nbd *from = &service->config->nbd;
    const config_texts *listen = &from->listen;
    struct nbd_server_config config = {
        .cache = service->cache,
        .listen = listen->list,
        .listen_count = service->sockets_given ? 0 : listen->count,
        .listen_fds = sockets->listening,
        .listen_fd_count = sockets->listening_count,
        .single = sockets->single,
        .single_fd = sockets->single_fd,
        .single_gone = sockets->single_gone,
        .opaque = sockets->opaque,
        .limits = service_nbd_limits(from),
        .tls = service_nbd_tls(from),
    };

    return nbd_server_create(&service->nbd, &config, why, why_bytes);
}

/* What it shows is worth less than what the cache serves: without it the daemon goes on. */
static void start_web(struct service *service)
{
    const char *address = service->config->daemon.metrics;
    char why[256];

    if (address[0] == '\0')
        return;
    if (web_begin(&service->web, service, address, why, sizeof(why)) != 0)
        log_error("there are no metrics and no status page", LOG_STR("reason", why));
    else
        log_info("metrics and status page", LOG_STR("address", address));
}

static void let_go(struct service *service)
{
    transitions_end(service->transitions);
    upkeep_end(service->upkeep);
    history_destroy(service->history);
    if (service->ublk != NULL)
        ublk_server_destroy(service->ublk);
    if (service->nbd != NULL)
        nbd_server_destroy(service->nbd);
    if (service->cache != NULL)
        cache_close(service->cache);
    jobs_destroy(service->jobs);
    settings_end(service->settings);
    extra_free(service->extra);
    config_free(service->reloaded);
    free(service->cores);
    service->ublk = NULL;
    service->nbd = NULL;
    service->cache = NULL;
    service->cores = NULL;
    service->history = NULL;
    service->upkeep = NULL;
    service->jobs = NULL;
    service->settings = NULL;
    service->extra = NULL;
    service->reloaded = NULL;
    service->transitions = NULL;
}

/* ublk devices last: their start reads through the cache, and people mount them at once. */
static int start_front_ends(struct service *service, const struct service_sockets *sockets,
                            char *why, size_t why_bytes)
{
    int error = create_nbd(service, sockets, why, why_bytes);

    if (!error)
        error = ublk_server_create(&service->ublk, service->cache, why, why_bytes);
    if (!error)
        error = ublk_server_start(service->ublk, why, why_bytes);
    if (!error)
        nbd_server_start(service->nbd);
    if (error && service->ublk != NULL)
        ublk_server_stop(service->ublk);
    return error;
}

/* Up to a cache that is open. */
static int begin(struct service *service, const struct config *config, const char *config_path,
                 const struct service_force *force, char *why, size_t why_bytes)
{
    int error;

    *service = (struct service){.config_path = config_path, .config = config};
    service->started_ns = clock_ns();
    error = choose_cores(service);
    if (error) {
        snprintf(why, why_bytes, "cannot choose processors: %s", strerror(-error));
        return error;
    }
    error = settings_begin(&service->settings, config->daemon.state_dir, why, why_bytes);
    return error ? error : open_cache(service, force, why, why_bytes);
}

int service_drain(const struct config *config, const struct service_force *force, char *why,
                  size_t why_bytes)
{
    struct service service;
    int error = begin(&service, config, NULL, force, why, why_bytes);

    if (!error)
        error = cache_drain(service.cache, why, why_bytes);
    let_go(&service);
    return error;
}

int service_start(struct service *service, const struct config *config, const char *config_path,
                  const struct service_sockets *sockets, const struct service_force *force,
                  char *why, size_t why_bytes)
{
    char ignored[256];
    int error;

    error = begin(service, config, config_path, force, why, why_bytes);
    service->sockets_given = sockets->single || sockets->listening_count > 0;
    if (!error)
        error = cache_start(service->cache, why, why_bytes);
    if (!error) {
        service->jobs = jobs_create(service->cache);
        service->history = history_create(service->cache);
        error = service->jobs == NULL || service->history == NULL
                    ? -ENOMEM
                    : upkeep_begin(&service->upkeep, service);
        if (!error)
            error = transitions_begin(&service->transitions, service->cache);
        if (error)
            snprintf(why, why_bytes, "cannot start what watches over the cache: %s",
                     strerror(-error));
        else
            error = start_front_ends(service, sockets, why, why_bytes);
        if (error)
            cache_stop(service->cache, ignored, sizeof(ignored));
    }
    if (error) {
        let_go(service);
        return error;
    }
    atomic_store(&service->state, SERVICE_RUNNING);
    start_web(service);
    error = changes_begin(&service->changes, service);
    if (error) {
        snprintf(why, why_bytes, "cannot start a thread for changes: %s", strerror(-error));
        service_stop(service, ignored, sizeof(ignored));
    }
    return error;
}

int service_stop(struct service *service, char *why, size_t why_bytes)
{
    int error;

    atomic_store(&service->state, SERVICE_STOPPING);
    changes_end(service->changes);
    service->changes = NULL;
    web_end(service->web);
    service->web = NULL;
    upkeep_end(service->upkeep); /* before the cache has no volumes to look at */
    service->upkeep = NULL;
    transitions_end(service->transitions);
    service->transitions = NULL;
    jobs_stop(service->jobs);
    nbd_server_stop(service->nbd);
    ublk_server_stop(service->ublk);
    error = cache_stop(service->cache, why, why_bytes);
    let_go(service);
    return error;
}
