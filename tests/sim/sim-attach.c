/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-attach.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim-world.h"

#define STORE_NS_MAX 3000000u
#define LIST_BLOCKS  64u

enum attach_step {
    STEP_KEEP,
    STEP_DRAIN,
    STEP_COMMIT,
    STEP_FILES
};

/* ---- files -------------------------------------------------------------------------------- */

/* Each of the three keeps its list in an array of its own. */
static void copy(struct sim_file *file, struct attachment *to, const struct attachment *from)
{
    unsigned index = to == &file->visible ? 0 : to == &file->durable ? 1 : 2;
    struct dirty_block *list = file->lists[index];

    if (from->dirty_count > 0)
        memmove(list, from->dirty, from->dirty_count * sizeof(*list));
    *to = *from;
    to->dirty = list;
}

void sim_attach_reset(struct sim_world *world)
{
    struct sim_attach *attach = &world->attach;

    memset(attach, 0, sizeof(*attach));
    attach->on = world->config.faults.loss;
    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_file *file = &attach->files[i];
        struct attachment first = {.state = ATTACHMENT_ATTACHED, .epoch = 1};

        memcpy(first.flash, world->boot.superblock.uuid, sizeof(first.flash));
        copy(file, &file->visible, &first);
        copy(file, &file->durable, &first);
    }
}

static void store(struct sim_world *world, uint32_t volume, uint8_t state, uint64_t epoch,
                  const struct dirty_block *list, uint64_t count)
{
    struct sim_file *file = &world->attach.files[volume];
    struct attachment next = file->visible;

    next.state = state;
    next.epoch = epoch;
    next.dirty = (struct dirty_block *)(uintptr_t)list; /* only read */
    next.dirty_count = count;
    copy(file, &file->next, &next);
    file->store = STORE_WRITING;
    file->due_ns = world->now_ns + sim_random_range(&world->random, 1, STORE_NS_MAX);
    sim_trace_note(&world->trace, TRACE_ATTACH, volume, state, count);
}

static void stores_advance(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_file *file = &world->attach.files[i];

        if (file->store == STORE_NONE || file->due_ns > world->now_ns)
            continue;
        if (file->store == STORE_WRITING) {
            copy(file, &file->visible, &file->next);
            file->store = STORE_RENAMED;
            file->due_ns = world->now_ns + sim_random_range(&world->random, 1, STORE_NS_MAX);
            continue;
        }
        copy(file, &file->durable, &file->visible);
        file->store = STORE_NONE;
        world->progress_step = world->trace.step;
    }
}

bool sim_attach_stores_done(const struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        if (world->attach.files[i].store != STORE_NONE)
            return false;
    return true;
}

uint64_t sim_attach_next_ns(const struct sim_world *world)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < world->config.volume_count; i++)
        if (world->attach.files[i].store != STORE_NONE && world->attach.files[i].due_ns < next)
            next = world->attach.files[i].due_ns;
    return next;
}

void sim_attach_crash(struct sim_world *world, bool power)
{
    struct sim_attach *attach = &world->attach;

    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_file *file = &attach->files[i];

        file->doubtful |= file->store == STORE_RENAMED;
        file->store = STORE_NONE;
        if (!power || !file->doubtful)
            continue;
        if (sim_random_percent(&world->fate, 50))
            copy(file, &file->durable, &file->visible);
        else
            copy(file, &file->visible, &file->durable);
        file->doubtful = false;
    }
    attach->cache_lost |= power;
    attach->dropped = false;
    attach->loss = LOSS_NONE;
    attach->waiting = NULL;
    memset(attach->passing, 0, sizeof(attach->passing));
}

/* ---- the start ---------------------------------------------------------------------------- */

static void begin_volume(struct sim_world *world, uint32_t volume)
{
    const struct attach_plan *plan = &world->attach.plans[volume];
    const struct attachment *file = &world->attach.files[volume].visible;

    if (plan->verdict == ATTACH_NORMAL && file->state == ATTACHMENT_STOPPED)
        store(world, volume, ATTACHMENT_ATTACHED, plan->epoch, NULL, 0);
    else if (plan->verdict == ATTACH_WITHOUT && file->state != ATTACHMENT_DETACHED)
        store(world, volume, ATTACHMENT_DETACHED, plan->epoch, file->dirty, file->dirty_count);
}

