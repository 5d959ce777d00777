/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the service as JSON. */
#include "daemon/control-status.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/uuid.h"
#include "daemon/fill-pause.h"
#include "daemon/history.h"
#include "daemon/transition.h"
#include "io/backing.h"
#include <config.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

double control_uptime_seconds(const struct service *service)
{
    return (double)(clock_ns() - service->started_ns) / 1e9;
}

/* ---- counters ------------------------------------------------------------------------------- */

json_t *control_counters(const struct counters *counters)
{
    json_t *object = json_object();

#define X(name, text) json_object_set_new(object, #name, number(counters->name));
    COUNTERS(X)
#undef X
    return object;
}

json_t *control_flash_counters(const struct flash_counters *counters)
{
    json_t *object = json_object();

#define X(name, text) json_object_set_new(object, #name, number(counters->name));
    FLASH_COUNTERS(X)
#undef X
    return object;
}

json_t *control_reads(const struct counters *counters)
{
    uint64_t hits =
        counters->ram_hit_blocks + counters->flash_hit_blocks + counters->zero_hit_blocks;
    uint64_t all = hits + counters->miss_blocks;
    json_t *ratio = all > 0 ? json_real((double)hits / (double)all) : json_null();

    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "from_ram", number(counters->ram_hit_blocks),
                     "from_flash", number(counters->flash_hit_blocks), "from_zeros",
                     number(counters->zero_hit_blocks), "from_backing",
                     number(counters->miss_blocks), "hit_ratio", ratio);
}

/* ---- latencies ------------------------------------------------------------------------------ */

/* The latency that `share` of the requests stayed below, in seconds. */
static double percentile(const struct latency *latency, double share)
{
    uint64_t total = 0, seen = 0;

    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        total += latency->buckets[i];
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->buckets[i];
        if (seen > 0 && (double)seen >= share * (double)total)
            return (double)latency_bucket_limit_ns(i) / 1e9;
    }
    return 0;
}

static json_t *latency_json(const struct latency *latency)
{
    double mean = (double)latency->sum_ns / (double)latency->count / 1e9;

    return json_pack("{s:o, s:f, s:f, s:f, s:f}", "count", number(latency->count), "mean_seconds",
                     mean, "p50_seconds", percentile(latency, .5), "p99_seconds",
                     percentile(latency, .99), "p999_seconds", percentile(latency, .999));
}

void latencies_read(struct cache *cache, uint16_t volume,
                    struct latency latencies[LATENCY_OPS][TIERS])
{
    for (unsigned op = 0; op < LATENCY_OPS; op++) {
        for (unsigned tier = 0; tier < TIERS; tier++)
            cache_latency(cache, volume, (enum latency_op)op, (enum latency_tier)tier,
                          &latencies[op][tier]);
    }
}

json_t *control_latencies(const struct latency latencies[LATENCY_OPS][TIERS])
{
    static const char *const ops[] = {"read", "write", "flush", "zero"};
    static const char *const tiers[] = {"ram", "flash", "backing"};
    json_t *all = json_object();

    for (unsigned op = 0; op < LATENCY_OPS; op++) {
        json_t *of_op = json_object();

        for (unsigned tier = 0; tier < TIERS; tier++) {
            if (latencies[op][tier].count > 0)
                json_object_set_new(of_op, tiers[tier], latency_json(&latencies[op][tier]));
        }
        json_object_set_new(all, ops[op], of_op);
    }
    return all;
}

json_t *control_stats(struct service *service)
{
    json_t *array = json_array();
    struct flash_counters flash;
    const struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++) {
        struct latency latencies[LATENCY_OPS][TIERS];
        struct counters counters;

        cache_counters(service->cache, volume->id, &counters);
        latencies_read(service->cache, volume->id, latencies);
        json_array_append_new(
            array,
            control_volume_stats(volume, &counters, (const struct latency(*)[TIERS])latencies));
    }
    cache_flash_counters(service->cache, &flash);
    return json_pack("{s:o, s:{s:o}}", "volumes", array, "flash", "counters",
                     control_flash_counters(&flash));
}

json_t *control_volume_stats(const struct volume *volume, const struct counters *counters,
                             const struct latency latencies[LATENCY_OPS][TIERS])
{
    return json_pack("{s:s, s:o, s:o, s:o}", "name", volume->name, "counters",
                     control_counters(counters), "reads", control_reads(counters), "latency",
                     control_latencies(latencies));
}

