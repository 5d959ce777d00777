/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/list.h"
#include "tests/sim/sim-world.h"

/* ---- tasks ------------------------------------------------------------------------------ */

void sim_task_push(struct sim_world *world, uint32_t core, struct sim_task *task)
{
    struct sim_core *to = &world->cores[core];

    assert(!task->queued);
    task->queued = true;
    task->next = NULL;
    *to->last = task;
    to->last = &task->next;
}

static struct sim_task *task_pop(struct sim_core *core)
{
    struct sim_task *task = core->first;

    core->first = task->next;
    if (core->first == NULL)
        core->last = &core->first;
    task->queued = false;
    return task;
}

void sim_core_reset(struct sim_world *world)
{
    for (uint32_t i = 0; i < SIM_CORES_MAX; i++) {
        struct sim_core *core = &world->cores[i];

        core->index = i;
        core->first = NULL;
        core->last = &core->first;
        core->out.count = core->next = core->touched = 0;
        core->stalled_until_ns = 0;
    }
    world->io_free = NULL;
    for (uint32_t i = 0; i < SIM_IOS_MAX; i++) {
        world->ios[i].task.queued = false;
        world->ios[i].next = world->io_free;
        world->io_free = &world->ios[i];
    }
}

bool sim_core_ready(const struct sim_world *world, const struct sim_core *core)
{
    return core->stalled_until_ns <= world->now_ns &&
           (core->next < core->out.count || core->first != NULL || core->touched != 0);
}

struct sim_volume *sim_volume_by_id(struct sim_world *world, uint16_t id)
{
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        if (world->volumes[i].id == id)
            return &world->volumes[i];
    sim_fail(world, "an action names volume id %u, which is not there", id);
}

/* ---- stepping a shard -------------------------------------------------------------------- */

static void step_shard(struct sim_world *world, struct sim_core *core, uint32_t index,
                       struct event *event)
{
    struct sim_shard *shard = &world->shards[index];

    assert(core->next == core->out.count);
    sim_trace_note(&world->trace, TRACE_STEP, core->index, event->kind, index);
    event->core = (uint16_t)core->index;
    shard_step(shard->shard, world->now_ns, event, 1, &core->out);
    if (core->out.count > ACTIONS_MAX)
        sim_fail(world, "one event emitted %u actions", core->out.count);
    core->next = 0;
    core->shard = index;
    if (event->kind == EVENT_SEAL)
        core->touched &= ~(1u << index);
    else
        core->touched |= 1u << index;
    shard->due_ns = core->out.again ? world->now_ns : shard_next_tick(shard->shard);
}

/* ---- the end of an I/O ------------------------------------------------------------------- */

static void io_free(struct sim_world *world, struct sim_io *io)
{
    io->next = world->io_free;
    world->io_free = io;
}

static struct piece *io_piece(const struct sim_io *io)
{
    return io->action.flags & ACTION_PIECE ? io->action.owner : NULL;
}

/* On its way here, not on flash. */
static void read_wrong(struct sim_world *world, const struct sim_io *io)
{
    uint32_t ppm = world->config.faults.wrong_read_ppm;

    if (ppm == 0 || world->healed || world->phase < PHASE_SERVE || io->result != 0 ||
        !(io->action.flags & ACTION_VERIFY) || !sim_random_ppm(&world->fault_random, ppm))
        return;
    io->action.data[sim_random_below(&world->fault_random, (uint32_t)io->action.length)] ^= 1;
    world->totals.faults_wrong++;
    world->errors_legal = world->misread = true;
}

/* What the core does with a flash read outside the lock (C7); the blocks that do not match. */
static uint64_t verify(struct sim_world *world, const struct sim_io *io)
{
    const struct sim_shard *shard = &world->shards[io->shard];
    uint64_t bad = 0;

    if (io->result != 0 || !(io->action.flags & ACTION_VERIFY) || MUTANT(206))
        return 0;
    for (uint32_t i = 0; i < io->action.length / BLOCK_BYTES; i++)
        if (crc32c(0, io->action.data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES) !=
            shard_slot_crc(shard->shard, io->action.slot + i))
            bad |= UINT64_C(1) << i;
    return bad;
}

