/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "tests/sim/sim-image.h"

#define IN_FLIGHT_MAX 4096u
#define STAGING_BYTES (2u << 20)

struct disk {
    struct image *image;
    uint32_t number;
    uint64_t bytes, bytes_max;
    struct disk_traits traits;
    struct sim_random random;
    struct sim_trace *trace;
    struct disk_stats stats;
    struct disk_damage *damage;
    bool removed;
    uint64_t order, fail_at;
    unsigned char *staging;
    uint32_t count;
    struct disk_io *heap[IN_FLIGHT_MAX]; /* by due_ns, then order */
};

enum disk_fault {
    FAULT_ERROR,
    FAULT_SLOW,
    FAULT_STUCK,
    FAULT_MISDIRECT,
    FAULT_ROT,
    FAULT_REMOVE
};

struct disk *disk_create(uint32_t number, uint64_t bytes)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (disk == NULL)
        exit(2);
    disk->number = number;
    disk->bytes = disk->bytes_max = bytes;
    disk->image = image_create(bytes);
    disk->staging = malloc(STAGING_BYTES);
    if (disk->staging == NULL)
        exit(2);
    return disk;
}

void disk_destroy(struct disk *disk)
{
    image_destroy(disk->image);
    free(disk->staging);
    free(disk);
}

void disk_reset(struct disk *disk, const struct disk_traits *traits, uint64_t seed,
                struct sim_trace *trace)
{
    image_reset(disk->image, traits->write_cache);
    disk->traits = *traits;
    disk->bytes = traits->bytes != 0 ? traits->bytes : disk->bytes_max;
    assert(disk->bytes <= disk->bytes_max);
    disk->random = sim_random_stream(seed, 1000 + disk->number);
    disk->trace = trace;
    disk->stats = (struct disk_stats){0};
    disk->removed = false;
    disk->order = 0;
    disk->fail_at = 0;
    disk->count = 0;
}

void disk_reseed(struct disk *disk, uint64_t seed)
{
    disk->random = sim_random_stream(seed, 2000 + disk->number);
}

struct disk_traits *disk_traits(struct disk *disk)
{
    return &disk->traits;
}

/* ---- the queue of what is in flight ------------------------------------------------------ */

static bool earlier(const struct disk_io *a, const struct disk_io *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_up(struct disk *disk, uint32_t at)
{
    struct disk_io *io = disk->heap[at];

    while (at > 0 && earlier(io, disk->heap[(at - 1) / 2])) {
        disk->heap[at] = disk->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    disk->heap[at] = io;
}

static void heap_down(struct disk *disk, uint32_t at)
{
    struct disk_io *io = disk->heap[at];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= disk->count)
            break;
        if (child + 1 < disk->count && earlier(disk->heap[child + 1], disk->heap[child]))
            child++;
        if (!earlier(disk->heap[child], io))
            break;
        disk->heap[at] = disk->heap[child];
        at = child;
    }
    disk->heap[at] = io;
}

static struct disk_io *heap_take(struct disk *disk)
{
    struct disk_io *io = disk->heap[0];

    disk->heap[0] = disk->heap[--disk->count];
    if (disk->count > 0)
        heap_down(disk, 0);
    return io;
}

/* ---- submitting -------------------------------------------------------------------------- */

void disk_io_prepare(struct disk_io *io, enum disk_op op, uint64_t offset, void *data,
                     uint64_t length)
{
    io->op = (uint8_t)op;
    io->fua = io->drops_nothing = false;
    io->offset = offset;
    io->length = length;
    io->single = (struct iovec){data, length};
    io->iov = &io->single;
    io->iov_count = 1;
}

static void note_fault(struct disk *disk, enum disk_fault fault, uint64_t offset)
{
    sim_trace_note(disk->trace, TRACE_DISK_FAULT, disk->number, fault, offset);
}

static uint32_t error_ppm(const struct disk *disk, const struct disk_io *io)
{
    switch (io->op) {
    case DISK_READ: return disk->traits.read_error_ppm;
    case DISK_FLUSH: return disk->traits.flush_error_ppm;
    default: return disk->traits.write_error_ppm;
    }
}

