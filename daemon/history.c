/* SPDX-License-Identifier: Apache-2.0 */
/* The last five minutes, a sample a second. */
#include "daemon/history.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/control-status.h"

#define RATE_SAMPLES 10u

/* X(name): the columns, in order; first what is, then sums since the start, volumes that left
 * included. */
#define COLUMNS(X) X(seconds) X(dirty_bytes) SUMS(X)
#define SUMS(X)             \
    X(ram_bytes)            \
    X(flash_bytes)          \
    X(zeros_bytes)          \
    X(backing_bytes)        \
    X(written_bytes)        \
    X(destaged_bytes)       \
    X(read_ram_count)       \
    X(read_ram_seconds)     \
    X(read_flash_count)     \
    X(read_flash_seconds)   \
    X(read_backing_count)   \
    X(read_backing_seconds) \
    X(write_count)          \
    X(write_seconds)        \
    X(flush_count)          \
    X(flush_seconds)

struct sample {
#define X(name) double name;
    COLUMNS(X)
#undef X
};

/* What a volume had counted when the last sample was taken. */
struct counted {
    bool used, seen;
    uint16_t id;
    struct sample sums;
};

struct history {
    struct cache *cache;
    uint64_t next_ns; /* when the next one is due */
    struct sample total;
    struct counted counted[VOLUMES_MAX];
    pthread_mutex_t lock;
    uint64_t count; /* taken; the newest is at (count - 1) % HISTORY_SAMPLES */
    struct sample samples[HISTORY_SAMPLES];
};

/* ---- taking --------------------------------------------------------------------------------- */

static void latency_sum(const struct latency tiers[TIERS], double *count, double *seconds)
{
    for (unsigned tier = 0; tier < TIERS; tier++) {
        *count += (double)tiers[tier].count;
        *seconds += (double)tiers[tier].sum_ns / 1e9;
    }
}

static void sample_volume(struct sample *sample, struct cache *cache, const struct volume *volume)
{
    struct latency all[LATENCY_OPS][TIERS], (*reads) = all[LATENCY_READ];
    struct counters counters;

    cache_counters(cache, volume->id, &counters);
    latencies_read(cache, volume->id, all);
    sample->ram_bytes += (double)(counters.ram_hit_blocks << BLOCK_SHIFT);
    sample->flash_bytes += (double)(counters.flash_hit_blocks << BLOCK_SHIFT);
    sample->zeros_bytes += (double)(counters.zero_hit_blocks << BLOCK_SHIFT);
    sample->backing_bytes += (double)(counters.miss_blocks << BLOCK_SHIFT);
    sample->written_bytes += (double)(counters.write_blocks << BLOCK_SHIFT);
    sample->destaged_bytes += (double)(counters.destage_blocks << BLOCK_SHIFT);
    sample->read_ram_count += (double)reads[TIER_RAM].count;
    sample->read_ram_seconds += (double)reads[TIER_RAM].sum_ns / 1e9;
    sample->read_flash_count += (double)reads[TIER_FLASH].count;
    sample->read_flash_seconds += (double)reads[TIER_FLASH].sum_ns / 1e9;
    sample->read_backing_count += (double)reads[TIER_BACKING].count;
    sample->read_backing_seconds += (double)reads[TIER_BACKING].sum_ns / 1e9;
    latency_sum(all[LATENCY_WRITE], &sample->write_count, &sample->write_seconds);
    latency_sum(all[LATENCY_FLUSH], &sample->flush_count, &sample->flush_seconds);
}

/* The volume's place, or one of a volume that left; NULL: so many have come and gone within a second. */
static struct counted *counted_of(struct history *history, const struct volume *volume)
{
    struct counted *unused = NULL;

    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        struct counted *counted = &history->counted[i];

        if (counted->used && counted->id == volume->id)
            return counted;
        if (!counted->used && unused == NULL)
            unused = counted;
    }
    if (unused != NULL)
        *unused = (struct counted){.used = true, .id = volume->id};
    return unused;
}