json_t *control_mrc(struct service *service, const struct volume *volume)
{
    static const double times[] = {1. / 16, 1. / 8, 1. / 4, 1. / 2, 3. / 4, 1, 1.5, 2, 3, 4, 8, 16};
    json_t *curve = json_array();
    struct shard_status status;
    struct mrc_sum sum = {0};

    cache_status(service->cache, &status);
    cache_mrc(service->cache, volume->id, &sum);
    for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        double blocks = times[i] * (double)status.slots_total;

        json_array_append_new(curve, json_pack("{s:f, s:o, s:f}", "times", times[i], "bytes",
                                               number((uint64_t)blocks << BLOCK_SHIFT),
                                               "miss_ratio", mrc_miss_ratio(&sum, blocks)));
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "volume", volume->name, "reads",
                     number((uint64_t)sum.reads), "flash_bytes",
                     number(status.slots_total << BLOCK_SHIFT), "curve", curve);
}

/* ---- volumes -------------------------------------------------------------------------------- */

bool control_backing_is_up(struct service *service, const struct volume *volume)
{
    char backing[256] = "";

    backing_state(volume->backing, backing, sizeof(backing));
    return strncmp(backing, "up", 2) == 0 && !cache_backing_fails(service->cache, volume->id);
}

/* In one word: what a person should worry about. */
static const char *volume_state(struct cache *cache, const struct volume *volume,
                                const char *backing)
{
    if (atomic_load(&volume->detached))
        return cache_dirty_blocks(cache, volume->id) > 0 ? "failed" : "no-flash";
    if (cache_lost_blocks(cache, volume->id) > 0 || cache_unreadable_blocks(cache, volume->id) > 0)
        return "degraded";
    if (strncmp(backing, "up", 2) != 0 || cache_backing_fails(cache, volume->id))
        return "backing-down";
    return "ok";
}

static const char *backing_spec(const struct service *service, const struct volume *volume)
{
    const struct config_volume *file = service_volume_config(service, volume->name);

    return file != NULL ? file->backing : "";
}

/* Null: the volume has no ublk device. */
static json_t *ublk_json(const struct service *service, const struct volume *volume)
{
    struct ublk_status status;
    json_t *object, *counters;
    char path[32];

    if (!ublk_server_status(service->ublk, volume, &status))
        return json_null();
    snprintf(path, sizeof(path), "/dev/ublkb%u", status.number);
    counters = json_object();
#define X(name, text) \
    json_object_set_new(counters, #name, number(status.counters[UBLK_COUNTER_##name]));
    UBLK_COUNTERS(X)
#undef X
    object = json_pack("{s:s, s:s, s:b, s:o, s:o, s:o}", "device", path, "state", status.state,
                       "adopted", (int)status.adopted, "queues", number(status.queues), "depth",
                       number(status.depth), "counters", counters);
    return object;
}

static uint64_t pinned_bytes(struct service *service, const struct volume *volume)
{
    struct ranges pins;

    cache_volume_pins(service->cache, volume, &pins);
    return ranges_sum(&pins, volume->bytes);
}

static void pins_json(struct service *service, const struct volume *volume, json_t *json)
{
    char text[RANGES_TEXT_BYTES];
    struct ranges pins;

    cache_volume_pins(service->cache, volume, &pins);
    json_object_set_new(json, "pin", json_string(ranges_print(text, &pins)));
    json_object_set_new(json, "pinned_bytes", number(ranges_sum(&pins, volume->bytes)));
    json_object_set_new(json, "pinned_flash_bytes",
                        number(cache_pinned_blocks(service->cache, volume->id) << BLOCK_SHIFT));
}

static json_t *volume_json(struct service *service, struct volume *volume)
{
    struct counters counters;
    char backing[256] = "";
    uint64_t dirty = cache_dirty_blocks(service->cache, volume->id);
    struct cache_epochs epochs;
    json_t *json;

    cache_counters(service->cache, volume->id, &counters);
    backing_state(volume->backing, backing, sizeof(backing));
    json = json_pack("{s:s, s:s, s:s, s:o, s:b, s:b, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "name", volume->name, "state", volume_state(service->cache, volume, backing),
                     "mode", transition_mode_name(transition_mode(service->transitions, volume)),
                     "bytes", number(volume->bytes), "read_only", (int)volume->read_only, "nbd",
                     (int)volume->nbd, "ublk", ublk_json(service, volume), "backing",
                     backing_spec(service, volume), "backing_state", backing, "dirty_bytes",
                     number(dirty << BLOCK_SHIFT), "read_bytes",
                     number(counters.read_blocks << BLOCK_SHIFT), "written_bytes",
                     number(counters.write_blocks << BLOCK_SHIFT), "lost_blocks",
                     number(cache_lost_blocks(service->cache, volume->id)), "unreadable_blocks",
                     number(cache_unreadable_blocks(service->cache, volume->id)), "reads",
                     control_reads(&counters));
    json_object_set_new(json, "destage",
                        json_string(volume->destage == DESTAGE_ORDERED ? "ordered" : "sorted"));
    json_object_set_new(json, "mode_requested", json_string(transition_mode_name(volume->mode)));
    json_object_set_new(json, "transition", transition_json(service->transitions, volume));
    json_object_set_new(json, "dirty_max_percent", number(volume->dirty_max_percent));
    json_object_set_new(json, "flash_bytes",
                        number(cache_flash_blocks(service->cache, volume->id) << BLOCK_SHIFT));
    json_object_set_new(json, "share_min_percent", number(volume->share_min_percent));
    json_object_set_new(json, "share_max_percent", number(volume->share_max_percent));
    json_object_set_new(json, "sequential_cutoff_bytes", number(volume->sequential_cutoff_bytes));
    json_object_set_new(json, "destage_lag_seconds",
                        json_real(history_destage_lag(service->cache, volume)));
    pins_json(service, volume, json);
    fill_pause_json(volume, json);
    if (cache_epochs(service->cache, volume, &epochs)) {
        json_object_set_new(json, "backing_consistent", json_boolean(epochs.consistent));
        json_object_set_new(json, "backing_age_seconds", json_real((double)epochs.age_ns / 1e9));
    }
    return json;
}

json_t *control_volumes(struct service *service)
{
    json_t *array = json_array();
    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++)
        json_array_append_new(array, volume_json(service, volume));
    return array;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

json_t *control_job_facts(const struct job_facts *facts)
{
    static const char *const verbs[] = {"prefetch", "invalidate"};
    static const char *const states[] = {"running", "waiting", "done", "failed", "cancelled"};
    bool failed = facts->state == JOB_FAILED;

    return json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o}", "id", number(facts->id),
        "verb", verbs[facts->config.kind], "volume", facts->config.volume->name, "state",
        states[facts->state], "offset", number(facts->config.offset), "length",
        number(facts->config.length), "done_bytes", number(facts->done_bytes), "dirty_bytes",
        number(facts->dirty_bytes), "missed_bytes", number(facts->missed_bytes), "seconds",
        facts->seconds, "error", failed ? json_string(strerror(-facts->error)) : json_null(),
        "error_offset", failed ? number(facts->error_offset) : json_null());
}