static uint64_t delay_ns(struct disk *disk, struct disk_io *io)
{
    const struct disk_traits *traits = &disk->traits;
    uint64_t delay = sim_random_range(&disk->random, traits->delay_min_ns, traits->delay_max_ns);

    if (sim_random_ppm(&disk->random, traits->slow_ppm)) {
        note_fault(disk, FAULT_SLOW, io->offset);
        disk->stats.slowed++;
        delay += traits->slow_ns;
    }
    return delay;
}

static void count_error(struct disk *disk, const struct disk_io *io)
{
    disk->stats.errors++;
    disk->stats.read_errors += io->op == DISK_READ;
    disk->stats.write_errors += io->op == DISK_WRITE || io->op == DISK_ZERO;
    disk->stats.flush_errors += io->op == DISK_FLUSH;
}

void disk_submit(struct disk *disk, struct disk_io *io, uint64_t now_ns)
{
    assert(disk->count < IN_FLIGHT_MAX);
    assert(io->op == DISK_FLUSH ||
           (io->length > 0 && io->length % SECTOR_BYTES == 0 && io->offset % SECTOR_BYTES == 0 &&
            io->offset + io->length <= disk->bytes));
    sim_trace_note(disk->trace, TRACE_DISK, disk->number, io->op, io->offset);
    io->order = disk->order++;
    io->result = 0;
    io->misdirected = false;
    io->unreached = disk->removed;
    io->flush_mark = image_mark(disk->image);
    io->due_ns = now_ns + delay_ns(disk, io);
    disk->stats.reads += io->op == DISK_READ;
    disk->stats.writes += io->op == DISK_WRITE || io->op == DISK_ZERO;
    disk->stats.flushes += io->op == DISK_FLUSH;
    if (disk->removed || disk->order == disk->fail_at ||
        sim_random_ppm(&disk->random, error_ppm(disk, io))) {
        note_fault(disk, FAULT_ERROR, io->offset);
        count_error(disk, io);
        io->result = -EIO;
    }
    if (sim_random_ppm(&disk->random, disk->traits.stuck_ppm)) {
        note_fault(disk, FAULT_STUCK, io->offset);
        disk->stats.stuck++;
        io->due_ns = UINT64_MAX;
    }
    if (io->op == DISK_WRITE && io->result == 0)
        io->misdirected = sim_random_ppm(&disk->random, disk->traits.misdirect_ppm);
    disk->heap[disk->count] = io;
    heap_up(disk, disk->count++);
}

uint64_t disk_next_ns(const struct disk *disk)
{
    return disk->count > 0 ? disk->heap[0]->due_ns : UINT64_MAX;
}

uint32_t disk_in_flight(const struct disk *disk)
{
    return disk->count;
}

uint64_t disk_io_count(const struct disk *disk)
{
    return disk->order;
}

void disk_fail_nth(struct disk *disk, uint64_t nth)
{
    disk->fail_at = nth == 0 ? 0 : disk->order + nth;
}

/* ---- completing -------------------------------------------------------------------------- */

/* The data of a write in one piece; NULL: zeros. */
static const unsigned char *gather(struct disk *disk, const struct disk_io *io)
{
    uint64_t at = 0;

    if (io->op == DISK_ZERO)
        return NULL;
    if (io->iov_count == 1)
        return io->iov[0].iov_base;
    assert(io->length <= STAGING_BYTES);
    for (uint32_t i = 0; i < io->iov_count; i++) {
        memcpy(disk->staging + at, io->iov[i].iov_base, io->iov[i].iov_len);
        at += io->iov[i].iov_len;
    }
    assert(at == io->length);
    return disk->staging;
}

/* A write in flight that overlaps may already be there, sector by sector. */
static void read_early(struct disk *disk, struct disk_io *io, unsigned char *data)
{
    for (uint32_t i = 0; i < disk->count; i++) {
        const struct disk_io *write = disk->heap[i];
        const unsigned char *source;
        uint64_t begin, end;

        if (write->op == DISK_READ || write->op == DISK_FLUSH ||
            write->offset >= io->offset + io->length ||
            io->offset >= write->offset + write->length || sim_random_percent(&disk->random, 70))
            continue;
        source = gather(disk, write);
        begin = write->offset > io->offset ? write->offset : io->offset;
        end = write->offset + write->length < io->offset + io->length
                  ? write->offset + write->length
                  : io->offset + io->length;
        for (; begin < end; begin += SECTOR_BYTES) {
            if (sim_random_below(&disk->random, 2))
                continue;
            if (source != NULL)
                memcpy(data + (begin - io->offset), source + (begin - write->offset), SECTOR_BYTES);
            else
                memset(data + (begin - io->offset), 0, SECTOR_BYTES);
        }
    }
}

