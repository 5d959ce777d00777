/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's request: cut into pieces at the shards' regions (C8), answered when all are, and
 * checked against the oracle.  Buffers are poisoned before they are lent and after they came back.
 */
#include <errno.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/list.h"
#include "tests/sim/sim-world.h"

/* ---- payload ---------------------------------------------------------------------------- */

static unsigned char *request_data(const struct sim_request *request)
{
    return request->memory + BLOCK_BYTES;
}

/* A mark in each sector that no pattern has, so that what nobody filled in is noticed. */
static void poison(unsigned char *data, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += SECTOR_BYTES)
        memset(data + at, 0xe5, 16);
}

static void fill_payload(struct sim_world *world, struct sim_request *request)
{
    const struct oracle_op *op = &request->op;
    uint64_t begin = request->first_block * BLOCK_BYTES;
    uint64_t first = op->offset / SECTOR_BYTES, last = (op->offset + op->length - 1) / SECTOR_BYTES;
    unsigned char *data = request_data(request);
    uint64_t end = (op->offset + op->length - begin + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;

    memset(data, 0xe7, op->offset - begin);
    for (uint64_t sector = first; sector <= last; sector++)
        content_fill(oracle_content(world->oracle), data + sector * SECTOR_BYTES - begin,
                     op->volume, sector, op->id);
    memset(data, 0xe7, op->offset - begin); /* kept bytes: the engine must bring them */
    memset(data + (op->offset + op->length - begin), 0xe7, end - (op->offset + op->length - begin));
}

/* ---- pieces ----------------------------------------------------------------------------- */

static struct sim_piece *piece_add(struct sim_world *world, struct sim_request *request,
                                   enum piece_op op, uint8_t flags, uint64_t block, uint32_t count)
{
    struct sim_piece *piece = &request->pieces[request->piece_count];
    struct sim_volume *volume = &world->volumes[request->op.volume];

    if (request->piece_count++ == SIM_PIECES_MAX)
        sim_fail(world, "a request has too many pieces");
    memset(&piece->piece, 0, sizeof(piece->piece));
    piece->task = (struct sim_task){.kind = TASK_REQUEST};
    piece->request = request;
    piece->open = true;
    piece->shard = shard_of(volume->id, block, world->config.shards);
    piece->piece.op = (uint8_t)op;
    piece->piece.flags = flags;
    piece->piece.volume = volume->id;
    piece->piece.core = (uint16_t)request->core;
    piece->piece.block = block;
    piece->piece.count = (uint16_t)count;
    piece->piece.epoch = volume->epoch;
    piece->piece.merge = request->merge + (request->piece_count == 1 ? 0 : 2 * BLOCK_BYTES);
    request->open_parts++;
    return piece;
}

static uint32_t region_rest(uint64_t block, uint64_t end)
{
    uint64_t rest = REGION_BLOCKS - block % REGION_BLOCKS;

    return (uint32_t)(end - block < rest ? end - block : rest);
}

/* What is behind the request's end in its last block is to be kept; behind the volume's end there
 * is nothing to keep. */
static void cut_tail(struct sim_world *world, const struct sim_request *request,
                     struct piece *piece, uint64_t end)
{
    uint32_t rest = (uint32_t)((piece->block + piece->count) * BLOCK_BYTES - end);

    if (end != world->volumes[request->op.volume].bytes)
        piece->tail_bytes = (uint16_t)rest;
    else
        memset(piece->data + (size_t)piece->count * BLOCK_BYTES - rest, 0, rest);
}

/* Blocks [block, end) of the buffer; the first and last may be partial. */
static void cut_data(struct sim_world *world, struct sim_request *request, enum piece_op op,
                     uint8_t flags, uint64_t offset, uint64_t length)
{
    uint64_t first = offset / BLOCK_BYTES;
    uint64_t end = (offset + length + BLOCK_BYTES - 1) / BLOCK_BYTES;

    for (uint64_t block = first, count; block < end; block += count) {
        struct sim_piece *piece;

        count = region_rest(block, end);
        piece = piece_add(world, request, op, flags, block, (uint32_t)count);
        piece->piece.data = request_data(request) + (block - request->first_block) * BLOCK_BYTES;
        if (op != PIECE_WRITE)
            continue;
        if (block == request->first_block)
            piece->piece.flags |= PIECE_HEADROOM;
        if (block == first)
            piece->piece.head_bytes = (uint16_t)(offset % BLOCK_BYTES);
        if (block + count == end)
            cut_tail(world, request, &piece->piece, offset + length);
        for (uint32_t i = 0; i < count; i++)
            if (!(i == 0 && piece->piece.head_bytes) &&
                !(i == count - 1 && piece->piece.tail_bytes))
                piece->piece.crc[i] =
                    crc32c(0, piece->piece.data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
    }
}

static void cut_blocks(struct sim_world *world, struct sim_request *request, enum piece_op op,
                       uint8_t flags, uint64_t block, uint64_t end)
{
    for (uint64_t count; block < end; block += count) {
        count = region_rest(block, end);
        piece_add(world, request, op, flags, block, (uint32_t)count);
    }
}

/* Zeros: whole blocks without payload; partial ones at the edges are writes of zeros. */
static void cut_zero(struct sim_world *world, struct sim_request *request, uint8_t flags)
{
    uint64_t offset = request->op.offset, end = offset + request->op.length;
    uint64_t inner = (offset + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint64_t inner_end = end / BLOCK_BYTES;
    uint64_t volume_end = world->volumes[request->op.volume].bytes;
    unsigned char *data = request_data(request);

    if (end == volume_end) /* a short last block is a whole one */
        inner_end = (end + BLOCK_BYTES - 1) / BLOCK_BYTES;
    if (inner >= inner_end) {
        memset(data, 0, 2 * BLOCK_BYTES);
        cut_data(world, request, PIECE_WRITE, flags & PIECE_FUA, offset, end - offset);
        return;
    }
    if (offset < inner * BLOCK_BYTES) {
        memset(data, 0, BLOCK_BYTES);
        cut_data(world, request, PIECE_WRITE, flags & PIECE_FUA, offset,
                 inner * BLOCK_BYTES - offset);
    }
    cut_blocks(world, request, PIECE_ZERO, flags, inner, inner_end);
    if (inner_end * BLOCK_BYTES < end) {
        uint64_t first_block = request->first_block;

        memset(data + BLOCK_BYTES, 0, BLOCK_BYTES);
        request->first_block = inner_end - 1; /* the second block of the buffer is this edge */
        cut_data(world, request, PIECE_WRITE, flags & PIECE_FUA, inner_end * BLOCK_BYTES,
                 end - inner_end * BLOCK_BYTES);
        request->first_block = first_block;
    }
}

/* ---- flushes ---------------------------------------------------------------------------- */

static void part_done(struct sim_world *world, struct sim_request *request, int error)
{
    if (error != 0 && request->error == 0)
        request->error = error;
    if (--request->open_parts > 0)
        return;
    if (request->flash_lost && request->error == 0) {
        sim_request_flush_again(world, request);
        return;
    }
    request->task.kind = TASK_SEND;
    sim_task_push(world, request->core, &request->task);
}

static void flash_flushed(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    struct sim_request *request = container_of(waiter, struct sim_request, flush_flash);

    request->flash_lost = result != 0 && world->attach.loss != LOSS_NONE;
    part_done(world, request, request->flash_lost ? 0 : result);
}

static void backing_flushed(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    part_done(world, container_of(waiter, struct sim_request, flush_backing), result);
}

/* FLUSH goes to the flash device if that has a cache, and to the backing store only if something
 * went there past the cache (DESIGN 6). */
void sim_request_flush_again(struct sim_world *world, struct sim_request *request)
{
    struct sim_volume *volume = &world->volumes[request->op.volume];

    request->flash_lost = false;
    if (sim_attach_flush_waits(world, request))
        return;
    request->open_parts = 1;
    request->flush_flash.done = flash_flushed;
    request->flush_flash.party = &volume->clients_flash;
    request->flush_backing.party = &volume->clients;
    request->flush_backing.done = backing_flushed;
    if (volume->backing_writes != volume->backing_flushed) {
        request->open_parts++;
        sim_flush_join(&volume->flusher, &request->flush_backing);
    }
    if (world->config.flash.write_cache && !world->attach.passing[request->op.volume]) {
        request->open_parts++;
        sim_flush_join(&world->flash_flusher, &request->flush_flash);
    }
    part_done(world, request, 0);
}

static void start_flush(struct sim_world *world, struct sim_request *request)
{
    struct sim_volume *volume = &world->volumes[request->op.volume];

    volume->epoch++;
    sim_epoch_advance(world, volume);
    oracle_flush_begin(world->oracle, &request->op);
    if (volume->ordered)
        request->alone_flush = alone_flush_begin(world->alone[request->op.volume], world->now_ns);
    sim_request_flush_again(world, request);
}

/* ---- begin ------------------------------------------------------------------------------ */

static struct sim_request *request_take(struct sim_world *world, const struct sim_want *want)
{
    struct sim_request *request = world->request_free;

    world->request_free = request->next;
    request->open = true;
    request->id = world->request_next_id++;
    request->kind = want->kind;
    request->began_ns = world->now_ns;
    request->connection = want->connection;
    request->core = want->connection % world->config.cores;
    request->open_parts = request->piece_count = 0;
    request->error = 0;
    request->task = (struct sim_task){.kind = TASK_SEND};
    request->op = (struct oracle_op){.volume = want->volume,
                                     .fua = want->flags & PIECE_FUA,
                                     .zeros = want->kind == OP_ZERO || want->kind == OP_TRIM,
                                     .offset = want->offset,
                                     .length = want->length};
    request->first_block = want->offset / BLOCK_BYTES;
    return request;
}

static bool changes(const struct sim_request *request)
{
    return request->kind == OP_WRITE || request->kind == OP_ZERO || request->kind == OP_TRIM;
}

static void cut(struct sim_world *world, struct sim_request *request, uint8_t flags)
{
    uint64_t first = request->op.offset / BLOCK_BYTES;
    uint64_t end = (request->op.offset + request->op.length + BLOCK_BYTES - 1) / BLOCK_BYTES;

    switch ((enum sim_op)request->kind) {
    case OP_READ:
    case OP_PREFETCH:
        poison(request_data(request), (end - first) * BLOCK_BYTES);
        cut_data(world, request, request->kind == OP_READ ? PIECE_READ : PIECE_PREFETCH, flags,
                 request->op.offset, request->op.length);
        break;
    case OP_WRITE:
        fill_payload(world, request);
        cut_data(world, request, PIECE_WRITE, flags, request->op.offset, request->op.length);
        break;
    case OP_ZERO: cut_zero(world, request, flags); break;
    case OP_TRIM: cut_zero(world, request, flags | PIECE_HOLE); break;
    case OP_INVALIDATE: cut_blocks(world, request, PIECE_INVALIDATE, flags, first, end); break;
    case OP_FLUSH:
    case OPS: break;
    }
}

static void write_begin(struct sim_world *world, struct sim_request *request)
{
    const struct oracle_op *op = &request->op;

    oracle_write_begin(world->oracle, &request->op);
    if (world->volumes[op->volume].ordered)
        request->alone_write = alone_write_begin(world->alone[op->volume], world->now_ns,
                                                 op->offset, op->length, op->id, op->fua);
}

/* Whole blocks are invalidated. */
static void discard_range(const struct sim_world *world, struct oracle_op *op)
{
    uint64_t end = (op->offset + op->length + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;

    op->offset = op->offset / BLOCK_BYTES * BLOCK_BYTES;
    if (end > world->volumes[op->volume].bytes)
        end = world->volumes[op->volume].bytes;
    op->length = end - op->offset;
}

void sim_request_submit(struct sim_world *world, const struct sim_want *want)
{
    struct sim_request *request = request_take(world, want);

    if (want->flags & PIECE_DISCARD && want->kind == OP_INVALIDATE)
        discard_range(world, &request->op);
    sim_trace_note(&world->trace, TRACE_REQUEST, request->id, want->kind, want->flags);
    sim_trace_note(&world->trace, TRACE_REQUEST_RANGE, want->volume, want->offset, want->length);
    world->totals.requests[want->kind]++;
    world->client.open++;
    world->client.open_by_connection[want->connection]++;
    request->flash_lost = false;
    request->must_work = sim_attach_must_work(world, request);
    if (request->kind == OP_FLUSH) {
        start_flush(world, request);
        return;
    }
    if (changes(request))
        write_begin(world, request);
    else if (request->kind == OP_INVALIDATE && want->flags & PIECE_DISCARD)
        oracle_discard_begin(world->oracle, &request->op,
                             world->config.volumes[want->volume].backing.garbage);
    else if (request->kind != OP_INVALIDATE)
        oracle_read_begin(world->oracle, &request->op);
    cut(world, request, want->flags);
    for (uint32_t i = 0; i < request->piece_count; i++)
        sim_task_push(world, request->core, &request->pieces[i].task);
}

/* ---- end -------------------------------------------------------------------------------- */

void sim_request_piece_done(struct sim_world *world, struct sim_piece *piece)
{
    if (!piece->open)
        sim_fail(world, "a piece ends twice");
    piece->open = false;
    part_done(world, piece->request, piece->piece.error);
}

static void read_block(struct sim_world *world, struct sim_request *request,
                       const struct sim_piece *own, uint32_t i)
{
    static const unsigned char zeros[BLOCK_BYTES];
    const struct shard *shard = world->shards[own->shard].shard;
    const struct piece *piece = &own->piece;
    const unsigned char *data = piece->data + (size_t)i * BLOCK_BYTES;

    if (piece->zero_mask >> i & 1)
        data = zeros;
    else if (piece->ram_mask >> i & 1)
        data = shard_frame(shard, piece->frame[i]);
    if (!oracle_read_block(world->oracle, &request->op, piece->block + i, data))
        sim_fail(world, "request %lu read what it must not: %s", (unsigned long)request->id,
                 oracle_why(world->oracle));
}

static void read_pieces(struct sim_world *world, struct sim_request *request)
{
    for (uint32_t p = 0; p < request->piece_count; p++) {
        const struct sim_piece *own = &request->pieces[p];
        const struct piece *piece = &own->piece;
        struct shard *shard = world->shards[own->shard].shard;

        sim_trace_note(&world->trace, TRACE_PIECE, piece->ram_mask, piece->fill_mask,
                       piece->zero_mask);
        for (uint32_t i = 0; i < piece->count; i++) {
            if (piece->error == 0 && request->kind == OP_READ)
                read_block(world, request, own, i);
            if (piece->ram_mask >> i & 1)
                shard_frame_unpin(shard, piece->frame[i]);
        }
    }
    oracle_read_end(world->oracle, &request->op);
}

static bool error_legal(struct sim_world *world, const struct sim_request *request)
{
    if (request->kind == OP_INVALIDATE && request->error == -EBUSY)
        return true;
    if (request->must_work)
        return false;
    return sim_fault_happened(world) && (request->error == -EIO || request->error == -ENOSPC);
}

/* What is sent after the answer to a FUA write may rely on it: a new epoch (hazard 18). */
static void write_end(struct sim_world *world, struct sim_request *request)
{
    struct sim_volume *volume = &world->volumes[request->op.volume];

    oracle_write_end(world->oracle, &request->op, request->error);
    if (!volume->ordered)
        return;
    alone_write_end(world->alone[request->op.volume], world->now_ns, request->alone_write,
                    request->error);
    if (!request->op.fua)
        return;
    volume->epoch++;
    sim_epoch_advance(world, volume);
}

static void flush_end(struct sim_world *world, struct sim_request *request)
{
    oracle_flush_end(world->oracle, &request->op, request->error);
    if (world->volumes[request->op.volume].ordered)
        alone_flush_end(world->alone[request->op.volume], world->now_ns, request->alone_flush,
                        request->error);
}

static void request_give(struct sim_world *world, struct sim_request *request)
{
    request->open = false;
    request->next = world->request_free;
    world->request_free = request;
}

void sim_request_send(struct sim_world *world, struct sim_request *request)
{
    sim_trace_note(&world->trace, TRACE_REPLY, request->id, (uint64_t)(int64_t)request->error,
                   world->now_ns - request->began_ns);
    if (request->error != 0) {
        world->totals.request_errors++;
        if (!error_legal(world, request))
            sim_fail(world, "request %lu fails with %d without a reason",
                     (unsigned long)request->id, request->error);
    }
    if (changes(request))
        write_end(world, request);
    else if (request->kind == OP_FLUSH)
        flush_end(world, request);
    else if (request->kind != OP_INVALIDATE)
        read_pieces(world, request);
    else if (request->pieces[0].piece.flags & PIECE_DISCARD) {
        world->volumes[request->op.volume].backing_writes++;
        oracle_discard_end(world->oracle, &request->op);
    }
    for (uint32_t i = 0; i < request->piece_count; i++)
        memset(&request->pieces[i].piece, 0xdd, offsetof(struct piece, crc));
    if (request->kind == OP_WRITE)
        poison(request_data(request), request->op.length);
    world->client.last_error = request->error;
    world->client.open--;
    world->client.open_by_connection[request->connection]--;
    world->progress_step = world->trace.step;
    request_give(world, request);
}

void sim_request_drop_all(struct sim_world *world)
{
    world->request_free = NULL;
    for (uint32_t i = SIM_REQUESTS_MAX; i-- > 0;) {
        struct sim_request *request = &world->requests[i];

        if (request->open && (request->kind == OP_READ || request->kind == OP_PREFETCH))
            oracle_read_end(world->oracle, &request->op);
        request_give(world, request);
    }
    world->client.open = 0;
    memset(world->client.open_by_connection, 0, sizeof(world->client.open_by_connection));
}