/* A read past the end of the volume reads zeros there. */
static void cut_read(struct sim_world *world, const struct sim_io *io)
{
    const struct sim_volume *volume = sim_volume_by_id(world, io->action.volume);
    uint64_t end = io->action.offset + io->action.length;

    if (io->result == 0 && end > volume->bytes)
        memset(io->action.data + (volume->bytes - io->action.offset), 0, end - volume->bytes);
}

static void merge(const struct sim_io *io, struct piece *piece)
{
    if (io->action.flags & ACTION_HEAD)
        piece_merge(piece, true, io->action.data);
    else if (io->action.flags & ACTION_TAIL)
        piece_merge(piece, false, io->action.data);
}

static void report(struct sim_world *world, struct sim_core *core, struct sim_io *io, uint64_t bad)
{
    struct event event = {
        .kind = EVENT_IO_DONE, .result = io->result, .bad_mask = bad, .action = &io->action};

    sim_trace_note(&world->trace, TRACE_IO, io->action.kind, (uint64_t)(int64_t)io->result, bad);
    step_shard(world, core, io->shard, &event);
    memset(&io->action, 0xdd, sizeof(io->action)); /* only read during the step */
    io_free(world, io);
}

static void io_ended(struct sim_world *world, struct sim_core *core, struct sim_io *io)
{
    struct piece *piece = io_piece(io);
    bool tell = io->action.flags & ACTION_REPORT || io->result != 0;
    uint64_t bad = 0;

    switch (io->action.kind) {
    case ACTION_READ_FLASH:
        read_wrong(world, io);
        bad = verify(world, io);
        tell |= bad != 0;
        break;
    case ACTION_READ_BACKING:
        cut_read(world, io);
        tell = true;
        break;
    case ACTION_WRITE_BACKING:
    case ACTION_ZERO_BACKING:
        if (!(io->action.flags & ACTION_BACKGROUND)) /* one that failed may have landed in part */
            sim_volume_by_id(world, io->action.volume)->backing_writes++;
        tell = true;
        break;
    default: tell = true;
    }
    if (piece != NULL && io->result == 0 && bad == 0 && io->action.kind != ACTION_MERGE &&
        io->action.kind != ACTION_FILL)
        merge(io, piece);
    if (tell) {
        report(world, core, io, bad);
        return;
    }
    if (io->action.kind == ACTION_READ_FLASH)
        shard_flash_read_end(world->shards[io->shard].shard, io->action.slot);
    io_free(world, io);
    if (piece != NULL && --piece->ios == 0)
        sim_request_piece_done(world, container_of(piece, struct sim_piece, piece));
}

void sim_io_done(struct sim_io *io, int result)
{
    io->result = result;
    io->task.kind = TASK_IO;
    sim_task_push(io->world, io->core, &io->task);
}

static void disk_done(struct disk_io *disk_io, int result)
{
    sim_io_done(container_of(disk_io, struct sim_io, disk), result);
}

static void flush_done(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    (void)world;
    sim_io_done(container_of(waiter, struct sim_io, waiter), result);
}

/* ---- actions ---------------------------------------------------------------------------- */

static struct sim_io *io_take(struct sim_world *world, struct sim_core *core,
                              const struct action *action)
{
    struct sim_io *io = world->io_free;

    if (io == NULL)
        sim_fail(world, "more than %u I/Os under way", SIM_IOS_MAX);
    world->io_free = io->next;
    io->world = world;
    io->action = *action;
    io->core = core->index;
    io->shard = core->shard;
    io->disk.done = disk_done;
    return io;
}

