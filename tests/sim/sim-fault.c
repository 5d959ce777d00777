/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that are not a disk's own: decay, devices that go and come back, clocks that jump.
 *
 * A damaged flash extent makes reads of the blocks that it held fail at worst; what is returned must
 * still be right.  The exception: in a segment without a footer, a record that the crash found
 * damaged cannot be told from one that the crash tore, so the older version may come back there.
 */
#include <string.h>

#include "common/list.h"
#include "tests/sim/sim-world.h"

/* ---- damage ------------------------------------------------------------------------------ */

/* Is there a footer that belongs to what the segment holds now? */
static bool segment_closed(struct sim_world *world, uint64_t place)
{
    uint64_t first = place - (place - DATA_OFFSET) % SEGMENT_BYTES_MIN;
    const unsigned char *image = disk_durable(world->flash);
    uint32_t slots = SEGMENT_BYTES_MIN / BLOCK_BYTES;
    struct segment_header headers[SEGMENT_HEADER_SLOTS];
    struct segment_footer footer;
    uint64_t generation = 0;

    memcpy(headers, image + first, sizeof(headers));
    memcpy(&footer, image + first + (slots - footer_slots(slots)) * BLOCK_BYTES, sizeof(footer));
    for (unsigned i = 0; i < SEGMENT_HEADER_SLOTS; i++)
        if (headers[i].magic == SEGMENT_MAGIC && headers[i].generation > generation)
            generation = headers[i].generation;
    return footer.magic == FOOTER_MAGIC && footer.generation == generation;
}

static void doubt(struct sim_world *world, uint16_t volume, uint64_t block)
{
    uint64_t offset = block * BLOCK_BYTES, length = BLOCK_BYTES;

    if (volume >= world->config.volume_count || offset >= world->volumes[volume].bytes)
        return;
    if (offset + length > world->volumes[volume].bytes)
        length = world->volumes[volume].bytes - offset;
    oracle_doubt(world->oracle, volume, offset, length, false);
}

static void damaged_add(struct sim_world *world, uint64_t place, uint16_t volume, uint64_t block)
{
    struct sim_damage *damage = &world->damage;

    if (world->phase < PHASE_SERVE && !segment_closed(world, place))
        doubt(world, volume, block); /* the crash was before */
    else if (damage->count == SIM_DAMAGED_MAX)
        doubt(world, volume, block);
    else
        damage->list[damage->count++] = (struct sim_damaged){place, block, volume};
}

static void damaged_entries(struct sim_world *world, uint64_t place, const struct entry *entries,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t v = 0; v < world->config.volume_count; v++)
            for (uint32_t n = 0; world->volumes[v].id == entries[i].volume && n < entries[i].count;
                 n++)
                damaged_add(world, place, (uint16_t)v, entries[i].block + n);
}

static void damaged_slot(struct sim_world *world, uint64_t place, const unsigned char *data)
{
    struct batch_header header;
    uint16_t volume;
    uint64_t sector;
    uint32_t id;

    memcpy(&header, data, sizeof(header));
    if (header.magic == BATCH_MAGIC && header.entry_count <= BATCH_ENTRIES_MAX) {
        damaged_entries(world, place, header.entries, header.entry_count);
        return;
    }
    for (uint32_t i = 0; i < BLOCK_BYTES; i += SECTOR_BYTES)
        if (content_identify(data + i, &volume, &sector, &id)) {
            damaged_add(world, place, volume, sector * SECTOR_BYTES / BLOCK_BYTES);
            return;
        }
}

static void on_damage(struct disk_damage *sink, struct disk *disk, uint64_t place, uint64_t content,
                      uint64_t length)
{
    struct sim_world *world = container_of(sink, struct sim_damage, damage)->world;
    uint64_t data_end = disk_bytes(disk) - SUPERBLOCK_BYTES;

    world->errors_legal = world->damaged = true;
    if (place < DATA_OFFSET || place + length > data_end)
        return;
    for (uint64_t at = 0; at < length; at += BLOCK_BYTES)
        damaged_slot(world, place + at, disk_current(disk) + content + at);
}

void sim_fault_crash(struct sim_world *world)
{
    struct sim_damage *damage = &world->damage;

    for (uint32_t i = 0; i < damage->count; i++)
        if (!segment_closed(world, damage->list[i].place))
            doubt(world, damage->list[i].volume, damage->list[i].block);
    damage->count = 0;
}

/* ---- life -------------------------------------------------------------------------------- */

void sim_fault_reset(struct sim_world *world)
{
    world->fault_random = sim_random_stream(world->config.seed, 4);
    world->damage.world = world;
    world->damage.damage.damaged = on_damage;
    world->damage.count = 0;
    disk_on_damage(world->flash, &world->damage.damage);
    world->healed = true; /* until the first round */
    world->errors_legal = world->damaged = false;
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

static void rot(struct sim_world *world)
{
    uint64_t slots =
        (uint64_t)world->config.shards * SIM_SEGMENTS_MAX * SEGMENT_BYTES_MIN / BLOCK_BYTES;
    uint64_t slot = sim_random_next(&world->fault_random) % slots;

    disk_rot(world->flash, DATA_OFFSET + slot * BLOCK_BYTES, BLOCK_BYTES);
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
    come_and_go(world, world->flash, faults->flash_gone_ppm);
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
    if (sim_random_percent(&world->fault_random, world->config.faults.heal_percent)) {
        sim_fault_heal(world);
        return;
    }
    *disk_traits(world->flash) = world->config.flash;
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        *disk_traits(world->volumes[i].backing) = world->config.volumes[i].backing;
    world->healed = false;
}