static void run_read(struct disk *disk, struct disk_io *io)
{
    unsigned char *data = io->iov[0].iov_base;

    assert(io->iov_count == 1);
    if (io->result != 0)
        return;
    memcpy(data, image_current(disk->image) + io->offset, io->length);
    if (disk->traits.tears_reads)
        read_early(disk, io, data);
}

/* Anywhere else of the same size. */
static uint64_t misdirect(struct disk *disk, const struct disk_io *io)
{
    uint64_t slots = (disk->bytes - DATA_OFFSET - SUPERBLOCK_BYTES - io->length) / BLOCK_BYTES;

    return DATA_OFFSET + sim_random_next(&disk->random) % slots * BLOCK_BYTES;
}

static void damage(struct disk *disk, uint64_t place, uint64_t content, uint64_t length)
{
    if (disk->damage != NULL)
        disk->damage->damaged(disk->damage, disk, place, content, length);
}

static void run_write(struct disk *disk, struct disk_io *io)
{
    uint64_t offset = io->offset;
    uint64_t sectors = io->length / SECTOR_BYTES;

    if (io->unreached)
        return;
    if (io->result != 0) { /* a failed write leaves a part of itself, or nothing */
        const unsigned char *data = gather(disk, io);
        uint64_t from = sim_random_next(&disk->random) % sectors;
        uint64_t count = sim_random_next(&disk->random) % (sectors - from + 1);

        if (count > 0)
            image_write(disk->image, offset + from * SECTOR_BYTES,
                        data != NULL ? data + from * SECTOR_BYTES : NULL, count * SECTOR_BYTES,
                        false);
        return;
    }
    if (io->misdirected) {
        offset = misdirect(disk, io);
        note_fault(disk, FAULT_MISDIRECT, offset);
        disk->stats.misdirected++;
        damage(disk, offset, offset, io->length);
    }
    image_write(disk->image, offset, gather(disk, io), io->length, io->fua);
    if (io->misdirected)
        damage(disk, io->offset, offset, io->length);
}

bool disk_run_one(struct disk *disk, uint64_t now_ns)
{
    struct disk_io *io;

    if (disk->count == 0 || disk->heap[0]->due_ns > now_ns || disk->heap[0]->due_ns == UINT64_MAX)
        return false;
    io = heap_take(disk);
    switch (io->op) {
    case DISK_READ: run_read(disk, io); break;
    case DISK_FLUSH:
        if (io->result == 0)
            image_flush(disk->image, io->flush_mark);
        else if (disk->traits.flush_drops_percent > 0 && !io->unreached && !io->drops_nothing)
            disk->stats.dropped += image_drop(disk->image, io->flush_mark,
                                              disk->traits.flush_drops_percent, &disk->random);
        break;
    default: run_write(disk, io); break;
    }
    sim_trace_note(disk->trace, TRACE_DISK_DONE, disk->number, (uint64_t)(int64_t)io->result,
                   io->offset);
    io->done(io, io->result);
    return true;
}

/* ---- power, removal, decay --------------------------------------------------------------- */

/* How the fates of one power cut are distributed: the extremes matter as much as the mixture. */
static enum image_fate choose_fate(struct disk *disk, unsigned style)
{
    static const uint8_t lands_percent[] = {100, 0, 40, 90, 10, 50, 25, 75};
    uint32_t dice = sim_random_below(&disk->random, 100);
    enum image_fate fate = FATE_TORN;

    if (dice < lands_percent[style])
        fate = FATE_LANDS;
    else if (style < 2 || sim_random_below(&disk->random, 3) != 0)
        fate = FATE_VANISHES;
    else if (disk->traits.garbage && sim_random_below(&disk->random, 2))
        fate = FATE_GARBAGE;
    disk->stats.landed += fate == FATE_LANDS;
    disk->stats.vanished += fate == FATE_VANISHES;
    disk->stats.torn += fate == FATE_TORN;
    disk->stats.garbage += fate == FATE_GARBAGE;
    return fate;
}

