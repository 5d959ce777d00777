/* SPDX-License-Identifier: Apache-2.0 */
/* The service's figures as OpenMetrics text. */
#include "daemon/metrics.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/control-status.h"
#include "daemon/history.h"
#include "io/backing.h"
#include <config.h>

/* Bounds of the latency histogram: 1 us, doubled 25 times, to 33 s. */
#define LATENCY_FIRST_NS 1024u
#define LATENCY_BOUNDS   26u

/* What one exposition is made from: read once, so that its figures belong together. */
struct snapshot {
    struct service *service;
    struct shard_status status;
    struct cache_facts facts;
    struct flash_counters flash;
    struct nbd_counters nbd;
    double destage_rate; /* bytes a second */
    unsigned volume_count;
    struct volume_figures {
        struct volume *volume;
        struct counters counters;
        struct latency latencies[LATENCY_OPS][TIERS];
        uint64_t flash_blocks, dirty_blocks, lost_blocks;
        double destage_lag;
        bool backing_up;
    } * volumes;
};

static void family(FILE *out, const char *name, const char *type, const char *unit,
                   const char *help)
{
    fprintf(out, "# TYPE blkcached_%s %s\n", name, type);
    if (unit != NULL)
        fprintf(out, "# UNIT blkcached_%s %s\n", name, unit);
    fprintf(out, "# HELP blkcached_%s %s\n", name, help);
}

static void gauge(FILE *out, const char *name, const char *unit, const char *help, double value)
{
    family(out, name, "gauge", unit, help);
    fprintf(out, "blkcached_%s %.17g\n", name, value);
}

static void counter(FILE *out, const char *name, const char *unit, const char *help, uint64_t value)
{
    family(out, name, "counter", unit, help);
    fprintf(out, "blkcached_%s_total %" PRIu64 "\n", name, value);
}

/* ---- the daemon and its flash ---------------------------------------------------------------- */

/* Kernel threads that do what io_uring could not do at once; many of them mean a slow path. */
static unsigned io_workers(void)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    unsigned count = 0;

    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        char path[64], name[32] = "";
        FILE *comm;

        snprintf(path, sizeof(path), "/proc/self/task/%.20s/comm", task->d_name);
        comm = fopen(path, "re");
        if (comm == NULL)
            continue;
        if (fgets(name, sizeof(name), comm) != NULL && strncmp(name, "iou-wrk", 7) == 0)
            count++;
        fclose(comm);
    }
    if (tasks != NULL)
        closedir(tasks);
    return count;
}