bool sim_attach_begin(struct sim_world *world, bool flash_here)
{
    struct sim_attach *attach = &world->attach;
    bool all = true;

    attach->loss = flash_here ? LOSS_NONE : LOSS_MISSING;
    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        struct sim_file *file = &attach->files[i];
        struct attach_flash flash = {.here = flash_here,
                                     .known = true,
                                     .epoch = sim_boot_record(world, i)->attachment_epoch};

        memcpy(flash.uuid, world->boot.superblock.uuid, sizeof(flash.uuid));
        if (file->doubtful)
            copy(file, &file->durable, &file->visible);
        file->doubtful = false;
        attach->plans[i] = attach_decide(&file->visible, &flash, 0);
        if (!attach_refuses(&attach->plans[i]))
            continue;
        if (flash_here)
            sim_fail(world, "volume %u is refused: verdict %u, epoch %lu, flash %lu, state %u", i,
                     attach->plans[i].verdict, (unsigned long)file->visible.epoch,
                     (unsigned long)flash.epoch, file->visible.state);
        all = false;
    }
    for (uint32_t i = 0; all && i < world->config.volume_count; i++)
        begin_volume(world, i);
    return all;
}

bool sim_attach_holds(const struct sim_world *world)
{
    for (uint32_t i = 0; world->attach.on && i < world->config.volume_count; i++)
        if (world->attach.plans[i].verdict == ATTACH_RETURNS)
            return world->attach.loss == LOSS_NONE;
    return false;
}

/* ---- shards ------------------------------------------------------------------------------- */

static struct shard *shard_at(struct sim_world *world, uint32_t volume, uint64_t block)
{
    return world->shards[shard_of(world->volumes[volume].id, block, world->config.shards)].shard;
}

static void wake(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.shards; i++)
        world->shards[i].due_ns = world->now_ns;
}

static void pass(struct sim_world *world, uint32_t volume)
{
    world->attach.passing[volume] = true;
    for (uint32_t i = 0; i < world->config.shards; i++)
        shard_pass_through(world->shards[i].shard, world->volumes[volume].id);
    wake(world);
}

static int compare(const void *one, const void *other)
{
    const struct dirty_block *a = one, *b = other;

    return a->block < b->block ? -1 : a->block > b->block;
}

/* A volume's dirty blocks, sorted. */
static uint64_t list_dirty(struct sim_world *world, uint32_t volume, struct dirty_block *list)
{
    struct dirty_block part[LIST_BLOCKS];
    uint64_t count = 0;

    for (uint32_t i = 0; i < world->config.shards; i++)
        for (uint32_t cursor = 0; cursor != UINT32_MAX;) {
            uint32_t got = shard_dirty_list(world->shards[i].shard, &cursor, part, LIST_BLOCKS);

            for (uint32_t k = 0; k < got; k++) {
                if (part[k].volume != world->volumes[volume].id)
                    continue;
                if (count == SIM_BLOCKS_MAX)
                    sim_fail(world, "more dirty blocks than blocks");
                list[count++] = part[k];
            }
        }
    qsort(list, count, sizeof(*list), compare);
    return count;
}

static void store_list(struct sim_world *world, uint32_t volume, uint8_t state, uint64_t epoch)
{
    static struct dirty_block list[SIM_BLOCKS_MAX];
    uint64_t count = list_dirty(world, volume, list);

    store(world, volume, state, epoch, list, count);
}

/* ---- back --------------------------------------------------------------------------------- */

void sim_attach_recovered(struct sim_world *world)
{
    struct sim_attach *attach = &world->attach;

    attach->step = STEP_FILES;
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        const struct attachment *file = &attach->files[v].visible;

        if (attach->plans[v].verdict == ATTACH_RETURNS)
            attach->step = STEP_KEEP;
        if (attach->plans[v].verdict != ATTACH_WITHOUT)
            continue;
        for (uint64_t i = 0; i < file->dirty_count; i++)
            if (!shard_lost_add(shard_at(world, v, file->dirty[i].block), world->volumes[v].id,
                                file->dirty[i].block, file->dirty[i].zero))
                sim_fail(world, "no place for a lost block");
        pass(world, v);
    }
    sim_world_phase(world, PHASE_ATTACH);
}

/* What the flash lost with its cache, or what a fault damaged. */
static bool may_give_up(const struct sim_world *world)
{
    return world->damaged || world->misread ||
           (world->attach.cache_lost && world->config.flash.write_cache);
}

