/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From power-on to serving, and the clean way back: what the daemon does with the superblock.
 *
 *   format -> [ start -> session -> recover -> serve -> (crash | drain -> stop -> flush ->
 *               superblock with the clean mark -> stopped) ]...
 *
 * Each write and flush of the superblock goes through the simulated disk, so a crash can come
 * between any two of them.
 */
#include <errno.h>
#include <string.h>

#include "common/list.h"
#include "tests/sim/sim-world.h"

enum commit_step {
    COMMIT_NONE,
    COMMIT_FIRST,
    COMMIT_FLUSH,
    COMMIT_SECOND,
    COMMIT_FLUSH_SECOND
};

#define DESTAGE_NS UINT64_C(1000000000)

/* ---- both copies, one after the other (I25) ----------------------------------------------- */

static void commit_io(struct sim_world *world);

/* The current copy is spared, unless it has rotted. */
static void commit_begin(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;
    struct superblock *copy = &boot->copies[boot->current];

    boot->retired = boot->retiring;
    boot->retiring = NULL;
    memcpy(copy, disk_current(world->flash) + superblock_offset(&boot->superblock, boot->current),
           SUPERBLOCK_BYTES);
    if (!superblock_holds(copy, boot->sequence, disk_bytes(world->flash)) && !MUTANT(226))
        boot->current = !boot->current;
    superblock_seal(&boot->superblock);
    boot->commit_step = COMMIT_FIRST;
    commit_io(world);
}

static void retire_answers(struct sim_io *list, int result)
{
    while (list != NULL) {
        struct sim_io *next = list->next;

        sim_io_done(list, result);
        list = next;
    }
}

static void commit_ended(struct sim_world *world, int result)
{
    struct sim_boot *boot = &world->boot;
    struct sim_io *retired = boot->retired;

    boot->commit_step = COMMIT_NONE;
    boot->retired = NULL;
    boot->error = result;
    retire_answers(retired, result);
    if (boot->commit_again) {
        boot->commit_again = false;
        commit_begin(world);
    }
}

static void commit_done(struct disk_io *io, int result)
{
    struct sim_boot *boot = container_of(io, struct sim_boot, io);
    struct sim_world *world = container_of(boot, struct sim_world, boot);

    if (boot->commit_step == COMMIT_FLUSH && result == 0) {
        boot->current = !boot->current;
        boot->sequence = boot->superblock.sequence;
    }
    if (result != 0 && io->op == DISK_FLUSH)
        sim_attach_flush_failed(world);
    if (result != 0 || boot->commit_step == COMMIT_FLUSH_SECOND ||
        (boot->commit_step == COMMIT_FLUSH && MUTANT(225))) {
        commit_ended(world, result);
        return;
    }
    boot->commit_step++;
    commit_io(world);
}

static void commit_io(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;
    unsigned copy = !boot->current;

    if (boot->commit_step == COMMIT_FIRST || boot->commit_step == COMMIT_SECOND) {
        /* What was sealed: meanwhile more may have changed, for the next commit. */
        boot->copies[copy] =
            boot->commit_step == COMMIT_FIRST ? boot->superblock : boot->copies[!copy];
        disk_io_prepare(&boot->io, DISK_WRITE, superblock_offset(&boot->superblock, copy),
                        &boot->copies[copy], SUPERBLOCK_BYTES);
    } else {
        sim_attach_flush_prepare(world, &boot->io);
    }
    boot->io.done = commit_done;
    disk_submit(world->flash, &boot->io, world->now_ns);
}

void sim_boot_commit(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;

    if (boot->commit_step != COMMIT_NONE) {
        boot->commit_again = true;
        return;
    }
    commit_begin(world);
}

bool sim_boot_committing(const struct sim_world *world)
{
    return world->boot.commit_step != COMMIT_NONE;
}

/* One more, and the flash is worn out, after each start again: nobody in the simulated world has
 * another one.  test-engine-failures starts on such a flash. */
