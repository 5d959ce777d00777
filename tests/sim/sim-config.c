/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-config.h"

#include <string.h>

static uint32_t pick(struct sim_random *random, const uint32_t *list, uint32_t count)
{
    return list[sim_random_below(random, count)];
}

#define PICK(random, ...)                         \
    pick(random, (const uint32_t[]){__VA_ARGS__}, \
         sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static uint32_t fixed(int choice, uint32_t drawn)
{
    return choice >= 0 ? (uint32_t)choice : drawn;
}

enum style {
    STYLE_MIXED,
    STYLE_LOG,
    STYLE_CACHE,
    STYLE_CYCLE
};

static void choose_delays(struct disk_traits *traits, struct sim_random *random, uint32_t scale)
{
    traits->delay_min_ns = scale * PICK(random, 0, 1, 10);
    traits->delay_max_ns = traits->delay_min_ns + scale * PICK(random, 1, 10, 100);
    if (sim_random_percent(random, 20)) { /* a long tail is no fault */
        traits->slow_ppm = PICK(random, 2000, 20000);
        traits->slow_ns = scale * PICK(random, 1000, 10000);
    }
}

/* Many seeds have no faults, and those that have any, few kinds at once: otherwise each hides what
 * the others would have shown. */
static void choose_disk_faults(struct disk_traits *traits, struct sim_random *random, bool flash)
{
    if (sim_random_percent(random, 30))
        traits->read_error_ppm = PICK(random, 100, 1000, 20000);
    if (sim_random_percent(random, 30))
        traits->write_error_ppm = PICK(random, 100, 1000, 20000);
    if (sim_random_percent(random, 20))
        traits->flush_error_ppm = PICK(random, 1000, 50000);
    if (sim_random_percent(random, 20)) {
        traits->slow_ppm = PICK(random, 1000, 20000);
        traits->slow_ns = PICK(random, 1000000, 100000000);
    }
    if (sim_random_percent(random, 15))
        traits->stuck_ppm = PICK(random, 100, 1000);
    if (flash && sim_random_percent(random, 15))
        traits->misdirect_ppm = PICK(random, 100, 1000);
}

static void choose_faults(struct sim_config *config, struct sim_random *random,
                          const struct sim_choice *choice)
{
    struct sim_faults *faults = &config->faults;

    faults->any = fixed(choice->faults, sim_random_percent(random, 40));
    if (!faults->any)
        return;
    faults->heal_percent = PICK(random, 0, 30, 60);
    if (sim_random_percent(random, 60))
        choose_disk_faults(&config->flash, random, true);
    for (uint32_t i = 0; i < config->volume_count; i++)
        if (sim_random_percent(random, 60))
            choose_disk_faults(&config->volumes[i].backing, random, false);
    if (sim_random_percent(random, 30))
        faults->rot_ppm = PICK(random, 100, 1000, 3000);
    if (sim_random_percent(random, 20))
        faults->flash_gone_ppm = PICK(random, 30, 300);
    if (sim_random_percent(random, 20))
        faults->backing_gone_ppm = PICK(random, 30, 300);
    if (sim_random_percent(random, 20))
        faults->clock_jump_ppm = PICK(random, 100, 1000);
    faults->loss = sim_random_percent(random, 50);
    if (faults->loss)
        faults->flash_gone_ppm = PICK(random, 100, 500, 2000);
    /* What goes around the cache may be torn by the backing store. */
    for (uint32_t i = 0; faults->loss && i < config->volume_count; i++)
        config->volumes[i].atomic_blocks = false;
}

/* The log fills and is reclaimed again and again, with few flushes. */
static void workload_log(struct sim_config *config, struct sim_random *random)
{
    struct sim_workload *load = &config->workload;

    load->read = PICK(random, 5, 20);
    load->write = 80;
    load->flush = PICK(random, 0, 1);
    load->hot_percent = PICK(random, 0, 0, 20);
    load->blocks_max = PICK(random, 4, 16, 40);
    load->large_percent = PICK(random, 10, 40);
    load->odd_percent = load->sector_percent = 2;
    load->think_ns = PICK(random, 0, 1000);
    config->segments = PICK(random, 16, 16, 20);
    config->steps_max = 10000;
}

/* Much is read and little written: fills, promotions, hot blocks that are kept. */
static void workload_cache(struct sim_config *config, struct sim_random *random)
{
    struct sim_workload *load = &config->workload;

    load->read = 80;
    load->write = PICK(random, 2, 10);
    load->flush = 1;
    load->hot_percent = PICK(random, 50, 80, 95);
    load->hot_blocks = PICK(random, 50, 150, 400);
    load->blocks_max = PICK(random, 4, 16);
    load->sector_percent = load->odd_percent = 1;
    load->no_fill_percent = 0;
    load->think_ns = 0;
    config->segments = PICK(random, 16, 16, 20);
    config->frames = SHARD_FRAMES_MIN;
    config->steps_max = 10000;
}

static void choose_workload(struct sim_workload *load, struct sim_random *random)
{
    load->connections = sim_random_range(random, 1, SIM_CONNECTIONS);
    load->depth = PICK(random, 1, 2, 4, 8);
    load->read = PICK(random, 5, 30, 60);
    load->write = PICK(random, 10, 40, 80);
    load->zero = PICK(random, 0, 2, 10);
    load->trim = PICK(random, 0, 2, 10);
    load->prefetch = PICK(random, 0, 2, 10);
    load->invalidate = PICK(random, 0, 0, 3);
    load->flush = PICK(random, 1, 5, 20);
    load->fua_percent = PICK(random, 0, 5, 50);
    load->odd_percent = PICK(random, 0, 5, 30);
    load->sector_percent = PICK(random, 0, 10, 50);
    load->no_fill_percent = PICK(random, 0, 10);
    load->around_percent = PICK(random, 0, 20, 100);
    load->hot_percent = PICK(random, 0, 50, 90);
    load->hot_blocks = PICK(random, 4, 16, 100);
    load->blocks_max = PICK(random, 1, 4, 16);
    load->large_percent = PICK(random, 0, 2, 10);
    load->sequential_percent = PICK(random, 0, 20, 60);
    load->think_ns = PICK(random, 0, 1000, 100000, 5000000);
}

static void choose_volume(struct sim_volume_config *volume, struct sim_random *random,
                          const struct sim_choice *choice, enum style style)
{
    static const uint32_t modes[] = {MODE_WRITE_BACK,    MODE_WRITE_BACK,   MODE_WRITE_BACK,
                                     MODE_WRITE_THROUGH, MODE_WRITE_AROUND, MODE_PASS_THROUGH};
    uint32_t blocks =
        style == STYLE_MIXED ? PICK(random, 16, 64, 200, 512, 1000) : PICK(random, 512, 1000);

    memset(volume, 0, sizeof(*volume));
    volume->mode = (uint8_t)fixed(choice->mode, pick(random, modes, 6));
    volume->bytes = (uint64_t)blocks * BLOCK_BYTES;
    if (sim_random_percent(random, 30))
        volume->bytes += sim_random_below(random, 8) * SECTOR_BYTES;
    volume->atomic_blocks =
        (volume->mode == MODE_WRITE_BACK || volume->mode == MODE_WRITE_THROUGH) &&
        sim_random_percent(random, 80);
    volume->dirty_max_percent = PICK(random, 5, 30, 70, 90);
    volume->backing.write_cache = sim_random_percent(random, 70);
    volume->backing.garbage = sim_random_percent(random, 20);
    volume->backing.tears_reads = true;
    choose_delays(&volume->backing, random, 10000);
}

/* A stream of its own: the other choices stay as they are. */
static void choose_ordered(struct sim_config *config, uint64_t seed,
                           const struct sim_choice *choice)
{
    struct sim_random random = sim_random_stream(seed, 6);
    bool any = fixed(choice->ordered, sim_random_percent(&random, 40)), some = false;

    config->epochs_max = PICK(&random, 4, 16, 64, 0);
    config->alone_ppm = PICK(&random, 100, 1000);
    for (uint32_t i = 0; i < config->volume_count; i++) {
        struct sim_volume_config *volume = &config->volumes[i];

        volume->ordered = any && volume->mode == MODE_WRITE_BACK &&
                          (choice->ordered > 0 || sim_random_percent(&random, 70));
        some |= volume->ordered;
    }
    if (some) /* its oracle is about whole sectors */
        config->workload.odd_percent = 0;
    else
        config->alone_ppm = 0;
}

/* Drawn from a stream of their own, so that the rest of a seed is as it would be without them. */
static void choose_changes(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 7);
    struct sim_changes *changes = &config->changes;

    config->workload.whole_percent = PICK(&random, 0, 0, 5);
    config->workload.idle_percent = PICK(&random, 0, 5, 30);
    if (sim_random_percent(&random, 15)) {
        config->workload.discard_percent = 50;
        config->workload.invalidate = 3;
    }
    if (sim_random_percent(&random, 30)) {
        changes->mode_ppm = PICK(&random, 100, 1000);
        changes->boot_mode_percent = PICK(&random, 10, 50);
    }
    if (sim_random_percent(&random, 20))
        changes->remove_ppm = config->faults.loss ? 0 : PICK(&random, 300, 3000);
}