static void write_flash(struct sim_world *world, struct sim_io *io)
{
    struct flash_write *write = io->action.owner;
    uint64_t length = 0;

    flash_write_seal(write);
    for (uint32_t i = 0; i < write->iov_count; i++)
        length += write->iov[i].iov_len;
    disk_io_prepare(&io->disk, DISK_WRITE, io->action.offset, NULL, length);
    io->disk.fua = io->action.flags & ACTION_FUA;
    io->disk.iov = write->iov;
    io->disk.iov_count = write->iov_count;
    if (write->headroom) {
        if (write->iov_count != 2 || write->iov[0].iov_len != BLOCK_BYTES)
            sim_fail(world, "a flash write with headroom has %u vectors", write->iov_count);
        io->headroom.iov_base = (unsigned char *)write->iov[1].iov_base - BLOCK_BYTES;
        io->headroom.iov_len = length;
        memcpy(io->headroom.iov_base, write->iov[0].iov_base, BLOCK_BYTES);
        io->disk.iov = &io->headroom;
        io->disk.iov_count = 1;
    }
    /* A slot of it may rot soon. */
    world->recent[world->recent_count++ % SIM_RECENT] =
        (io->action.offset - DATA_OFFSET) / BLOCK_BYTES +
        world->trace.step % (length / BLOCK_BYTES);
    disk_submit(world->flash, &io->disk, world->now_ns);
}

/* The planted bug of hazard 15: a backing write takes too long, is reported as failed, and lands
 * later.  The memory is lost when the machine crashes first. */
struct ghost {
    struct disk_io io;
    unsigned char data[];
};

static void ghost_gone(struct disk_io *io, int result)
{
    (void)result;
    free(container_of(io, struct ghost, io));
}

static bool given_up(struct sim_world *world, struct sim_io *io, struct disk *disk)
{
    struct ghost *ghost;

    if (!world->config.faults.any || world->healed || io->disk.op != DISK_WRITE ||
        !sim_random_ppm(&world->fault_random, 20000))
        return false;
    ghost = calloc(1, sizeof(*ghost) + io->disk.length);
    if (ghost == NULL)
        exit(2);
    memcpy(ghost->data, io->disk.iov[0].iov_base, io->disk.length);
    disk_io_prepare(&ghost->io, DISK_WRITE, io->disk.offset, ghost->data, io->disk.length);
    ghost->io.done = ghost_gone;
    disk_submit(disk, &ghost->io,
                world->now_ns + sim_random_below(&world->fault_random, 1000) * UINT64_C(1000000));
    world->errors_legal = true;
    sim_io_done(io, -EIO);
    return true;
}

/* The part of a backing I/O that lies within the device; its last block may be short. */
static void submit_backing(struct sim_world *world, struct sim_io *io, enum disk_op op)
{
    struct sim_volume *volume = sim_volume_by_id(world, io->action.volume);
    uint64_t offset = io->action.offset, length = io->action.length;

    if (offset % BLOCK_BYTES != 0 || length % BLOCK_BYTES != 0 || length == 0 ||
        offset >= volume->bytes || offset + length > volume->blocks * BLOCK_BYTES)
        sim_fail(world, "backing I/O at %#lx of %#lx bytes is outside of the volume or unaligned",
                 (unsigned long)offset, (unsigned long)length);
    if (offset + length > volume->bytes)
        length = volume->bytes - offset;
    disk_io_prepare(&io->disk, op, offset, io->action.data, length);
    io->disk.fua = io->action.flags & ACTION_FUA;
    if (MUTANT(15) && given_up(world, io, volume->backing))
        return;
    disk_submit(volume->backing, &io->disk, world->now_ns);
}

static void start_io(struct sim_world *world, struct sim_core *core, const struct action *action)
{
    struct sim_io *io = io_take(world, core, action);
    struct sim_volume *volume;

    switch (action->kind) {
    case ACTION_READ_FLASH:
        disk_io_prepare(&io->disk, DISK_READ, action->offset, action->data, action->length);
        disk_submit(world->flash, &io->disk, world->now_ns);
        break;
    case ACTION_WRITE_FLASH: write_flash(world, io); break;
    case ACTION_READ_BACKING: submit_backing(world, io, DISK_READ); break;
    case ACTION_WRITE_BACKING: submit_backing(world, io, DISK_WRITE); break;
    case ACTION_ZERO_BACKING: submit_backing(world, io, DISK_ZERO); break;
    case ACTION_FLUSH_FLASH:
        io->waiter.done = flush_done;
        io->waiter.party = NULL;
        sim_flush_join(&world->flash_flusher, &io->waiter);
        break;
    case ACTION_FLUSH_BACKING:
        volume = sim_volume_by_id(world, action->volume);
        io->waiter.done = flush_done;
        io->waiter.party = &volume->destaging[io->shard];
        sim_flush_join(&volume->flusher, &io->waiter);
        break;
    case ACTION_FILL:
        piece_fill(world->shards[io->shard].shard, action->owner, action->first, action->count);
        sim_io_done(io, 0);
        break;
    case ACTION_MERGE:
        piece_merge(action->owner, action->flags & ACTION_HEAD, action->data);
        sim_io_done(io, 0);
        break;
    case ACTION_RETIRE: sim_boot_retire(world, io); break;
    default: sim_fail(world, "unknown action %u", action->kind);
    }
}