/* Whoever forces this gives up what is lost. */
static void give_up(struct sim_world *world, uint32_t volume, uint64_t block, const char *why)
{
    uint64_t offset = block * BLOCK_BYTES, length = BLOCK_BYTES;

    if (!may_give_up(world))
        sim_fail(world, "volume %u block %lu, dirty on the flash that is back, %s", volume,
                 (unsigned long)block, why);
    if (offset + length > world->volumes[volume].bytes)
        length = world->volumes[volume].bytes - offset;
    oracle_doubt(world->oracle, (uint16_t)volume, offset, length,
                 world->config.volumes[volume].backing.garbage);
    world->totals.attach_given_up++;
}

static void keep_listed(struct sim_world *world, uint32_t volume)
{
    const struct attachment *file = &world->attach.files[volume].visible;

    for (uint64_t i = 0; i < file->dirty_count; i++) {
        struct dirty_block block = file->dirty[i];

        block.volume = world->volumes[volume].id;
        if (!shard_attach_keep(shard_at(world, volume, block.block), &block))
            give_up(world, volume, block.block, "is not there");
        else
            world->totals.attach_kept++;
    }
}

static void drop(struct sim_world *world, uint32_t volume)
{
    for (uint32_t i = 0; i < world->config.shards; i++)
        shard_attach_drop(world->shards[i].shard, world->volumes[volume].id);
}

/* The return was interrupted behind the superblock: what was given up then may have been read since, from
 * the list, that knows of zeros. */
static void give_up_again(struct sim_world *world)
{
    for (uint32_t v = 0; may_give_up(world) && v < world->config.volume_count; v++) {
        const struct attachment *file = &world->attach.files[v].visible;

        for (uint64_t i = 0; file->state != ATTACHMENT_ATTACHED && i < file->dirty_count; i++)
            give_up(world, v, file->dirty[i].block, "was given up before");
    }
}

static bool returns(const struct sim_world *world, uint32_t volume)
{
    return world->attach.plans[volume].verdict == ATTACH_RETURNS;
}

static void step_keep(struct sim_world *world)
{
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        if (!returns(world, v))
            continue;
        world->totals.attach_returns++;
        keep_listed(world, v);
        drop(world, v);
    }
    for (uint32_t i = 0; i < world->config.shards; i++) {
        shard_attach_drain(world->shards[i].shard);
        shard_destage_all(world->shards[i].shard, VOLUME_ALL);
    }
    wake(world);
    world->boot.destage_ns = 0;
    world->attach.step = STEP_DRAIN;
}

static bool drained(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.shards; i++)
        for (uint32_t v = 0; v < world->config.volume_count; v++)
            if (returns(world, v) &&
                shard_dirty_blocks(world->shards[i].shard, world->volumes[v].id) >
                    shard_lost_blocks(world->shards[i].shard, world->volumes[v].id))
                return false;
    return true;
}

static void give_up_rotten(struct sim_world *world, uint32_t volume)
{
    static struct dirty_block list[SIM_BLOCKS_MAX];
    uint64_t count = list_dirty(world, volume, list);

    for (uint64_t i = 0; i < count; i++)
        give_up(world, volume, list[i].block, "is damaged");
}

static void step_drain(struct sim_world *world)
{
    struct superblock *superblock = &world->boot.superblock;

    if (!drained(world)) {
        if (world->now_ns >= world->boot.destage_ns) {
            world->boot.destage_ns = world->now_ns + UINT64_C(100000000);
            for (uint32_t i = 0; i < world->config.shards; i++)
                shard_destage_all(world->shards[i].shard, VOLUME_ALL);
            wake(world);
        }
        return;
    }
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        if (!returns(world, v))
            continue;
        give_up_rotten(world, v);
        drop(world, v);
        sim_boot_record(world, v)->floor_lsn = superblock->session << LSN_SESSION_SHIFT;
        sim_boot_record(world, v)->attachment_epoch = world->attach.plans[v].epoch;
    }
    sim_boot_commit(world);
    world->attach.step = STEP_COMMIT;
}

static void step_commit(struct sim_world *world)
{
    world->attach.cache_lost = false;
    for (uint32_t v = 0; v < world->config.volume_count; v++)
        if (world->attach.files[v].visible.state != ATTACHMENT_ATTACHED)
            store(world, v, ATTACHMENT_ATTACHED, world->attach.plans[v].epoch, NULL, 0);
    world->attach.step = STEP_FILES;
}