/* A failed flush of a backing store may have dropped what it was to make durable.  Where writes go past the
 * cache, that is their clients' loss, of which they are told; here it must be nobody's. */
static void choose_drops(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 8);

    if (!config->faults.any || config->faults.loss || config->changes.mode_ppm > 0)
        return;
    for (uint32_t i = 0; i < config->volume_count; i++) {
        struct sim_volume_config *volume = &config->volumes[i];

        if (volume->mode == MODE_WRITE_BACK && volume->backing.write_cache &&
            sim_random_percent(&random, 30)) {
            volume->backing.flush_drops_percent = PICK(&random, 20, 100);
            volume->backing.flush_error_ppm = PICK(&random, 20000, 200000);
            /* Large zeros go past the cache, too, and what destaging wrote of discarded blocks
             * counts as such. */
            config->workload.around_percent = config->workload.discard_percent = 0;
        }
    }
}

/* A flash whose flush fails is given up: what the flush dropped must not be believed durable. */
static void choose_flash_drops(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 15);

    if (!config->faults.loss || !config->flash.write_cache || sim_random_percent(&random, 80))
        return;
    config->flash.flush_drops_percent = PICK(&random, 20, 100);
    config->flash.flush_error_ppm = PICK(&random, 2000, 20000, 200000);
}