static void notice(struct sim_world *world, const struct action *action)
{
    sim_trace_note(&world->trace, TRACE_NOTICE, action->slot, action->volume, action->offset);
    if (action->slot < sizeof(world->totals.notices) / sizeof(world->totals.notices[0]))
        world->totals.notices[action->slot]++;
    if (action->slot == NOTICE_FLASH_FAILED)
        sim_attach_lost(world);
    if (!sim_fault_happened(world) || (action->slot == NOTICE_RECORDS_LOST && !world->damaged))
        sim_fail(world, "notice %u (volume id %u, offset %#lx) without a fault", action->slot,
                 action->volume, (unsigned long)action->offset);
}

static void perform(struct sim_world *world, struct sim_core *core, const struct action *action)
{
    struct sim_piece *piece;

    sim_trace_note(&world->trace, TRACE_ACTION, action->kind, action->flags, action->offset);
    sim_trace_note(&world->trace, TRACE_ACTION_MORE, action->volume, action->length, action->slot);
    switch (action->kind) {
    case ACTION_REPLY:
    case ACTION_RESUME:
        piece = container_of((struct piece *)action->owner, struct sim_piece, piece);
        if (!piece->open || piece->task.queued)
            sim_fail(world, "a piece is answered or resumed twice");
        piece->task.kind = action->kind == ACTION_REPLY ? TASK_REPLY : TASK_REQUEST;
        sim_task_push(world, piece->piece.core, &piece->task);
        break;
    case ACTION_NOTICE: notice(world, action); break;
    case ACTION_EPOCH: sim_epoch_advance(world, sim_volume_by_id(world, action->volume)); break;
    default: start_io(world, core, action);
    }
}

/* ---- one step of a core ------------------------------------------------------------------ */

static void run_task(struct sim_world *world, struct sim_core *core, struct sim_task *task)
{
    struct sim_piece *piece;

    switch ((enum sim_task_kind)task->kind) {
    case TASK_TICK:
        step_shard(world, core, container_of(task, struct sim_shard, tick)->index,
                   &(struct event){.kind = EVENT_TICK});
        break;
    case TASK_STOP:
        step_shard(world, core, container_of(task, struct sim_shard, stop)->index,
                   &(struct event){.kind = EVENT_STOP});
        break;
    case TASK_REQUEST:
        piece = container_of(task, struct sim_piece, task);
        step_shard(world, core, piece->shard,
                   &(struct event){.kind = EVENT_REQUEST, .piece = &piece->piece});
        break;
    case TASK_REPLY:
        sim_request_piece_done(world, container_of(task, struct sim_piece, task));
        break;
    case TASK_SEND: sim_request_send(world, container_of(task, struct sim_request, task)); break;
    case TASK_EPOCH: sim_epoch_run(world, task); break;
    case TASK_IO: io_ended(world, core, container_of(task, struct sim_io, task)); break;
    }
}

void sim_core_run(struct sim_world *world, struct sim_core *core)
{
    if (core->next < core->out.count) {
        perform(world, core, &core->out.list[core->next++]);
    } else if (core->first != NULL) {
        run_task(world, core, task_pop(core));
    } else if (core->touched != 0) { /* before the core enters the kernel (C6) */
        step_shard(world, core, (uint32_t)__builtin_ctz(core->touched),
                   &(struct event){.kind = EVENT_SEAL});
    }
}