int sim_attach_finish(struct sim_world *world)
{
    struct sim_attach *attach = &world->attach;

    if (attach->loss == LOSS_MISSING)
        return 1;
    if (disk_is_removed(world->flash) && attach->step != STEP_FILES)
        return -1;
    switch ((enum attach_step)attach->step) {
    case STEP_KEEP: step_keep(world); return 0;
    case STEP_DRAIN: step_drain(world); return 0;
    case STEP_COMMIT:
        if (sim_boot_committing(world))
            return 0;
        if (world->boot.error != 0)
            return -1;
        step_commit(world);
        return 0;
    case STEP_FILES: break;
    }
    if (!sim_attach_stores_done(world))
        return 0;
    for (uint32_t v = 0; v < world->config.volume_count; v++)
        if (attach->files[v].visible.state != ATTACHMENT_ATTACHED) {
            give_up_again(world);
            step_commit(world);
            return 0;
        }
    for (uint32_t i = 0; i < world->config.shards; i++)
        shard_release(world->shards[i].shard);
    wake(world);
    return 1;
}

void sim_attach_stopped(struct sim_world *world)
{
    for (uint32_t v = 0; v < world->config.volume_count; v++)
        if (world->attach.files[v].visible.state == ATTACHMENT_ATTACHED)
            store_list(world, v, ATTACHMENT_STOPPED, world->attach.files[v].visible.epoch);
}

/* ---- loss --------------------------------------------------------------------------------- */

void sim_attach_lost(struct sim_world *world)
{
    struct sim_attach *attach = &world->attach;

    if (!attach->on || attach->loss != LOSS_NONE || world->phase < PHASE_SERVE)
        return;
    attach->loss = LOSS_FAILED;
    world->totals.attach_losses++;
    for (uint32_t i = 0; i < world->config.shards; i++)
        shard_flash_lost(world->shards[i].shard);
    wake(world);
}

void sim_attach_flush_failed(struct sim_world *world)
{
    if (world->phase >= PHASE_SERVE && world->config.flash.flush_drops_percent > 0)
        world->attach.cache_lost = world->attach.dropped = true;
    if (!MUTANT(413))
        sim_attach_lost(world);
}

void sim_attach_flush_prepare(const struct sim_world *world, struct disk_io *io)
{
    disk_io_prepare(io, DISK_FLUSH, 0, NULL, 0);
    io->drops_nothing = world->phase < PHASE_SERVE;
}

static bool settled(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->config.shards; i++)
        if (!shard_flash_settled(world->shards[i].shard))
            return false;
    return true;
}

static void resume_flushes(struct sim_world *world)
{
    struct sim_request *list = world->attach.waiting;

    world->attach.waiting = NULL;
    while (list != NULL) {
        struct sim_request *next = list->next;

        sim_request_flush_again(world, list);
        list = next;
    }
}

static void loss_advance(struct sim_world *world)
{
    struct sim_attach *attach = &world->attach;
    bool all = true;

    if (!settled(world))
        return;
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        struct sim_file *file = &attach->files[v];

        if (!attach->passing[v] && file->durable.state == ATTACHMENT_DETACHED &&
            file->store == STORE_NONE)
            pass(world, v);
        else if (!attach->passing[v] && file->store == STORE_NONE)
            store_list(world, v, ATTACHMENT_DETACHED,
                       sim_boot_record(world, v)->attachment_epoch + 1);
        all &= attach->passing[v];
    }
    if (all)
        attach->loss = LOSS_PASSING;
    resume_flushes(world);
}

void sim_attach_advance(struct sim_world *world)
{
    stores_advance(world);
    if (world->attach.loss == LOSS_FAILED &&
        (world->phase == PHASE_SERVE || world->phase == PHASE_DRAIN))
        loss_advance(world);
}

bool sim_attach_flush_waits(struct sim_world *world, struct sim_request *request)
{
    struct sim_attach *attach = &world->attach;

    if (attach->loss != LOSS_FAILED || attach->passing[request->op.volume])
        return false;
    request->next = attach->waiting;
    attach->waiting = request;
    return true;
}

bool sim_attach_must_work(const struct sim_world *world, const struct sim_request *request)
{
    const struct attachment *file = &world->attach.files[request->op.volume].visible;
    const struct sim_volume *volume = &world->volumes[request->op.volume];
    uint64_t first = request->op.offset / BLOCK_BYTES;
    uint64_t end = (request->op.offset + request->op.length + BLOCK_BYTES - 1) / BLOCK_BYTES;

    if (!world->healed || world->attach.loss < LOSS_PASSING || request->kind == OP_INVALIDATE)
        return false;
    if (request->kind == OP_FLUSH) /* the first one after flushes that failed says so */
        return volume->clients.failures == volume->flusher.failures;
    for (uint64_t i = 0; i < file->dirty_count; i++)
        if (file->dirty[i].block >= first && file->dirty[i].block < end)
            return false;
    return true;
}