static void choose_shares(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 9);

    if (sim_random_percent(&random, 75))
        return;
    for (uint32_t i = 0; i < config->volume_count; i++) {
        config->volumes[i].share_min_percent = PICK(&random, 0, 10, 40, 100);
        config->volumes[i].share_max_percent = PICK(&random, 0, 5, 30, 100);
    }
}

static void choose_pins(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 10);

    if (sim_random_percent(&random, 85))
        return;
    for (uint32_t i = 0; i < 2 * config->volume_count; i++) {
        struct sim_volume_config *volume = &config->volumes[i / 2];
        uint32_t blocks = (uint32_t)(volume->bytes / BLOCK_BYTES) + 1;

        for (uint32_t k = PICK(&random, 0, 1, 1, 3); k > 0; k--) {
            uint64_t first = sim_random_below(&random, blocks);
            uint64_t count = PICK(&random, 1, 64, 400, SIM_BLOCKS_MAX);

            ranges_add(&volume->pins[i % 2], first, first + count);
        }
    }
}

/* Blocks are written again and again in the same order, and with a dead backing store it is these writes
 * alone that make room: the last dirty block of the oldest segment dies just before that is needed. */
static void choose_cycle(struct sim_config *config, uint64_t seed, const struct sim_choice *choice)
{
    struct sim_random random = sim_random_stream(seed, 11);
    struct sim_volume_config *volume = &config->volumes[0];

    if (!(choice->style < 0 ? sim_random_percent(&random, 3) : choice->style == STYLE_CYCLE))
        return;
    config->workload = (struct sim_workload){.connections = sim_random_range(&random, 1, 2),
                                             .depth = PICK(&random, 1, 4),
                                             .read = 2,
                                             .write = 100,
                                             .flush = PICK(&random, 1, 2),
                                             .blocks_max = PICK(&random, 4, 8, 16),
                                             .sequential_percent = 100};
    config->shards = config->volume_count = 1;
    config->segments = 16;
    config->steps_max = 10000;
    config->changes = (struct sim_changes){0};
    config->faults = (struct sim_faults){.any = true};
    volume->mode = MODE_WRITE_BACK;
    volume->bytes = (uint64_t)sim_random_range(&random, 300, 600) * BLOCK_BYTES;
    volume->dirty_max_percent = 90;
    volume->share_min_percent = volume->share_max_percent = 0;
    volume->backing.write_error_ppm = 1000000;
}

