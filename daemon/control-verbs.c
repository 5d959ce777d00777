/* SPDX-License-Identifier: Apache-2.0 */
/* What a control request does, and its reply. */
#include "daemon/control-verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/change.h"
#include "daemon/control-change.h"
#include "daemon/control-status.h"
#include "daemon/events.h"
#include "daemon/stuck.h"

/* Counters of the engine only go up; a reset is remembered here and taken off. */
struct control_baseline {
    struct counters counters;
    struct latency latencies[LATENCY_OPS][TIERS];
};

json_t *control_success(json_t *result)
{
    return json_pack("{s:b, s:o}", "ok", 1, "result", result);
}

json_t *control_refusal(const char *what, const char *why)
{
    return json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "what", what, "why", why);
}

/* ---- arguments ------------------------------------------------------------------------------ */

static bool flag_of(const json_t *request, const char *key)
{
    return json_is_true(json_object_get(request, key));
}

bool control_volume_of(struct control_verbs *verbs, const json_t *request, const char *verb,
                       struct volume **volume, json_t **refusal)
{
    const json_t *named = json_object_get(request, "volume");
    const char *name = json_string_value(named);
    char what[200];

    *volume = NULL;
    if (named == NULL || json_is_null(named))
        return true;
    snprintf(what, sizeof(what), "%s %.128s", verb, name ? name : "");
    if (name != NULL && *name != '\0')
        *volume = volume_find(verbs->service->cache, name);
    if (*volume == NULL)
        *refusal = control_refusal(what, "there is no such volume");
    return *volume != NULL;
}

/* ---- stats ---------------------------------------------------------------------------------- */

static struct control_baseline *baseline_of(struct control_verbs *verbs,
                                            const struct volume *volume)
{
    struct control_baseline **place = &verbs->baselines[volume->id];

    if (*place == NULL)
        *place = calloc(1, sizeof(**place));
    return *place;
}

static void latency_subtract(struct latency *latency, const struct latency *base)
{
    latency->count -= base->count;
    latency->sum_ns -= base->sum_ns;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        latency->buckets[i] -= base->buckets[i];
}

static void baseline_subtract(struct control_baseline *stats, const struct control_baseline *base)
{
#define X(name, text) stats->counters.name -= base->counters.name;
    COUNTERS(X)
#undef X
    for (unsigned op = 0; op < LATENCY_OPS; op++) {
        for (unsigned tier = 0; tier < TIERS; tier++)
            latency_subtract(&stats->latencies[op][tier], &base->latencies[op][tier]);
    }
}

/* Adds one volume's to `array`; what is reset counts from here on. */
static bool stats_append(struct control_verbs *verbs, struct volume *volume, bool reset,
                         json_t *array)
{
    struct control_baseline *base = baseline_of(verbs, volume);
    struct control_baseline *stats = malloc(2 * sizeof(*stats));

    if (base == NULL || stats == NULL) {
        free(stats);
        return false;
    }
    cache_counters(verbs->service->cache, volume->id, &stats[0].counters);
    latencies_read(verbs->service->cache, volume->id, stats[0].latencies);
    stats[1] = stats[0];
    baseline_subtract(&stats[0], base);
    json_array_append_new(array,
                          control_volume_stats(volume, &stats[0].counters,
                                               (const struct latency(*)[TIERS])stats[0].latencies));
    if (reset)
        *base = stats[1];
    free(stats);
    return true;
}

static json_t *flash_stats(struct control_verbs *verbs, bool reset)
{
    struct flash_counters now, since;

    cache_flash_counters(verbs->service->cache, &now);
    since = now;
#define X(name, text) since.name -= verbs->flash_baseline.name;
    FLASH_COUNTERS(X)
#undef X
    if (reset)
        verbs->flash_baseline = now;
    return json_pack("{s:o}", "counters", control_flash_counters(&since));
}

static json_t *answer_stats(struct control_verbs *verbs, const json_t *request)
{
    struct cache *cache = verbs->service->cache;
    bool reset = flag_of(request, "reset"), enough = true;
    struct volume *volume, *each;
    json_t *refusal, *array;

    if (!control_volume_of(verbs, request, "stats", &volume, &refusal))
        return refusal;
    array = json_array();
    if (volume != NULL)
        enough = stats_append(verbs, volume, reset, array);
    for (unsigned i = 0; volume == NULL && enough && (each = volume_at(cache, i)) != NULL; i++)
        enough = stats_append(verbs, each, reset, array);
    if (!enough) {
        json_decref(array);
        return control_refusal("stats", "out of memory");
    }
    if (volume != NULL)
        return control_success(json_pack("{s:o}", "volumes", array));
    return control_success(json_pack("{s:o, s:o, s:o}", "volumes", array, "flash",
                                     flash_stats(verbs, reset), "nbd",
                                     control_nbd(verbs->service)));
}