json_t *control_jobs(struct service *service)
{
    struct job_facts list[JOBS_MAX];
    unsigned count = jobs_list(service->jobs, list);
    json_t *array = json_array();

    for (unsigned i = 0; i < count; i++)
        json_array_append_new(array, control_job_facts(&list[i]));
    return array;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static const char *flash_state(const struct cache_facts *facts)
{
    static const char *const names[] = {
        [CACHE_FLASH_OK] = "ok",
        [CACHE_FLASH_FAILED] = "failed",
        [CACHE_FLASH_DETACHED] = "failed",
        [CACHE_FLASH_MISSING] = "missing",
    };

    return names[facts->flash_state];
}

/* What is the matter, and what to do; "" when all is well. */
static const char *flash_advice(const struct cache_facts *facts)
{
    static const char *const advice[] = {
        [CACHE_FLASH_OK] = "",
        [CACHE_FLASH_FAILED] = "writes to it fail; the volumes are about to go on without it",
        [CACHE_FLASH_DETACHED] =
            "writes to it fail; the volumes go on in pass-through, and requests that touch blocks "
            "which only the flash has (\"dirty\") fail; make the device work again, or copy it to "
            "another one, and restart: the dirty data are kept",
        [CACHE_FLASH_MISSING] =
            "it could not be opened; the volumes are in pass-through, and requests that touch "
            "blocks which only the flash has (\"dirty\") fail; bring the device back and restart",
    };

    return advice[facts->flash_state];
}

static json_t *flash_json(const struct service *service, const struct shard_status *status,
                          const struct cache_facts *facts)
{
    const struct superblock *sb = cache_superblock(service->cache);
    struct flash_counters counters;
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;

    cache_flash_counters(service->cache, &counters);
    memcpy(uuid.bytes, sb->uuid, sizeof(uuid.bytes));
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, "
        "s:{s:o, s:o, s:o}, s:o}",
        "path", service->config->cache.flash, "uuid", uuid_print(text, &uuid), "state",
        flash_state(facts), "advice", flash_advice(facts), "bytes", number(sb->device_bytes),
        "segment_bytes", number(sb->segment_bytes), "shards", number(sb->shard_count), "session",
        number(sb->session), "needs_flushes", (int)facts->flash_volatile, "capacity_bytes",
        number(status->slots_total << BLOCK_SHIFT), "used_bytes",
        number(status->slots_used << BLOCK_SHIFT), "dirty_bytes",
        number(status->slots_dirty << BLOCK_SHIFT), "segments", "total",
        number(status->segments_total), "free", number(status->segments_free), "retired",
        number(status->segments_retired), "counters", control_flash_counters(&counters));
}