static bool nearly_worn_out(const struct sim_world *world, uint64_t segment)
{
    const struct superblock *superblock = &world->boot.superblock;
    uint64_t shard = segment / superblock->segments_per_shard, count = 0;

    for (uint32_t i = 0; i < superblock->retired_count; i++)
        count += superblock->retired[i] / superblock->segments_per_shard == shard;
    return count + 10 > world->config.segments;
}

void sim_boot_retire(struct sim_world *world, struct sim_io *io)
{
    struct superblock *superblock = &world->boot.superblock;

    if (superblock->retired_count == RETIRED_MAX || world->attach.loss != LOSS_NONE ||
        nearly_worn_out(world, io->action.offset)) {
        sim_io_done(io, world->attach.loss != LOSS_NONE ? -EIO : -ENOSPC);
        return;
    }
    superblock->retired[superblock->retired_count++] = (uint32_t)io->action.offset;
    io->next = world->boot.retiring;
    world->boot.retiring = io;
    sim_boot_commit(world);
}

/* ---- format ------------------------------------------------------------------------------ */

static void on_formatted(struct disk_io *io, int result)
{
    (void)io;
    (void)result;
}

/* Before the seed's faults begin. */
void sim_boot_format(struct sim_world *world)
{
    const struct sim_config *config = &world->config;
    struct superblock *superblock = &world->boot.superblock;
    struct superblock_geometry geometry = {.device_bytes = disk_bytes(world->flash),
                                           .segment_bytes = SEGMENT_BYTES_MIN,
                                           .shards = config->shards,
                                           .cores = config->cores};
    uint8_t uuid[16];
    char why[256];

    for (unsigned i = 0; i < sizeof(uuid); i += 8) {
        uint64_t word = hash_pair64(config->seed, i);

        memcpy(uuid + i, &word, 8);
    }
    world->boot.current = 0;
    if (superblock_init(superblock, &geometry, uuid, why, sizeof(why)) != 0)
        sim_fail(world, "format: %s", why);
    for (uint32_t i = 0; i < config->volume_count; i++) {
        struct superblock_volume *volume;

        uuid[0] = (uint8_t)i;
        volume = superblock_volume_add(superblock, (const char[2]){(char)('a' + i), 0}, uuid);
        volume->bytes = config->volumes[i].bytes;
        volume->mode = config->volumes[i].mode;
        volume->attachment_epoch = 1;
        world->volumes[i].id = volume->id;
    }
    superblock_seal(superblock);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct disk_io io = {0};

        disk_io_prepare(&io, DISK_WRITE, superblock_offset(superblock, copy), superblock,
                        SUPERBLOCK_BYTES);
        io.fua = true;
        io.done = on_formatted;
        disk_submit(world->flash, &io, 0);
        while (disk_run_one(world->flash, UINT64_MAX - 1))
            ;
    }
}

/* ---- start ------------------------------------------------------------------------------- */

static void refuse(struct sim_world *world, int error, const char *why)
{
    sim_trace_note(&world->trace, TRACE_BOOT, world->phase, world->boot.superblock.session,
                   (uint64_t)(int64_t)error);
    if (!sim_fault_happened(world))
        sim_fail(world, "refuses to start without a fault: %s (%d)", why, error);
    /* A device may be away for long; what still refuses when all is well again, and stays so, is
     * wrong. */
    if (++world->boot.refusals > SIM_REFUSALS)
        sim_fault_heal(world);
    if (world->boot.refusals > 2 * SIM_REFUSALS)
        sim_fail(world, "still refuses to start: %s (%d)", why, error);
    sim_world_phase(world, PHASE_REFUSED);
}