static void choose_wrong_reads(struct sim_config *config, uint64_t seed)
{
    struct sim_random random = sim_random_stream(seed, 12);

    if (config->faults.any && sim_random_percent(&random, 10))
        config->faults.wrong_read_ppm = PICK(&random, 300, 3000, 30000);
}

void sim_config_choose(struct sim_config *config, uint64_t seed, const struct sim_choice *choice)
{
    struct sim_random random = sim_random_stream(seed, 1);
    enum style style = STYLE_MIXED;

    memset(config, 0, sizeof(*config));
    if (sim_random_percent(&random, 30))
        style = sim_random_percent(&random, 50) ? STYLE_LOG : STYLE_CACHE;
    style = fixed(choice->style, style);
    config->seed = seed;
    config->cores = fixed(choice->cores, sim_random_range(&random, 1, SIM_CORES_MAX));
    config->shards = fixed(choice->shards, PICK(&random, 1, 1, 2, 4));
    config->segments = PICK(&random, 16, 20, 32, 64);
    config->frames = PICK(&random, SHARD_FRAMES_MIN, SIM_FRAMES_MAX);
    config->volume_count = fixed(choice->volumes, sim_random_range(&random, 1, SIM_VOLUMES_MAX));
    config->flash.write_cache = fixed(choice->flash_volatile, sim_random_below(&random, 2));
    config->flash.garbage = sim_random_percent(&random, 20);
    choose_delays(&config->flash, &random, 1000);
    for (uint32_t i = 0; i < config->volume_count; i++)
        choose_volume(&config->volumes[i], &random, choice, style);
    choose_workload(&config->workload, &random);
    config->core_ns = PICK(&random, 50, 500, 5000);
    config->stall_ppm = PICK(&random, 0, 500, 5000);
    config->steps_max = PICK(&random, 100, 1000, 4000);
    if (style == STYLE_LOG)
        workload_log(config, &random);
    else if (style == STYLE_CACHE)
        workload_cache(config, &random);
    config->boot_crash_percent = PICK(&random, 0, 10, 40);
    config->clean_percent = PICK(&random, 5, 15, 40);
    config->kill_percent = PICK(&random, 0, 20, 100);
    choose_faults(config, &random, choice);
    choose_ordered(config, seed, choice);
    choose_changes(config, seed);
    choose_shares(config, seed);
    choose_drops(config, seed);
    choose_cycle(config, seed, choice);
    choose_pins(config, seed);
    choose_flash_drops(config, seed);
    choose_wrong_reads(config, seed);
}
