/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged flash: what a rotten or misdirected block may cost.
 *
 * It makes reads of the blocks that it held fail at worst; what is returned must still be right.
 * The exception: in a segment without a footer, a record that the crash found damaged cannot be told
 * from one that the crash tore, so that an older version may come back; as a clean one, it may hide
 * what the backing store has, which is seen when it leaves the cache.  It can be told (I24) where
 * an intact header, or the echo of one, still names the record, and some header's mark says that
 * everything up to it was durable.
 */
#include <string.h>

#include "common/crc32c.h"
#include "common/list.h"
#include "tests/sim/sim-world.h"

#define SEGMENT_SLOTS (SEGMENT_BYTES_MIN / BLOCK_BYTES)

/* ---- what the medium says ---------------------------------------------------------------- */

static uint64_t segment_start(uint64_t place)
{
    return place - (place - DATA_OFFSET) % SEGMENT_BYTES_MIN;
}

static uint64_t segment_generation(const unsigned char *segment)
{
    struct segment_header headers[SEGMENT_HEADER_SLOTS];
    uint64_t generation = 0;

    memcpy(headers, segment, sizeof(headers));
    for (unsigned i = 0; i < SEGMENT_HEADER_SLOTS; i++)
        if (headers[i].magic == SEGMENT_MAGIC && headers[i].generation > generation)
            generation = headers[i].generation;
    return generation;
}

static uint64_t generation_at(struct sim_world *world, uint64_t place)
{
    return segment_generation(disk_current(world->flash) + segment_start(place));
}

/* Is there a footer that belongs to what the segment holds now? */
static bool segment_closed(struct sim_world *world, uint64_t place)
{
    static union {
        struct segment_footer footer;
        unsigned char bytes[SEGMENT_BYTES_MIN];
    } copy;
    const unsigned char *segment = disk_current(world->flash) + segment_start(place);
    uint32_t slots = footer_slots(SEGMENT_SLOTS), crc;

    memcpy(copy.bytes, segment + (SEGMENT_SLOTS - slots) * BLOCK_BYTES, slots * BLOCK_BYTES);
    crc = copy.footer.crc;
    copy.footer.crc = 0;
    return copy.footer.magic == FOOTER_MAGIC &&
           copy.footer.generation == segment_generation(segment) &&
           copy.footer.entry_count <= SEGMENT_SLOTS &&
           crc32c(0, copy.bytes,
                  sizeof(copy.footer) + copy.footer.entry_count * sizeof(struct entry)) == crc;
}

/* The batch header in this slot, if it is intact. */
static bool header_read(const unsigned char *segment, uint32_t slot, uint64_t generation,
                        uint64_t offset, struct batch_header *header)
{
    const unsigned char *data = segment + (size_t)slot * BLOCK_BYTES;
    uint64_t magic;
    uint32_t crc;

    memcpy(&magic, data, sizeof(magic));
    if (magic != BATCH_MAGIC)
        return false;
    memcpy(header, data, sizeof(*header));
    crc = header->crc;
    header->crc = 0;
    return header->generation == generation && header->offset == offset &&
           header->entry_count <= BATCH_ENTRIES_MAX && header->echo_count <= BATCH_ENTRIES_MAX &&
           crc32c(0, header, sizeof(*header)) == crc;
}

static uint64_t entry_find(const struct entry *entries, uint32_t count,
                           const struct sim_damaged *damaged, uint32_t slot)
{
    for (uint32_t i = 0; i < count; i++)
        if (damaged->lsn != 0 ? entries[i].lsn == damaged->lsn : entries[i].slot == slot)
            return entries[i].lsn;
    return 0;
}

/* Is it certain that recovery finds the record's entry, and knows that it was durable? */
static bool durably_named(struct sim_world *world, const struct sim_damaged *damaged)
{
    uint64_t start = segment_start(damaged->place), lsn = 0, mark = 0;
    const unsigned char *segment = disk_current(world->flash) + start;
    uint64_t generation = segment_generation(segment);
    uint32_t slot = (uint32_t)((damaged->place - start) / BLOCK_BYTES);

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < SEGMENT_SLOTS; i++) {
        struct batch_header header;

        if (!header_read(segment, i, generation, start + (uint64_t)i * BLOCK_BYTES, &header))
            continue;
        if (header.durable_lsn > mark)
            mark = header.durable_lsn;
        if (lsn == 0)
            lsn = entry_find(header.entries, header.entry_count, damaged, slot);
        if (lsn == 0)
            lsn = entry_find(header.echo, header.echo_count, damaged, slot);
    }
    return lsn != 0 && lsn <= mark;
}