void sim_boot_start(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;
    const unsigned char *image = disk_current(world->flash);
    uint64_t bytes = disk_bytes(world->flash);
    char why[256];
    int current;

    boot->commit_step = COMMIT_NONE;
    boot->commit_again = false;
    boot->retiring = boot->retired = NULL;
    sim_world_phase(world, PHASE_FILES);
    if (disk_is_removed(world->flash)) {
        if (!world->attach.on || sim_random_percent(&world->fate, 30) ||
            !sim_attach_begin(world, false))
            refuse(world, -ENXIO, "no flash device");
        else
            world->totals.attach_without++;
        return;
    }
    memcpy(&boot->copies[0], image + superblock_offset(&boot->superblock, 0), SUPERBLOCK_BYTES);
    memcpy(&boot->copies[1], image + superblock_offset(&boot->superblock, 1), SUPERBLOCK_BYTES);
    current = superblock_pick(boot->copies, bytes, why, sizeof(why));
    if (current < 0) {
        refuse(world, current, why);
        return;
    }
    boot->current = (unsigned)current;
    boot->superblock = boot->copies[current];
    boot->sequence = boot->superblock.sequence;
    boot->was_clean = boot->superblock.flags & SUPERBLOCK_CLEAN;
    if (world->attach.on)
        sim_attach_begin(world, true);
}

static void begin_session(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;

    sim_world_phase(world, PHASE_SESSION);
    boot->superblock.session++;
    boot->superblock.flags &= ~(uint32_t)SUPERBLOCK_CLEAN;
    sim_change_boot(world);
    sim_boot_commit(world);
}

struct superblock_volume *sim_boot_record(struct sim_world *world, uint32_t volume)
{
    return superblock_volume_find(&world->boot.superblock,
                                  (const char[2]){(char)('a' + volume), 0});
}

/* Hazard 13: whoever was here before, perhaps without the flash, may have left unflushed writes. */
static bool has_debt(const struct sim_world *world, uint32_t volume)
{
    bool was_away = world->attach.on && world->attach.plans[volume].verdict != ATTACH_NORMAL;

    return (!world->boot.was_clean || was_away) && !MUTANT(13);
}

void sim_boot_policy(struct sim_world *world, uint32_t v, uint32_t index)
{
    struct sim_shard *shard = &world->shards[index];
    const struct sim_volume *volume = &world->volumes[v];
    struct volume_policy policy = {
        .present = !volume->gone,
        .mode = volume->mode,
        .destage = volume->ordered && world->attach.loss != LOSS_MISSING ? DESTAGE_ORDERED
                                                                         : DESTAGE_SORTED,
        .backing_debt = has_debt(world, v),
        .returns = world->attach.on && world->attach.plans[v].verdict == ATTACH_RETURNS,
        .blocks = volume->blocks,
        .dirty_max_percent = world->config.volumes[v].dirty_max_percent,
        .share_min_percent = world->config.volumes[v].share_min_percent,
        .share_max_percent = world->config.volumes[v].share_max_percent,
        .pins = world->config.volumes[v].pins[volume->mode % 2],
    };

    if (!volume->gone)
        policy.floor_lsn = sim_boot_record(world, v)->floor_lsn;
    shard_volume_set(shard->shard, volume->id, &policy);
    if (shard_next_tick(shard->shard) < shard->due_ns)
        shard->due_ns = shard_next_tick(shard->shard);
}

