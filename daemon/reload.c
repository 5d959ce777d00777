/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the configuration again. */
#include "daemon/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/config-value.h"
#include "daemon/membership.h"
#include "daemon/settings.h"
#include "daemon/transition.h"
#include "daemon/web.h"
#include "frontends/nbd/nbd-change.h"

struct plan {
    struct service *service;
    struct config *config;
    FILE *problems; /* what cannot change without a restart */
    unsigned problem_count;
    const struct config_volume **coming;
    struct volume **going;
    unsigned coming_count, going_count;
    bool web_changes;
    struct web *web; /* the new one */
    struct nbd_change *nbd;
};

int reload_read(const char *path, struct config **config, char *why, size_t why_bytes)
{
    FILE *problems = fmemopen(why, why_bytes, "w");
    int error = problems == NULL ? -ENOMEM : config_load(config, path, problems);
    size_t used = 0;

    if (problems != NULL)
        fclose(problems);
    why[why_bytes - 1] = '\0';
    for (char *at = strchr(why, '\n'); at != NULL; at = strchr(at, '\n'))
        *at = ';';
    used = strlen(why);
    while (used > 0 && why[used - 1] == ';')
        why[--used] = '\0';
    return error;
}

/* ---- what differs --------------------------------------------------------------------------- */

static void refuse(struct plan *plan, const char *group, const char *key, const char *advice)
{
    fprintf(plan->problems, "%s%s.%s %s", plan->problem_count++ > 0 ? "; " : "", group, key,
            advice);
}

static bool may_change(const struct config_group *group, const struct config_key *key)
{
    return group == &config_group_nbd ||
           (group == &config_group_daemon &&
            (strcmp(key->name, "log_level") == 0 || strcmp(key->name, "metrics") == 0));
}

static void compare_group(struct plan *plan, const struct config_group *group, const char *name,
                          const void *now, const void *wanted)
{
    for (unsigned i = 0; i < group->key_count; i++) {
        const struct config_key *key = &group->keys[i];

        if (!config_value_same(key, (const char *)now + key->offset,
                               (const char *)wanted + key->offset) &&
            !may_change(group, key))
            refuse(plan, name, key->name, "needs a restart");
    }
}

static void compare_volume(struct plan *plan, const struct config_volume *now,
                           const struct config_volume *wanted)
{
    char name[VOLUME_NAME_BYTES + 16], advice[2 * VOLUME_NAME_BYTES];

    snprintf(name, sizeof(name), "volume \"%s\"", wanted->name);
    snprintf(advice, sizeof(advice), "cannot change in service: blkcachectl detach %s first",
             wanted->name);
    for (unsigned i = 0; i < config_group_volume.key_count; i++) {
        const struct config_key *key = &config_group_volume.keys[i];

        if (!config_value_same(key, (const char *)now + key->offset,
                               (const char *)wanted + key->offset) &&
            !settings_may_change(key) && strncmp(key->name, "share_", 6) != 0)
            refuse(plan, name, key->name, advice);
    }
}

static int compare(struct plan *plan, char *why, size_t why_bytes)
{
    struct service *service = plan->service;
    const struct config *now = service->config, *wanted = plan->config;
    struct volume *volume;

    plan->problems = fmemopen(why, why_bytes, "w");
    plan->coming = calloc(wanted->volume_count + 1, sizeof(struct config_volume *));
    plan->going = calloc(volume_count(service->cache) + 1, sizeof(struct volume *));
    if (plan->problems == NULL || plan->coming == NULL || plan->going == NULL) {
        if (plan->problems != NULL)
            fclose(plan->problems);
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    compare_group(plan, &config_group_daemon, "daemon", &now->daemon, &wanted->daemon);
    compare_group(plan, &config_group_cache, "cache", &now->cache, &wanted->cache);
    compare_group(plan, &config_group_nbd, "nbd", &now->nbd, &wanted->nbd);
    for (unsigned i = 0; i < wanted->volume_count; i++) {
        const struct config_volume *file = &wanted->volumes[i];

        if (volume_find(service->cache, file->name) == NULL)
            plan->coming[plan->coming_count++] = file;
        else
            compare_volume(plan, service_volume_config(service, file->name), file);
    }
    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++) {
        if (config_volume_find(wanted, volume->name) == NULL)
            plan->going[plan->going_count++] = volume;
    }
    fclose(plan->problems);
    why[why_bytes - 1] = '\0';
    return plan->problem_count > 0 ? -EBUSY : 0;
}

/* ---- making it so --------------------------------------------------------------------------- */