static void write_daemon(FILE *out, const struct snapshot *snapshot)
{
    const struct shard_status *status = &snapshot->status;

    family(out, "build", "info", NULL, "which blkcached this is");
    fprintf(out, "blkcached_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
    gauge(out, "uptime_seconds", "seconds", "time since the daemon was started",
          control_uptime_seconds(snapshot->service));
    gauge(out, "cores", NULL, "threads that do I/O, one for each configured processor",
          snapshot->service->core_count);
    gauge(out, "io_workers", NULL, "kernel threads that work for io_uring beside the cores",
          io_workers());
    gauge(out, "recovery_seconds", "seconds", "how long the start took to read the log",
          snapshot->facts.recovery_seconds);
    gauge(out, "recovery_blocks", NULL, "blocks that the start found on flash",
          (double)status->recovery_entries);
    gauge(out, "recovery_clean", NULL, "1 after a clean stop, 0 after a crash",
          snapshot->facts.started_clean);
    gauge(out, "metadata_bytes", "bytes", "memory of the index and all other state",
          (double)status->memory_bytes);
    gauge(out, "destage_rate_bytes", "bytes",
          "what is written back in a second, mean of the last ten seconds", snapshot->destage_rate);
    if (status->slots_dirty == 0 || snapshot->destage_rate > 0)
        gauge(out, "time_to_clean_seconds", "seconds",
              "how long until nothing is dirty, at this rate",
              status->slots_dirty == 0
                  ? 0
                  : (double)(status->slots_dirty << BLOCK_SHIFT) / snapshot->destage_rate);
    gauge(out, "stalled_writes", NULL, "writes that wait for space on flash at this moment",
          (double)status->stalled_pieces);
}

/* NOTICE_CLEAN_HEALED is clean_healed to people. */
static void write_notice(FILE *out, const char *name, uint64_t count)
{
    fputs("blkcached_notices_total{notice=\"", out);
    for (const char *c = name + strlen("NOTICE_"); *c != '\0'; c++)
        fputc(tolower((unsigned char)*c), out);
    fprintf(out, "\"} %" PRIu64 "\n", count);
}

static void write_flash(FILE *out, const struct snapshot *snapshot)
{
    const struct shard_status *status = &snapshot->status;

    gauge(out, "flash_up", NULL, "1 while the flash takes writes, 0 when it failed",
          !status->flash_failed);
    gauge(out, "flash_capacity_bytes", "bytes", "what the flash can hold",
          (double)(status->slots_total << BLOCK_SHIFT));
    gauge(out, "flash_used_bytes", "bytes", "what it holds",
          (double)(status->slots_used << BLOCK_SHIFT));
    gauge(out, "flash_dirty_bytes", "bytes", "of that, what the backing stores do not have yet",
          (double)(status->slots_dirty << BLOCK_SHIFT));
    family(out, "flash_segments", "gauge", NULL, "segments of the log");
    fprintf(out, "blkcached_flash_segments{state=\"free\"} %" PRIu64 "\n", status->segments_free);
    fprintf(out, "blkcached_flash_segments{state=\"retired\"} %" PRIu64 "\n",
            status->segments_retired);
    fprintf(out, "blkcached_flash_segments{state=\"used\"} %" PRIu64 "\n",
            status->segments_total - status->segments_free - status->segments_retired);
    gauge(out, "ram_capacity_bytes", "bytes", "what the RAM tier can hold",
          (double)(status->frames_total << BLOCK_SHIFT));
    gauge(out, "ram_used_bytes", "bytes", "what it holds",
          (double)(status->frames_used << BLOCK_SHIFT));
    family(out, "notices", "counter", NULL, "events that an operator wants to know of");
#define X(name, text) write_notice(out, #name, snapshot->facts.notices[name]);
    NOTICES(X)
#undef X
}

static void write_nbd(FILE *out, const struct nbd_counters *nbd)
{
#define X(name, text)                                                                       \
    if (strcmp(#name, "connections_open") == 0 || strcmp(#name, "requests_in_flight") == 0) \
        gauge(out, "nbd_" #name, NULL, text, (double)nbd->name);                            \
    else if (strcmp(#name, "bytes_in_flight") == 0)                                         \
        gauge(out, "nbd_in_flight_bytes", "bytes", text, (double)nbd->name);                \
    else if (strcmp(#name, "bytes_read") == 0)                                              \
        counter(out, "nbd_sent_bytes", "bytes", text, nbd->name);                           \
    else if (strcmp(#name, "bytes_written") == 0)                                           \
        counter(out, "nbd_received_bytes", "bytes", text, nbd->name);                       \
    else                                                                                    \
        counter(out, "nbd_" #name, NULL, text, nbd->name);
    NBD_COUNTERS(X)
#undef X
}

/* ---- volumes -------------------------------------------------------------------------------- */

/* One line for each volume: `label` is "" or further labels, each with a comma before it. */
static void each(FILE *out, const struct snapshot *snapshot, const char *name, const char *label,
                 uint64_t (*value)(const struct volume_figures *figures))
{
    for (unsigned i = 0; i < snapshot->volume_count; i++)
        fprintf(out, "blkcached_%s{volume=\"%s\"%s} %" PRIu64 "\n", name,
                snapshot->volumes[i].volume->name, label, value(&snapshot->volumes[i]));
}

#define FIGURE(name, expression)                         \
    static uint64_t name(const struct volume_figures *f) \
    {                                                    \
        return (uint64_t)(expression);                   \
    }
#define BLOCKS(counter) (f->counters.counter << BLOCK_SHIFT)

FIGURE(size, f->volume->bytes)
FIGURE(on_flash, f->flash_blocks << BLOCK_SHIFT)
FIGURE(dirty, f->dirty_blocks << BLOCK_SHIFT)
FIGURE(lost, f->lost_blocks << BLOCK_SHIFT)
FIGURE(backing_up, f->backing_up)
FIGURE(read_ram, BLOCKS(ram_hit_blocks))
FIGURE(read_flash, BLOCKS(flash_hit_blocks))
FIGURE(read_zeros, BLOCKS(zero_hit_blocks))
FIGURE(read_backing, BLOCKS(miss_blocks))
FIGURE(written, BLOCKS(write_blocks))
FIGURE(zeroed, BLOCKS(zero_blocks))
FIGURE(around, BLOCKS(around_blocks))
FIGURE(merged, f->counters.merge_blocks)
FIGURE(filled, BLOCKS(fill_blocks))
FIGURE(overrun, BLOCKS(overrun_blocks))
FIGURE(flash_write, BLOCKS(flash_write_blocks))
FIGURE(flash_fill, BLOCKS(flash_fill_blocks))
FIGURE(flash_reinsert, BLOCKS(flash_reinsert_blocks))
FIGURE(destaged, BLOCKS(destage_blocks))
FIGURE(destage_writes, f->counters.destage_writes)
FIGURE(destage_errors, f->counters.destage_errors)
FIGURE(healed, f->counters.healed_blocks)
FIGURE(unhealed, f->counters.lost_blocks)
FIGURE(stalled, f->counters.stalled_pieces)

static void write_volumes(FILE *out, const struct snapshot *s)
{
    family(out, "volume_size_bytes", "gauge", "bytes", "size of the volume");
    each(out, s, "volume_size_bytes", "", size);
    family(out, "cached_bytes", "gauge", "bytes", "what the flash has of the volume");
    each(out, s, "cached_bytes", "", on_flash);
    family(out, "dirty_bytes", "gauge", "bytes", "what only the flash has");
    each(out, s, "dirty_bytes", "", dirty);
    family(out, "destage_lag_seconds", "gauge", "seconds",
           "for how long something has been dirty; with ordered destaging, how old the backing "
           "store is");
    for (unsigned i = 0; i < s->volume_count; i++)
        fprintf(out, "blkcached_destage_lag_seconds{volume=\"%s\"} %.9g\n",
                s->volumes[i].volume->name, s->volumes[i].destage_lag);
    family(out, "lost_bytes", "gauge", "bytes", "of these, what failed its checksum");
    each(out, s, "lost_bytes", "", lost);
    family(out, "backing_up", "gauge", NULL, "1 while the backing store answers");
    each(out, s, "backing_up", "", backing_up);
    family(out, "read_bytes", "counter", "bytes", "whole blocks that clients read, by where from");
    each(out, s, "read_bytes_total", ",tier=\"ram\"", read_ram);
    each(out, s, "read_bytes_total", ",tier=\"flash\"", read_flash);
    each(out, s, "read_bytes_total", ",tier=\"zeros\"", read_zeros);
    each(out, s, "read_bytes_total", ",tier=\"backing\"", read_backing);
    family(out, "written_bytes", "counter", "bytes", "blocks that clients wrote, whole or in part");
    each(out, s, "written_bytes_total", "", written);
    family(out, "zeroed_bytes", "counter", "bytes", "blocks that clients zeroed or trimmed");
    each(out, s, "zeroed_bytes_total", "", zeroed);
    family(out, "around_bytes", "counter", "bytes", "of both, what went around the cache");
    each(out, s, "around_bytes_total", "", around);
    family(out, "merged_blocks", "counter", NULL, "blocks written in part and merged");
    each(out, s, "merged_blocks_total", "", merged);
    family(out, "filled_bytes", "counter", "bytes", "what entered the RAM tier after a miss");
    each(out, s, "filled_bytes_total", "", filled);
    family(out, "overrun_bytes", "counter", "bytes",
           "misses that were not kept: RAM was full of what waited for flash");
    each(out, s, "overrun_bytes_total", "", overrun);
    family(out, "flash_data_bytes", "counter", "bytes", "blocks appended to flash, by why");
    each(out, s, "flash_data_bytes_total", ",why=\"write\"", flash_write);
    each(out, s, "flash_data_bytes_total", ",why=\"fill\"", flash_fill);
    each(out, s, "flash_data_bytes_total", ",why=\"reinsert\"", flash_reinsert);
    family(out, "stalled_writes_begun", "counter", NULL, "writes that had to wait for space");
    each(out, s, "stalled_writes_begun_total", "", stalled);
    family(out, "destaged_bytes", "counter", "bytes", "what was written back");
    each(out, s, "destaged_bytes_total", "", destaged);
    family(out, "destage_writes", "counter", NULL, "writes that this took");
    each(out, s, "destage_writes_total", "", destage_writes);
    family(out, "destage_errors", "counter", NULL, "of these, failed ones, repeated later");
    each(out, s, "destage_errors_total", "", destage_errors);
    family(out, "crc_failures", "counter", NULL, "blocks on flash with a bad checksum");
    each(out, s, "crc_failures_total", ",result=\"healed\"", healed);
    each(out, s, "crc_failures_total", ",result=\"lost\"", unhealed);
}

static void write_log(FILE *out, const struct flash_counters *counters)
{
#define X(name, text)                                                                 \
    if (strcmp(#name, "flash_bytes") == 0)                                            \
        counter(out, "flash_written_bytes", "bytes", "all that was written to flash", \
                counters->name);                                                      \
    else                                                                              \
        counter(out, #name, NULL, text, counters->name);
    FLASH_COUNTERS(X)
#undef X
}

/* ---- latencies ------------------------------------------------------------------------------ */

/* Buckets of the source end at powers of two, too; one that ends later belongs to the next. */
static void write_histogram(FILE *out, const char *labels, const struct latency *latency)
{
    uint64_t below = 0, limit_ns = LATENCY_FIRST_NS;
    unsigned bucket = 0;

    for (unsigned i = 0; i < LATENCY_BOUNDS; i++, limit_ns *= 2) {
        for (; bucket < LATENCY_BUCKETS && latency_bucket_limit_ns(bucket) <= limit_ns; bucket++)
            below += latency->buckets[bucket];
        fprintf(out, "blkcached_request_seconds_bucket{%s,le=\"%.9g\"} %" PRIu64 "\n", labels,
                (double)limit_ns / 1e9, below);
    }
    for (; bucket < LATENCY_BUCKETS; bucket++)
        below += latency->buckets[bucket];
    fprintf(out, "blkcached_request_seconds_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", labels, below);
    fprintf(out, "blkcached_request_seconds_count{%s} %" PRIu64 "\n", labels, below);
    fprintf(out, "blkcached_request_seconds_sum{%s} %.9g\n", labels, (double)latency->sum_ns / 1e9);
}

static void write_latencies(FILE *out, const struct snapshot *snapshot)
{
    static const char *const ops[] = {"read", "write", "flush", "zero"};
    static const char *const tiers[] = {"ram", "flash", "backing"};

    family(out, "request_seconds", "histogram", "seconds",
           "from the request's arrival to its answer, by the slowest tier that it needed");
    for (unsigned i = 0; i < snapshot->volume_count; i++)
        for (unsigned op = 0; op < LATENCY_OPS; op++)
            for (unsigned tier = 0; tier < TIERS; tier++) {
                const struct volume_figures *figures = &snapshot->volumes[i];
                char labels[256];

                if (figures->latencies[op][tier].count == 0)
                    continue;
                snprintf(labels, sizeof(labels), "volume=\"%s\",op=\"%s\",tier=\"%s\"",
                         figures->volume->name, ops[op], tiers[tier]);
                write_histogram(out, labels, &figures->latencies[op][tier]);
            }
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool snapshot_take(struct snapshot *snapshot, struct service *service)
{
    struct cache *cache = service->cache;

    *snapshot = (struct snapshot){.service = service, .volume_count = volume_count(cache)};
    snapshot->volumes = calloc(snapshot->volume_count + 1, sizeof(*snapshot->volumes));
    if (snapshot->volumes == NULL)
        return false;
    cache_status(cache, &snapshot->status);
    cache_facts(cache, &snapshot->facts);
    snapshot->destage_rate = history_destage_rate(service->history);
    cache_flash_counters(cache, &snapshot->flash);
    nbd_server_counters(service->nbd, &snapshot->nbd);
    for (unsigned i = 0; i < snapshot->volume_count; i++) {
        struct volume_figures *figures = &snapshot->volumes[i];
        struct volume *volume = volume_at(cache, i);

        if (volume == NULL) { /* one has just left */
            snapshot->volume_count = i;
            break;
        }
        figures->volume = volume;
        cache_counters(cache, volume->id, &figures->counters);
        latencies_read(cache, volume->id, figures->latencies);
        figures->flash_blocks = cache_flash_blocks(cache, volume->id);
        figures->dirty_blocks = cache_dirty_blocks(cache, volume->id);
        figures->lost_blocks = cache_lost_blocks(cache, volume->id);
        figures->destage_lag = history_destage_lag(cache, volume);
        figures->backing_up = control_backing_is_up(service, volume);
    }
    return true;
}

char *metrics_text(struct service *service, size_t *bytes)
{
    struct snapshot snapshot;
    char *text = NULL;
    FILE *out;

    if (!snapshot_take(&snapshot, service))
        return NULL;
    out = open_memstream(&text, bytes);
    if (out != NULL) {
        write_daemon(out, &snapshot);
        write_flash(out, &snapshot);
        write_log(out, &snapshot.flash);
        write_volumes(out, &snapshot);
        write_latencies(out, &snapshot);
        write_nbd(out, &snapshot.nbd);
        fputs("# EOF\n", out);
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    free(snapshot.volumes);
    return text;
}