static void create_shard(struct sim_world *world, uint32_t index)
{
    const struct superblock *superblock = &world->boot.superblock;
    struct sim_shard *shard = &world->shards[index];
    struct shard_config config = {
        .session = superblock->session,
        .shard = (uint16_t)index,
        .cores = (uint16_t)world->config.cores,
        .segment_first = index * superblock->segments_per_shard,
        .segments = world->attach.loss == LOSS_MISSING ? SIM_SEGMENTS_MAX : world->config.segments,
        .segment_bytes = (uint32_t)superblock->segment_bytes,
        .ram_frames = world->config.frames,
        .ram = shard->ram,
        .flash_volatile = world->config.flash.write_cache,
        .clean_start = world->boot.was_clean,
        .watermark = superblock->shards[index].watermark,
        .durable_lsn = superblock->shards[index].durable_lsn,
        .retired = superblock->retired,
        .retired_count = superblock->retired_count,
        .ordered_volumes = world->attach.loss == LOSS_MISSING ? 0 : world->config.volume_count,
        .epochs_max = world->config.epochs_max,
        .detached = world->attach.loss == LOSS_MISSING,
        .held = sim_attach_holds(world),
    };

    memcpy(config.uuid, superblock->uuid, sizeof(config.uuid));
    if (shard_memory_bytes(&config) > shard->memory_bytes)
        sim_fail(world, "a shard needs %zu bytes", shard_memory_bytes(&config));
    memset(shard->memory, 0, shard_memory_bytes(&config));
    shard->shard = shard_create(&config, shard->memory);
    shard->index = index;
    shard->home = index % world->config.cores;
    shard->tick = (struct sim_task){.kind = TASK_TICK};
    shard->stop = (struct sim_task){.kind = TASK_STOP};
    shard->ready = false;
    shard->due_ns = world->now_ns;
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        sim_boot_policy(world, i, index);
}

static void create_shards(struct sim_world *world)
{
    sim_flusher_init(world, &world->flash_flusher, world->flash, 0);
    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_volume *volume = &world->volumes[i];

        sim_flusher_init(world, &volume->flusher, volume->backing, i + 1);
        volume->epoch = world->boot.superblock.session << LSN_SESSION_SHIFT;
        /* Hazard 13: whoever was here before, and did not stop cleanly, may have left a debt. */
        volume->clients = volume->clients_flash = (struct sim_flush_party){0};
        memset(volume->destaging, 0, sizeof(volume->destaging));
        volume->backing_writes = has_debt(world, i);
        volume->backing_flushed = 0;
        sim_epoch_reset(world, volume);
    }
    for (uint32_t i = 0; i < world->config.shards; i++)
        create_shard(world, i);
    sim_world_phase(world, PHASE_RECOVER);
}

static void serve(struct sim_world *world)
{
    world->boot.refusals = 0;
    oracle_recovered(world->oracle);
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        sim_epoch_advance(world, &world->volumes[i]);
    sim_world_phase(world, PHASE_SERVE);
    sim_client_recovered(world);
}

static void recover_advance(struct sim_world *world)
{
    bool all = true;

    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct sim_shard *shard = &world->shards[i];
        int ready = shard_ready(shard->shard);
        struct shard_status status;

        if (ready < 0) {
            refuse(world, ready, "recovery failed");
            return;
        }
        if (ready > 0 && !shard->ready) {
            shard->ready = true;
            sim_epoch_shard_ready(world, shard->shard);
            shard_status(shard->shard, &status);
            sim_trace_note(&world->trace, TRACE_SHARD_READY, i, (uint64_t)ready,
                           status.recovery_entries);
        }
        all &= shard->ready;
    }
    if (!all)
        return;
    if (world->attach.on)
        sim_attach_recovered(world);
    else
        serve(world);
}

static void attach_advance(struct sim_world *world)
{
    int done = sim_attach_finish(world);

    if (done < 0)
        refuse(world, -EIO, "the flash vanished again");
    else if (done > 0)
        serve(world);
}

/* ---- the clean stop ---------------------------------------------------------------------- */

void sim_boot_stop(struct sim_world *world, bool destage_first)
{
    world->client.quiet = true;
    world->boot.destage_ns = 0;
    world->boot.listed = false;
    world->boot.destage_first = destage_first;
    sim_world_phase(world, PHASE_DRAIN);
}

/* Asks for it now and then; how much is left of what can be destaged at all. */
static uint64_t destage_all(struct sim_world *world)
{
    bool ask = world->now_ns >= world->boot.destage_ns;
    uint64_t sum = 0;

    if (ask)
        world->boot.destage_ns = world->now_ns + DESTAGE_NS;
    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct sim_shard *shard = &world->shards[i];
        uint64_t dirty = shard_dirty_blocks(shard->shard, VOLUME_ALL) -
                         shard_lost_blocks(shard->shard, VOLUME_ALL);

        sum += dirty;
        if (dirty == 0 || !ask)
            continue;
        shard_destage_all(shard->shard, VOLUME_ALL);
        if (shard_next_tick(shard->shard) < shard->due_ns)
            shard->due_ns = shard_next_tick(shard->shard);
    }
    return sum;
}

