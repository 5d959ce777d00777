/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operator changes: a volume's mode, at a start or at run time; and volumes that are taken
 * out of the configuration, written by somebody else, and put back at the next start (hazard 9).
 */
#include <string.h>

#include "tests/sim/sim-world.h"

static uint8_t choose_mode(struct sim_world *world, uint32_t volume)
{
    /* Where blocks are promised to be atomic, nothing goes around the cache. */
    bool atomic = world->config.volumes[volume].atomic_blocks;

    return (uint8_t)sim_random_below(&world->fate,
                                     atomic ? MODE_WRITE_THROUGH + 1 : MODE_PASS_THROUGH + 1);
}

static void name_of(uint32_t volume, char name[2])
{
    name[0] = (char)('a' + volume);
    name[1] = '\0';
}

/* ---- at a start -------------------------------------------------------------------------- */

static void put_back(struct sim_world *world, uint32_t v)
{
    struct superblock *superblock = &world->boot.superblock;
    struct sim_volume *volume = &world->volumes[v];
    struct superblock_volume *record = sim_boot_record(world, v);
    uint8_t uuid[16] = {(uint8_t)v, 1};
    char name[2];

    name_of(v, name);
    if (record == NULL)
        record = superblock_volume_add(superblock, name, uuid);
    if (record == NULL)
        sim_fail(world, "no place for another volume");
    record->bytes = volume->bytes;
    volume->id = record->id;
    volume->gone = false;
}

void sim_change_boot(struct sim_world *world)
{
    world->removing = world->leaving = 0;
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        struct sim_volume *volume = &world->volumes[v];

        volume->leaving = false;
        if (volume->gone || sim_boot_record(world, v) == NULL)
            put_back(world, v);
        volume->id = sim_boot_record(world, v)->id;
        if (world->config.changes.boot_mode_percent == 0 || volume->ordered ||
            !sim_random_percent(&world->fate, world->config.changes.boot_mode_percent))
            continue;
        volume->mode = choose_mode(world, v);
        sim_boot_record(world, v)->mode = volume->mode;
        world->totals.mode_changes++;
        sim_trace_note(&world->trace, TRACE_MODE, v, volume->mode, 0);
    }
}

/* ---- at run time ------------------------------------------------------------------------- */

static void change_mode(struct sim_world *world)
{
    uint32_t v = sim_random_below(&world->fate, world->config.volume_count);

    if (world->volumes[v].gone || world->volumes[v].ordered)
        return;
    world->volumes[v].mode = choose_mode(world, v);
    world->totals.mode_changes++;
    sim_trace_note(&world->trace, TRACE_MODE, v, world->volumes[v].mode, 1);
    for (uint32_t i = 0; i < world->config.shards; i++)
        sim_boot_policy(world, v, i);
}

static bool in_use(struct sim_world *world, uint32_t v)
{
    if ((world->client.checking && world->client.check_volume == v))
        return true;
    for (uint32_t i = 0; i < SIM_REQUESTS_MAX; i++)
        if (world->requests[i].open && world->requests[i].op.volume == v)
            return true;
    for (uint32_t i = 0; i < world->config.shards; i++)
        if (shard_dirty_blocks(world->shards[i].shard, world->volumes[v].id) > 0)
            return true;
    return false;
}

static void removal_start(struct sim_world *world)
{
    uint32_t v = sim_random_below(&world->fate, world->config.volume_count);
    uint32_t others = 0;

    for (uint32_t i = 0; i < world->config.volume_count; i++)
        others += i != v && !world->volumes[i].gone;
    if (others == 0 || world->volumes[v].gone || world->volumes[v].ordered || world->leaving != 0)
        return;
    world->volumes[v].leaving = true;
    world->leaving = v + 1;
    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct sim_shard *shard = &world->shards[i];

        shard_destage_all(shard->shard, world->volumes[v].id);
        if (shard_next_tick(shard->shard) < shard->due_ns)
            shard->due_ns = shard_next_tick(shard->shard);
    }
}

static void remove_volume(struct sim_world *world, uint32_t v)
{
    struct sim_volume *volume = &world->volumes[v];

    volume->gone = true;
    world->removing = v + 1;
    world->totals.volumes_removed++;
    sim_trace_note(&world->trace, TRACE_GONE, v, volume->id, 0);
    for (uint32_t i = 0; i < world->config.shards; i++)
        sim_boot_policy(world, v, i);
    memset(sim_boot_record(world, v), 0, sizeof(struct superblock_volume));
    sim_boot_commit(world);
}

/* Nothing knows it any more: somebody else may write to its backing store. */
static void removal_end(struct sim_world *world)
{
    uint16_t v = (uint16_t)(world->removing - 1);
    struct sim_volume *volume = &world->volumes[v];

    world->removing = 0;
    sim_trace_note(&world->trace, TRACE_GONE, v, volume->id, 1);
    if (world->boot.error != 0)
        return;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t block = sim_random_below(&world->fate, (uint32_t)volume->blocks);
        struct oracle_op op = {
            .volume = v, .fua = true, .offset = block * BLOCK_BYTES, .length = BLOCK_BYTES};
        unsigned char data[BLOCK_BYTES];

        if (op.offset + op.length > volume->bytes)
            op.length = volume->bytes - op.offset;
        if (oracle_crowded(world->oracle, v, op.offset, op.length))
            continue;
        oracle_write_begin(world->oracle, &op);
        for (uint64_t at = 0; at < op.length; at += SECTOR_BYTES)
            content_fill(oracle_content(world->oracle), data + at, v,
                         (op.offset + at) / SECTOR_BYTES, op.id);
        disk_poke(volume->backing, op.offset, data, op.length);
        oracle_write_end(world->oracle, &op, 0);
    }
}

void sim_change_step(struct sim_world *world)
{
    const struct sim_changes *changes = &world->config.changes;

    if (world->phase != PHASE_SERVE)
        return;
    if (sim_random_ppm(&world->fate, changes->mode_ppm))
        change_mode(world);
    if (sim_random_ppm(&world->fate, changes->remove_ppm))
        removal_start(world);
    if (world->leaving != 0 && world->removing == 0 && !world->volumes[world->leaving - 1].gone &&
        !in_use(world, world->leaving - 1))
        remove_volume(world, world->leaving - 1);
    if (world->removing != 0 && world->boot.commit_step == 0 && !world->boot.commit_again)
        removal_end(world);
}
