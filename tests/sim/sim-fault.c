/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that are not a disk's own: decay, devices that go and come back, clocks that jump.
 */
#include <string.h>

#include "common/list.h"
#include "tests/sim/sim-world.h"

/* ---- life -------------------------------------------------------------------------------- */

void sim_fault_reset(struct sim_world *world)
{
    world->fault_random = sim_random_stream(world->config.seed, 4);
    sim_damage_reset(world);
    world->healed = true; /* until the first round */
    world->errors_legal = world->damaged = world->misread = false;
}

bool sim_fault_happened(struct sim_world *world)
{
    if (world->errors_legal || !world->config.faults.any)
        return world->errors_legal;
    world->errors_legal = disk_stats(world->flash)->errors > 0;
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        world->errors_legal |= disk_stats(world->volumes[i].backing)->errors > 0;
    return world->errors_legal;
}

static bool copy_intact(struct sim_world *world, const unsigned char *image, unsigned copy)
{
    static struct superblock superblock;
    char why[256];

    memcpy(&superblock, image + superblock_offset(&world->boot.superblock, copy), SUPERBLOCK_BYTES);
    return superblock_check(&superblock, disk_bytes(world->flash), why, sizeof(why)) == 0;
}

/* One copy of the superblock, never both: losing both is losing the cache. */
static void rot_superblock(struct sim_world *world)
{
    unsigned copy = sim_random_below(&world->fault_random, 2);

    if (world->boot.commit_step != 0 || world->phase < PHASE_RECOVER)
        return;
    for (unsigned other = 0; other < 2; other++)
        if (!copy_intact(world, disk_current(world->flash), other) ||
            !copy_intact(world, disk_durable(world->flash), other))
            return;
    disk_rot(world->flash, superblock_offset(&world->boot.superblock, copy), SUPERBLOCK_BYTES);
}

/* Anywhere, or where something was written not long ago. */
static void rot(struct sim_world *world)
{
    uint64_t slots =
        (uint64_t)world->config.shards * SIM_SEGMENTS_MAX * SEGMENT_BYTES_MIN / BLOCK_BYTES;
    uint64_t slot = sim_random_next(&world->fault_random) % slots;
    uint32_t choice = sim_random_below(&world->fault_random, 100);
    uint64_t recent = world->recent_count < SIM_RECENT ? world->recent_count : SIM_RECENT;

    if (choice < 8) {
        rot_superblock(world);
        return;
    }
    if (choice < 60 && recent > 0)
        slot = world->recent[slot % recent];
    disk_rot(world->flash, DATA_OFFSET + slot * BLOCK_BYTES, BLOCK_BYTES);
    if (world->phase < PHASE_SERVE) /* a footer that rots now has named what a header does not */
        sim_damage_judge(world);
}

static void come_and_go(struct sim_world *world, struct disk *disk, uint32_t ppm)
{
    if (disk_is_removed(disk)) {
        if (sim_random_ppm(&world->fault_random, 3000))
            disk_insert(disk);
    } else if (sim_random_ppm(&world->fault_random, ppm)) {
        disk_remove(disk, world->now_ns);
        world->errors_legal = true;
    }
}

void sim_fault_step(struct sim_world *world)
{
    const struct sim_faults *faults = &world->config.faults;

    if (!faults->any || world->healed)
        return;
    if (sim_random_ppm(&world->fault_random, faults->rot_ppm))
        rot(world);
    come_and_go(world, world->flash,
                (world->phase == PHASE_RECOVER ? 5 : 1) * faults->flash_gone_ppm);
    /* It lost power while it was out. */
    if (world->attach.loss >= LOSS_PASSING && disk_is_removed(world->flash) &&
        disk_in_flight(world->flash) == 0 && sim_random_ppm(&world->fault_random, 1000)) {
        disk_power_cut(world->flash);
        world->attach.cache_lost = true;
    }
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        come_and_go(world, world->volumes[i].backing, faults->backing_gone_ppm);
    if (sim_random_ppm(&world->fault_random, faults->clock_jump_ppm)) {
        world->totals.clock_jumps++;
        world->now_ns += UINT64_C(1000000) * sim_random_range(&world->fault_random, 1, 100000);
    }
}

void sim_fault_heal(struct sim_world *world)
{
    disk_heal(world->flash, world->now_ns);
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        disk_heal(world->volumes[i].backing, world->now_ns);
    world->healed = true;
}

void sim_fault_round(struct sim_world *world)
{
    if (!world->config.faults.any)
        return;
    if (sim_random_percent(&world->fault_random, world->config.faults.heal_percent) ||
        world->boot.refusals > SIM_REFUSALS) {
        sim_fault_heal(world);
        return;
    }
    *disk_traits(world->flash) = world->config.flash;
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        *disk_traits(world->volumes[i].backing) = world->config.volumes[i].backing;
    world->healed = false;
}