/* The new address must work before anything is changed. */
static int begin_web(struct plan *plan, char *why, size_t why_bytes)
{
    const char *address = plan->config->daemon.metrics;

    plan->web_changes = strcmp(address, plan->service->config->daemon.metrics) != 0;
    if (!plan->web_changes || address[0] == '\0')
        return 0;
    return web_begin(&plan->web, plan->service, address, why, why_bytes);
}

/* So must the new addresses. */
static int begin_nbd(struct plan *plan, char *why, size_t why_bytes)
{
    static const char *const nowhere[1];
    const struct config_nbd *nbd = &plan->config->nbd;
    const char *const *listen = nbd->listen.count > 0 ? nbd->listen.list : nowhere;
    const struct nbd_limits limits = service_nbd_limits(nbd);
    const struct nbd_tls_config tls = service_nbd_tls(nbd);

    return nbd_change_begin(&plan->nbd, plan->service->nbd,
                            plan->service->sockets_given ? NULL : listen, nbd->listen.count,
                            &limits, &tls, why, why_bytes);
}

static void change_settings(struct plan *plan, struct volume *volume)
{
    struct config_volume wanted = *config_volume_find(plan->config, volume->name);
    struct volume_settings settings;
    struct ranges pins;
    char text[RANGES_TEXT_BYTES];
    uint8_t from = volume->mode;

    settings_apply(plan->service->settings, &wanted);
    settings = (struct volume_settings){.mode = (uint8_t)wanted.mode,
                                        .dirty_max_percent = wanted.dirty_max,
                                        .share_min_percent = wanted.share_min,
                                        .share_max_percent = wanted.share_max,
                                        .pins = wanted.pin,
                                        .sequential_cutoff_bytes = wanted.sequential_cutoff};
    cache_volume_pins(plan->service->cache, volume, &pins);
    if (settings.mode == volume->mode && settings.dirty_max_percent == volume->dirty_max_percent &&
        settings.share_min_percent == volume->share_min_percent &&
        settings.share_max_percent == volume->share_max_percent &&
        settings.sequential_cutoff_bytes == volume->sequential_cutoff_bytes &&
        ranges_same(&settings.pins, &pins))
        return;
    log_notice("a volume's policy is changed", LOG_STR("volume", volume->name),
               LOG_STR("mode", transition_mode_name(settings.mode)),
               LOG_UINT("dirty_max", settings.dirty_max_percent),
               LOG_UINT("share_min", settings.share_min_percent),
               LOG_UINT("share_max", settings.share_max_percent),
               LOG_UINT("sequential_cutoff", settings.sequential_cutoff_bytes),
               LOG_STR("pin", ranges_print(text, &settings.pins)));
    cache_volume_set(plan->service->cache, volume, &settings);
    if (from != volume->mode)
        transition_begin(plan->service->transitions, volume, from);
}

/* Nothing fails any more. */
static void commit(struct plan *plan)
{
    struct service *service = plan->service;
    struct volume *volume;
    struct web *old = service->web;

    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++)
        change_settings(plan, volume);
    if (plan->config->daemon.log_level != service->config->daemon.log_level)
        log_set_level((enum log_level)plan->config->daemon.log_level);
    if (plan->web_changes) {
        service->web = plan->web;
        web_end(old);
    }
    nbd_change_commit(plan->nbd);
    service_replace(service, plan->config);
}

static int carry_out(struct plan *plan, struct change_progress *progress, char *why,
                     size_t why_bytes)
{
    static const struct change_request flush = {.kind = CHANGE_RELOAD, .flush = true};
    struct service *service = plan->service;
    int error = begin_web(plan, why, why_bytes);

    if (!error)
        error = begin_nbd(plan, why, why_bytes);
    if (error)
        return error;
    error = membership_prepare(service, plan->going, plan->going_count, &flush, progress, why,
                               why_bytes);
    if (error)
        return error;
    error = membership_attach(service, plan->coming, plan->coming_count, why, why_bytes);
    if (!error)
        error = membership_leave(service, plan->going, plan->going_count, why, why_bytes);
    if (error)
        membership_stay(service, plan->going, plan->going_count);
    return error;
}

int reload(struct service *service, struct change_progress *progress, char *why, size_t why_bytes)
{
    struct plan plan = {.service = service};
    int error = reload_read(service->config_path, &plan.config, why, why_bytes);

    if (error)
        return error;
    error = compare(&plan, why, why_bytes);
    if (!error)
        error = carry_out(&plan, progress, why, why_bytes);
    if (error) {
        web_end(plan.web);
        nbd_change_abandon(plan.nbd);
        config_free(plan.config);
    } else {
        log_notice("the configuration was read again", LOG_STR("file", service->config_path),
                   LOG_UINT("came", plan.coming_count), LOG_UINT("left", plan.going_count));
        commit(&plan);
    }
    free(plan.coming);
    free(plan.going);
    return error;
}