static void total_add(struct history *history, const struct volume *volume)
{
    struct counted *counted = counted_of(history, volume);
    struct sample now = {0};

    if (counted == NULL)
        return;
    sample_volume(&now, history->cache, volume);
#define X(name) history->total.name += now.name - counted->sums.name;
    SUMS(X)
#undef X
    counted->sums = now;
    counted->seen = true;
}

static void dirty_look(struct cache *cache, struct volume *volume)
{
    if (cache_dirty_blocks(cache, volume->id) == 0)
        atomic_store(&volume->dirty_since_ns, 0);
    else if (atomic_load(&volume->dirty_since_ns) == 0)
        atomic_store(&volume->dirty_since_ns, clock_ns());
}

double history_destage_lag(struct cache *cache, struct volume *volume)
{
    uint64_t since_ns = atomic_load(&volume->dirty_since_ns);
    struct cache_epochs epochs;

    if (cache_epochs(cache, volume, &epochs))
        return (double)epochs.age_ns / 1e9;
    return since_ns == 0 ? 0 : (double)(clock_ns() - since_ns) / 1e9;
}

static void sample_take(struct history *history)
{
    struct sample *total = &history->total;
    struct volume *volume;

    total->seconds = (double)clock_ns() / 1e9;
    cache_hold(history->cache);
    for (unsigned i = 0; (volume = volume_at(history->cache, i)) != NULL; i++) {
        total_add(history, volume);
        dirty_look(history->cache, volume);
    }
    cache_release(history->cache);
    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        struct counted *counted = &history->counted[i];

        counted->used = counted->seen;
        counted->seen = false;
    }
    total->dirty_bytes = (double)(cache_dirty_blocks(history->cache, VOLUME_ALL) << BLOCK_SHIFT);
    pthread_mutex_lock(&history->lock);
    history->samples[history->count++ % HISTORY_SAMPLES] = *total;
    pthread_mutex_unlock(&history->lock);
}

uint64_t history_tick(struct history *history, uint64_t now_ns)
{
    if (history->next_ns <= now_ns) {
        sample_take(history);
        history->next_ns += NS_PER_S;
    }
    return history->next_ns;
}

/* ---- telling -------------------------------------------------------------------------------- */

static json_t *row_json(const struct sample *sample)
{
    json_t *row = json_array();

#define X(name) json_array_append_new(row, json_real(sample->name));
    COLUMNS(X)
#undef X
    return row;
}

json_t *history_json(struct history *history)
{
    json_t *columns = json_array(), *rows = json_array();
    uint64_t first;

#define X(name) json_array_append_new(columns, json_string(#name));
    COLUMNS(X)
#undef X
    pthread_mutex_lock(&history->lock);
    first = history->count > HISTORY_SAMPLES ? history->count - HISTORY_SAMPLES : 0;
    for (uint64_t i = first; i < history->count; i++)
        json_array_append_new(rows, row_json(&history->samples[i % HISTORY_SAMPLES]));
    pthread_mutex_unlock(&history->lock);
    return json_pack("{s:o, s:o}", "columns", columns, "rows", rows);
}

double history_destage_rate(struct history *history)
{
    double rate = 0;

    pthread_mutex_lock(&history->lock);
    if (history->count > 1) {
        uint64_t span = history->count - 1 < RATE_SAMPLES ? history->count - 1 : RATE_SAMPLES;
        const struct sample *to = &history->samples[(history->count - 1) % HISTORY_SAMPLES];
        const struct sample *from =
            &history->samples[(history->count - 1 - span) % HISTORY_SAMPLES];

        rate = (to->destaged_bytes - from->destaged_bytes) / (to->seconds - from->seconds);
    }
    pthread_mutex_unlock(&history->lock);
    return rate;
}

/* ---- life ----------------------------------------------------------------------------------- */

struct history *history_create(struct cache *cache)
{
    struct history *history = calloc(1, sizeof(*history));

    if (history == NULL)
        return NULL;
    history->cache = cache;
    history->next_ns = clock_ns();
    pthread_mutex_init(&history->lock, NULL);
    return history;
}

void history_destroy(struct history *history)
{
    if (history == NULL)
        return;
    pthread_mutex_destroy(&history->lock);
    free(history);
}
