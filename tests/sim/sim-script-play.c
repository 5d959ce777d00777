/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/sim/sim-script.h"

/* ---- the client's side ------------------------------------------------------------------- */

static uint64_t dirty_blocks(struct sim_world *world)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < world->config.shards; i++)
        sum += shard_dirty_blocks(world->shards[i].shard, VOLUME_ALL) -
               shard_lost_blocks(world->shards[i].shard, VOLUME_ALL);
    return sum;
}

static void destage(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct sim_shard *shard = &world->shards[i];

        shard_destage_all(shard->shard, VOLUME_ALL);
        if (shard_next_tick(shard->shard) < shard->due_ns)
            shard->due_ns = shard_next_tick(shard->shard);
    }
}

/* Not a request: something to do or to wait for.  True when the script can go on. */
static bool direct(struct sim_world *world, const struct sim_want *item)
{
    struct sim_client *client = &world->client;

    if (client->open > 0)
        return false;
    switch (item->kind) {
    case SCRIPT_DESTAGE:
        if (dirty_blocks(world) == 0)
            return true;
        destage(world);
        client->next_ns = world->now_ns + 10000000;
        return false;
    case SCRIPT_IDLE: client->next_ns = world->now_ns + item->length; return true;
    default: sim_boot_stop(world, false); return true;
    }
}

bool sim_script_next(struct sim_world *world, struct sim_want *want)
{
    struct sim_client *client = &world->client;
    const struct sim_script *script = client->script;
    uint32_t total = script->count * script->repeat;
    uint64_t bytes = world->volumes[0].bytes;

    if (client->script_next == total || client->open >= script->depth)
        return false;
    *want = script->list[client->script_next % script->count];
    if (want->kind >= OPS) {
        if (direct(world, want))
            client->script_next++;
        return false;
    }
    want->offset +=
        (uint64_t)(client->script_next / script->count) * script->step_blocks * BLOCK_BYTES % bytes;
    if (want->offset + want->length > bytes)
        want->offset = want->offset % BLOCK_BYTES;
    if (want->kind != OP_FLUSH && want->kind != OP_READ &&
        oracle_crowded(world->oracle, 0, want->offset, want->length))
        return false;
    client->script_next++;
    return true;
}

/* ---- playing ----------------------------------------------------------------------------- */

static void configure(struct sim_config *config, const struct sim_script *script, uint64_t seed)
{
    struct sim_choice choice = {.flash_volatile = script->flash_volatile,
                                .faults = 0,
                                .cores = (int)script->cores,
                                .shards = script->shards ? (int)script->shards : 1,
                                .volumes = 1,
                                .mode = script->mode,
                                .ordered = script->ordered};

    sim_config_choose(config, seed, &choice);
    config->changes = (struct sim_changes){0};
    config->segments = script->segments;
    config->frames = SHARD_FRAMES_MIN;
    config->workload.connections = 2;
    config->workload.depth = script->depth;
    config->core_ns = 100;
    config->stall_ppm = 0;
    config->flash.delay_min_ns = 1000;
    config->flash.delay_max_ns = 5000;
    config->volumes[0].bytes = (uint64_t)script->blocks * BLOCK_BYTES;
    config->volumes[0].atomic_blocks =
        script->mode == MODE_WRITE_BACK || script->mode == MODE_WRITE_THROUGH;
    config->volumes[0].dirty_max_percent = 70;
    config->volumes[0].backing =
        (struct disk_traits){.write_cache = true, .delay_min_ns = 2000, .delay_max_ns = 20000};
}

static struct disk *device(struct sim_world *world, uint32_t number)
{
    return number == 0 ? world->flash : world->volumes[number - 1].backing;
}

/* Starts the machine whenever it is down; runs to the story's end or to `step`. */
static bool run_until(struct sim_world *world, uint64_t step)
{
    const struct sim_script *script = world->client.script;

    for (;;) {
        if (step != 0 && world->trace.step >= step)
            return true;
        if (world->phase == PHASE_STOPPED || world->phase == PHASE_REFUSED)
            sim_world_crash(world, false);
        if (world->phase == PHASE_DOWN)
            sim_boot_start(world);
        if (world->phase == PHASE_SERVE && world->client.open == 0 && !world->client.checking &&
            world->client.script_next == script->count * script->repeat)
            return false;
        sim_world_advance(world);
        sim_world_check_progress(world);
    }
}

static void crash(struct sim_world *world, const struct sim_mishap *mishap, uint64_t salt)
{
    for (uint32_t i = 0; i <= world->config.volume_count; i++)
        disk_reseed(device(world, i), hash_pair64(mishap->variant, world->trace.step + salt));
    sim_world_crash(world, !mishap->killed);
}

bool sim_script_play(struct sim_world *world, const struct sim_script *script, uint64_t seed,
                     const struct sim_mishap *mishap, bool print)
{
    struct sim_config config;
    bool happened = true;

    configure(&config, script, seed);
    sim_world_begin(world, &config, print);
    world->client.script = script;
    world->client.check_always = true;
    if (mishap->fail_io != 0) {
        world->config.faults.any = true;
        disk_fail_nth(device(world, mishap->fail_device), mishap->fail_io);
    }
    happened = run_until(world, mishap->crash_step);
    if (happened && mishap->crash_step != 0) {
        world->client.script_next = script->count * script->repeat;
        crash(world, mishap, 0);
        if (mishap->second_step != 0) {
            uint64_t step = world->trace.step + mishap->second_step;

            happened = run_until(world, step);
            if (happened)
                crash(world, mishap, 1);
        }
        run_until(world, 0); /* reads everything back */
    }
    if (mishap->fail_io != 0)
        happened = disk_stats(device(world, mishap->fail_device))->errors > 0;
    sim_world_finish(world);
    sim_world_count(world);
    return happened;
}