static void settle(struct disk *disk, struct disk_io *io, enum image_fate fate)
{
    sim_trace_note(disk->trace, TRACE_FATE, io->offset, io->length, fate);
    image_settle(disk->image, io->offset, gather(disk, io), io->length, fate, &disk->random);
}

void disk_power_cut(struct disk *disk)
{
    uint64_t records = image_power_cut_begin(disk->image);
    unsigned style = sim_random_below(&disk->random, 8);

    sim_trace_note(disk->trace, TRACE_DISK_CRASH, disk->number, style, records + disk->count);
    for (uint64_t n = 0; n < records; n++) {
        uint64_t offset, length;

        if (image_power_cut_record(disk->image, n, &offset, &length)) {
            enum image_fate fate = choose_fate(disk, style);

            sim_trace_note(disk->trace, TRACE_FATE, offset, length, fate);
            image_power_cut_settle_record(disk->image, n, fate, &disk->random);
        }
    }
    image_power_cut_end(disk->image);
    while (disk->count > 0) { /* in any order */
        uint32_t at = sim_random_below(&disk->random, disk->count);
        struct disk_io *io = disk->heap[at];

        disk->heap[at] = disk->heap[--disk->count];
        if (io->op == DISK_WRITE || io->op == DISK_ZERO)
            settle(disk, io, choose_fate(disk, style));
    }
}

void disk_owner_killed(struct disk *disk)
{
    while (disk->count > 0) {
        struct disk_io *io = heap_take(disk);

        if (io->op == DISK_WRITE || io->op == DISK_ZERO)
            run_write(disk, io);
    }
}

void disk_remove(struct disk *disk, uint64_t now_ns)
{
    note_fault(disk, FAULT_REMOVE, disk->count);
    disk->stats.removals++;
    disk->removed = true;
    for (uint32_t i = 0; i < disk->count; i++) {
        if (disk->heap[i]->result == 0)
            count_error(disk, disk->heap[i]);
        disk->heap[i]->result = -EIO;
        disk->heap[i]->misdirected = false;
        disk->heap[i]->due_ns = now_ns; /* all the same, so that it stays a heap by order */
    }
    for (uint32_t i = disk->count / 2; i-- > 0;)
        heap_down(disk, i);
}

void disk_insert(struct disk *disk)
{
    disk->stats.insertions += disk->removed;
    disk->removed = false;
}

bool disk_is_removed(const struct disk *disk)
{
    return disk->removed;
}

void disk_heal(struct disk *disk, uint64_t now_ns)
{
    struct disk_traits *traits = &disk->traits;

    traits->read_error_ppm = traits->write_error_ppm = traits->flush_error_ppm = 0;
    traits->stuck_ppm = traits->misdirect_ppm = 0;
    disk->fail_at = 0;
    disk_insert(disk);
    for (uint32_t i = 0; i < disk->count; i++)
        if (disk->heap[i]->due_ns == UINT64_MAX)
            disk->heap[i]->due_ns = now_ns;
    for (uint32_t i = disk->count / 2; i-- > 0;)
        heap_down(disk, i);
}

void disk_poke(struct disk *disk, uint64_t offset, const unsigned char *data, uint64_t length)
{
    image_write(disk->image, offset, data, length, true);
}

void disk_rot(struct disk *disk, uint64_t offset, uint32_t bytes)
{
    note_fault(disk, FAULT_ROT, offset);
    disk->stats.rotten++;
    damage(disk, offset, offset, bytes);
    image_damage(disk->image, offset, bytes, &disk->random);
}

const unsigned char *disk_current(const struct disk *disk)
{
    return image_current(disk->image);
}

const unsigned char *disk_durable(const struct disk *disk)
{
    return image_durable(disk->image);
}

uint64_t disk_bytes(const struct disk *disk)
{
    return disk->bytes;
}

const struct disk_stats *disk_stats(const struct disk *disk)
{
    return &disk->stats;
}

void disk_on_damage(struct disk *disk, struct disk_damage *damage_sink)
{
    disk->damage = damage_sink;
}