/* In seconds; null for never. */
static json_t *timeout_json(uint64_t timeout_ns)
{
    return timeout_ns == NBD_NEVER ? json_null() : json_real((double)timeout_ns / 1e9);
}

static json_t *limits_json(const struct nbd_limits *limits)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "connections_max",
                     number(limits->connections_max), "requests_max", number(limits->requests_max),
                     "bytes_max", number(limits->bytes_max), "handshake_timeout_seconds",
                     timeout_json(limits->handshake_timeout_ns), "idle_timeout_seconds",
                     timeout_json(limits->idle_timeout_ns), "send_timeout_seconds",
                     timeout_json(limits->send_timeout_ns), "receive_timeout_seconds",
                     timeout_json(limits->receive_timeout_ns));
}

json_t *control_nbd(const struct service *service)
{
    struct nbd_counters counters = {0};
    json_t *object = json_object(), *listen = json_array(), *all = json_object();
    struct nbd_limits limits = nbd_server_limits(service->nbd);
    char address[NBD_ADDRESS_BYTES];

    nbd_server_counters(service->nbd, &counters);
    for (unsigned i = 0; nbd_server_address(service->nbd, i, address); i++)
        json_array_append_new(listen, json_string(address));
#define X(name, text) json_object_set_new(all, #name, number(counters.name));
    NBD_COUNTERS(X)
#undef X
    json_object_set_new(object, "listen", listen);
    json_object_set_new(object, "connections", number(counters.connections_open));
    json_object_set_new(object, "counters", all);
    json_object_set_new(object, "limits", limits_json(&limits));
    return object;
}

/* All volumes together. */
static json_t *all_pins_json(struct service *service, const struct shard_status *status)
{
    uint64_t wanted = 0, most = status->slots_pinned_max << BLOCK_SHIFT;
    const char *advice = "";
    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(service->cache, i)) != NULL; i++)
        wanted += pinned_bytes(service, volume);
    if (wanted > most)
        advice = "the pinned ranges are larger than what may be pinned; what is beyond that counts "
                 "as any other data: pin less";
    return json_pack("{s:o, s:o, s:o, s:s}", "bytes", number(wanted), "flash_bytes",
                     number(status->slots_pinned << BLOCK_SHIFT), "max_bytes", number(most),
                     "advice", advice);
}

static json_t *notices_json(const struct cache_facts *facts)
{
    json_t *object = json_object();

#define X(name, text) json_object_set_new(object, #name, number(facts->notices[name]));
    NOTICES(X)
#undef X
    return object;
}

static json_t *cores_json(const struct service *service)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < service->core_count; i++)
        json_array_append_new(array, number(service->cores[i]));
    return array;
}

json_t *control_status(struct service *service)
{
    struct shard_status status;
    struct cache_facts facts;

    cache_status(service->cache, &status);
    cache_facts(service->cache, &facts);
    return json_pack(
        "{s:s, s:i, s:s, s:f, s:s, s:s, s:o, s:o, s:{s:o, s:o}, s:{s:f, s:b, s:o}, "
        "s:{s:o, s:f, s:o, s:o}, s:b, s:o, s:o, s:o, s:o, s:o}",
        "version", PACKAGE_VERSION, "pid", (int)getpid(), "state",
        service_state_name((enum service_state)atomic_load(&service->state)), "uptime_seconds",
        control_uptime_seconds(service), "config", service->config_path, "control",
        service->config->daemon.control, "cores", cores_json(service), "flash",
        flash_json(service, &status, &facts), "ram", "bytes",
        number(status.frames_total << BLOCK_SHIFT), "used_bytes",
        number(status.frames_used << BLOCK_SHIFT), "recovery", "seconds", facts.recovery_seconds,
        "stopped_cleanly", (int)facts.started_clean, "blocks", number(status.recovery_entries),
        "metadata", "bytes", number(status.memory_bytes), "bytes_per_block",
        (double)status.memory_bytes / (double)(status.slots_total ? status.slots_total : 1),
        "buffer_bytes", number(status.buffer_bytes), "stalled_writes",
        number(status.stalled_pieces), "buffers_registered", (int)facts.buffers_registered,
        "notices", notices_json(&facts), "pins", all_pins_json(service, &status), "nbd",
        control_nbd(service), "volumes", control_volumes(service), "jobs", control_jobs(service));
}