static void drain_advance(struct sim_world *world)
{
    if (world->client.open > 0)
        return;
    if (world->boot.destage_first && destage_all(world) > 0)
        return;
    sim_world_phase(world, PHASE_STOP);
    for (uint32_t i = 0; i < world->config.shards; i++)
        sim_task_push(world, world->shards[i].home, &world->shards[i].stop);
}

static void flash_flushed(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    struct superblock *superblock = &world->boot.superblock;

    (void)waiter;
    if (result != 0) { /* no clean mark then: the next start recovers */
        refuse(world, result, "flush before the clean mark");
        return;
    }
    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct shard_status status;

        shard_status(world->shards[i].shard, &status);
        superblock->shards[i].watermark = status.watermark;
        superblock->shards[i].durable_lsn = status.durable_lsn;
    }
    superblock->flags |= SUPERBLOCK_CLEAN;
    sim_world_phase(world, PHASE_STOP_SUPERBLOCK);
    sim_boot_commit(world);
}

static void stop_flushed(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    struct sim_boot *boot = &world->boot;

    (void)waiter;
    if (result != 0)
        boot->stop_error = result;
    if (--boot->stop_flushes > 0)
        return;
    if (boot->stop_error != 0) {
        refuse(world, boot->stop_error, "flush of a backing store before the clean mark");
        return;
    }
    boot->stop_flush.done = flash_flushed;
    sim_flush_join(&world->flash_flusher, &boot->stop_flush);
}

static void stop_advance(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.shards; i++)
        if (!shard_idle(world->shards[i].shard))
            return;
    if (world->attach.loss != LOSS_NONE) { /* nothing more is written to it */
        sim_world_phase(world, PHASE_STOPPED);
        return;
    }
    if (world->attach.on && !world->boot.listed) {
        world->boot.listed = true;
        sim_attach_stopped(world);
    }
    if (world->attach.on && !sim_attach_stores_done(world))
        return;
    sim_world_phase(world, PHASE_STOP_FLUSH);
    world->boot.stop_flushes = 1;
    world->boot.stop_error = 0;
    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_volume *volume = &world->volumes[i];

        if (volume->backing_writes == volume->backing_flushed)
            continue;
        world->boot.stop_flushes++;
        world->boot.stop_backing[i].done = stop_flushed;
        sim_flush_join(&volume->flusher, &world->boot.stop_backing[i]);
    }
    stop_flushed(world, NULL, 0);
}

void sim_boot_advance(struct sim_world *world)
{
    struct sim_boot *boot = &world->boot;

    sim_attach_advance(world);
    switch (world->phase) {
    case PHASE_FILES:
        if (!sim_attach_stores_done(world))
            break;
        if (world->attach.loss == LOSS_MISSING)
            create_shards(world);
        else
            begin_session(world);
        break;
    case PHASE_SESSION:
        if (boot->commit_step != COMMIT_NONE)
            break;
        if (boot->error != 0)
            refuse(world, boot->error, "the session could not be written");
        else
            create_shards(world);
        break;
    case PHASE_RECOVER: recover_advance(world); break;
    case PHASE_ATTACH: attach_advance(world); break;
    case PHASE_DRAIN: drain_advance(world); break;
    case PHASE_STOP: stop_advance(world); break;
    case PHASE_STOP_SUPERBLOCK:
        if (boot->commit_step != COMMIT_NONE)
            break;
        if (boot->error != 0)
            refuse(world, boot->error, "the clean mark could not be written");
        else
            sim_world_phase(world, PHASE_STOPPED);
        break;
    default: break;
    }
}