/* ---- which blocks are concerned ---------------------------------------------------------- */

static void doubt(struct sim_world *world, const struct sim_damaged *damaged)
{
    uint64_t offset = damaged->block * BLOCK_BYTES, length = BLOCK_BYTES;
    uint16_t volume = damaged->volume;

    if (volume >= world->config.volume_count || offset >= world->volumes[volume].bytes)
        return;
    if (offset + length > world->volumes[volume].bytes)
        length = world->volumes[volume].bytes - offset;
    oracle_lose(world->oracle, volume, offset, length,
                world->config.volumes[volume].backing.garbage);
}

static void damaged_add(struct sim_world *world, const struct sim_damaged *damaged)
{
    struct sim_damage *damage = &world->damage;

    if (world->phase < PHASE_SERVE && !segment_closed(world, damaged->place))
        doubt(world, damaged); /* the crash was before */
    else if (damage->count == SIM_DAMAGED_MAX)
        doubt(world, damaged);
    else {
        damage->list[damage->count] = *damaged;
        damage->list[damage->count++].generation = generation_at(world, damaged->place);
    }
}

static void damaged_entries(struct sim_world *world, uint64_t place, const struct entry *entries,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t v = 0; v < world->config.volume_count; v++)
            for (uint32_t n = 0; world->volumes[v].id == entries[i].volume && n < entries[i].count;
                 n++)
                damaged_add(world, &(struct sim_damaged){.place = place,
                                                         .lsn = entries[i].lsn,
                                                         .volume = (uint16_t)v,
                                                         .block = entries[i].block + n});
}

/* Where the header of the batch that it echoes is damaged, too, it was the last to name the records. */
static void damaged_echo(struct sim_world *world, uint64_t place,
                         const struct batch_header *echoing)
{
    uint64_t start = segment_start(place),
             echoed = start + (uint64_t)echoing->echo_slot * BLOCK_BYTES;
    const unsigned char *segment = disk_current(world->flash) + start;
    struct batch_header header;

    if (echoing->echo_count > 0 && echoing->echo_count <= BATCH_ENTRIES_MAX &&
        echoing->echo_slot < SEGMENT_SLOTS &&
        !header_read(segment, echoing->echo_slot, echoing->generation, echoed, &header))
        damaged_entries(world, place, echoing->echo, echoing->echo_count);
}

/* What a client wrote in part, and zeros, do not say whose they are: the batch's header does. */
static void damaged_unnamed(struct sim_world *world, uint64_t place)
{
    uint64_t start = segment_start(place);
    const unsigned char *segment = disk_current(world->flash) + start;
    uint64_t generation = segment_generation(segment);

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < SEGMENT_SLOTS; i++) {
        struct batch_header header;

        if (!header_read(segment, i, generation, start + (uint64_t)i * BLOCK_BYTES, &header))
            continue;
        for (uint32_t k = 0; k < header.entry_count; k++)
            if (start + (uint64_t)header.entries[k].slot * BLOCK_BYTES == place)
                damaged_entries(world, place, &header.entries[k], 1);
    }
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
        damaged_echo(world, place, &header);
        return;
    }
    for (uint32_t i = 0; i < BLOCK_BYTES; i += SECTOR_BYTES)
        if (content_identify(data + i, &volume, &sector, &id)) {
            damaged_add(world, &(struct sim_damaged){.place = place,
                                                     .volume = volume,
                                                     .block = sector * SECTOR_BYTES / BLOCK_BYTES});
            return;
        }
    damaged_unnamed(world, place);
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

/* ---- life -------------------------------------------------------------------------------- */

void sim_damage_reset(struct sim_world *world)
{
    world->damage.world = world;
    world->damage.damage.damaged = on_damage;
    world->damage.count = 0;
    disk_on_damage(world->flash, &world->damage.damage);
}

void sim_damage_judge(struct sim_world *world)
{
    struct sim_damage *damage = &world->damage;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < damage->count; i++) {
        const struct sim_damaged damaged = damage->list[i];

        if (damaged.generation != generation_at(world, damaged.place))
            continue;
        if (segment_closed(world, damaged.place))
            damage->list[kept++] = damaged; /* its footer may rot, too */
        else if (!durably_named(world, &damaged))
            doubt(world, &damaged);
    }
    damage->count = kept;
}