/* ---- flush ---------------------------------------------------------------------------------- */

/* Asked again and again by a client that waits, so that what was written meanwhile goes, too. */
static json_t *answer_flush(struct control_verbs *verbs, const json_t *request)
{
    struct cache *cache = verbs->service->cache;
    json_t *refusal, *reason;
    struct volume *volume;
    double patience;
    uint16_t id;

    if (!control_volume_of(verbs, request, "flush", &volume, &refusal))
        return refusal;
    id = volume != NULL ? volume->id : VOLUME_ALL;
    cache_destage_all(cache, id);
    reason = volume != NULL ? stuck_json(cache, volume) : stuck_any_json(cache, &patience);
    if (volume != NULL)
        patience = stuck_patience(volume);
    return control_success(json_pack(
        "{s:o, s:f, s:I, s:I, s:I}", "reason", reason, "patience_seconds", patience, "dirty_bytes",
        (json_int_t)(cache_dirty_blocks(cache, id) << BLOCK_SHIFT), "lost_bytes",
        (json_int_t)(cache_lost_blocks(cache, id) << BLOCK_SHIFT), "unreadable_bytes",
        (json_int_t)(cache_unreadable_blocks(cache, id) << BLOCK_SHIFT)));
}

/* ---- the others ----------------------------------------------------------------------------- */

static json_t *answer_status(struct control_verbs *verbs, const json_t *request)
{
    (void)request;
    return control_success(control_status(verbs->service));
}

static json_t *answer_volumes(struct control_verbs *verbs, const json_t *request)
{
    (void)request;
    return control_success(json_pack("{s:o}", "volumes", control_volumes(verbs->service)));
}

static json_t *answer_shutdown(struct control_verbs *verbs, const json_t *request)
{
    bool flush = flag_of(request, "flush");

    log_notice("a shutdown was asked for", LOG_STR("flush", flush ? "yes" : "no"));
    verbs->shutdown(verbs->opaque, flush);
    return NULL;
}

static json_t *answer_mrc(struct control_verbs *verbs, const json_t *request)
{
    struct volume *volume;
    json_t *refusal;

    if (!control_volume_of(verbs, request, "mrc", &volume, &refusal))
        return refusal;
    if (volume == NULL)
        return control_refusal("mrc", "it names no volume");
    return control_success(control_mrc(verbs->service, volume));
}

static json_t *answer_events(struct control_verbs *verbs, const json_t *request)
{
    json_int_t after = json_integer_value(json_object_get(request, "after"));
    json_int_t most = json_integer_value(json_object_get(request, "most"));

    (void)verbs;
    return control_success(
        events_json(after > 0 ? (uint64_t)after : 0,
                    most > 0 && most < EVENTS_MAX ? (unsigned)most : EVENTS_MAX));
}

json_t *control_answer(struct control_verbs *verbs, const json_t *request)
{
    static const struct {
        const char *name;
        json_t *(*answer)(struct control_verbs *verbs, const json_t *request);
    } table[] = {
        {"status", answer_status},
        {"volumes", answer_volumes},
        {"stats", answer_stats},
        {"mrc", answer_mrc},
        {"events", answer_events},
        {"flush", answer_flush},
        {"shutdown", answer_shutdown},
        {"set", control_set},
        {"pin", control_pin},
        {"unpin", control_unpin},
        {"pause-fill", control_pause_fill},
        {"resume-fill", control_resume_fill},
        {"prefetch", control_prefetch},
        {"invalidate", control_invalidate},
        {"job", control_job},
        {"attach", control_attach},
        {"detach", control_detach},
        {"reload", control_reload},
        {"change", control_change},
    };
    const char *verb = json_string_value(json_object_get(request, "verb"));

    if (verb == NULL)
        return control_refusal("request", "it names no verb");
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, verb) == 0)
            return table[i].answer(verbs, request);
    }
    return control_refusal(verb, "not available in this version");
}

void control_verbs_free(struct control_verbs *verbs)
{
    for (unsigned i = 0; i <= VOLUME_ID_MAX; i++)
        free(verbs->baselines[i]);
}
