/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/engine-host.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"

#define SEGMENTS   64u
#define DATA_PAGES 80u
#define PATIENCE   200000

uint64_t host_random(struct host *host)
{
    host->random ^= host->random << 13;
    host->random ^= host->random >> 7;
    host->random ^= host->random << 17;
    return host->random;
}

static void fill_random(struct host *host, unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)(host_random(host) >> 32);
}

struct host *host_new(enum volume_mode mode, bool flash_volatile, uint64_t seed)
{
    struct host *host = calloc(1, sizeof(*host));
    size_t volume_bytes = (size_t)HOST_BLOCKS * BLOCK_BYTES;

    host->random = seed * 2654435761u + 1;
    host->now_ns = 1;
    host->volume = HOST_VOLUME;
    host->config = (struct shard_config){.cores = 2,
                                         .segments = SEGMENTS,
                                         .segment_bytes = HOST_SEGMENT,
                                         .ram_frames = SHARD_FRAMES_MIN,
                                         .flash_volatile = flash_volatile};
    memset(host->config.uuid, 7, sizeof(host->config.uuid));
    host->policy = (struct volume_policy){.present = true, .mode = mode, .blocks = HOST_BLOCKS};
    host->flash_bytes = DATA_OFFSET + (size_t)SEGMENTS * HOST_SEGMENT + SUPERBLOCK_BYTES;
    host->flash = calloc(1, host->flash_bytes);
    host->backing = malloc(volume_bytes);
    host->model = malloc(volume_bytes);
    host->ram = aligned_alloc(BLOCK_BYTES, (size_t)SHARD_FRAMES_MIN * BLOCK_BYTES);
    host->data = aligned_alloc(BLOCK_BYTES, DATA_PAGES * BLOCK_BYTES);
    host->config.ram = host->ram;
    for (size_t i = 0; i < volume_bytes; i += 8)
        *(uint64_t *)(void *)(host->backing + i) = host_random(host);
    memcpy(host->model, host->backing, volume_bytes);
    ck_assert_int_eq(host_boot(host), 1);
    return host;
}

void host_free(struct host *host)
{
    free(host->memory);
    free(host->data);
    free(host->ram);
    free(host->model);
    free(host->backing);
    free(host->flash);
    free(host);
}

/* ---- carrying out actions --------------------------------------------------------------- */

static void step(struct host *host, const struct event *event)
{
    shard_step(host->shard, host->now_ns, event, 1, &host->out);
    for (uint32_t i = 0; i < host->out.count; i++) {
        host->queue[host->queue_tail++ % HOST_QUEUE] = host->out.list[i];
        ck_assert_uint_lt(host->queue_tail - host->queue_head, HOST_QUEUE);
    }
}

static void piece_io_ended(struct host *host, struct piece *piece)
{
    if (--piece->ios == 0) {
        host->replies++;
        host->last_error = piece->error;
    }
}

static int flash_error(const struct host *host, const struct action *action, int error)
{
    bool touched = host->flash_error_bytes == 0 ||
                   (action->offset < host->flash_error_offset + host->flash_error_bytes &&
                    host->flash_error_offset < action->offset + action->length);

    return touched ? error : 0;
}

static void read_flash(struct host *host, const struct action *action)
{
    struct event event = {.kind = EVENT_IO_DONE,
                          .action = action,
                          .result = flash_error(host, action, host->flash_read_error)};
    struct piece *piece = action->owner;

    if (shard_ready(host->shard) == 0)
        host->recovery_bytes += action->length;
    if (event.result) {
        step(host, &event);
        return;
    }

    memcpy(action->data, host->flash + action->offset, action->length);
    if (action->flags & ACTION_VERIFY && host->wrong_read_offset >= action->offset &&
        host->wrong_read_offset < action->offset + action->length) {
        action->data[host->wrong_read_offset - action->offset] ^= 1;
        host->wrong_read_offset = 0;
    }
    for (uint32_t i = 0; action->flags & ACTION_VERIFY && i < action->count; i++)
        if (crc32c(0, action->data + i * BLOCK_BYTES, BLOCK_BYTES) !=
            shard_slot_crc(host->shard, action->slot + i))
            event.bad_mask |= UINT64_C(1) << i;
    if (action->flags & (ACTION_HEAD | ACTION_TAIL) && !event.bad_mask)
        piece_merge(piece, action->flags & ACTION_HEAD, action->data);
    if (action->flags & ACTION_REPORT || event.bad_mask) {
        step(host, &event);
        return;
    }
    shard_flash_read_end(host->shard, action->slot);
    piece_io_ended(host, piece);
}

static void write_flash(struct host *host, const struct action *action)
{
    struct flash_write *write = action->owner;
    uint64_t offset = action->offset;

    host->now_ns += host->flash_write_ns;
    flash_write_seal(write);
    if (flash_error(host, action, host->flash_write_error)) {
        step(host, &(struct event){
                       .kind = EVENT_IO_DONE, .action = action, .result = host->flash_write_error});
        return;
    }
    /* One misdirected write must not be able to lose both copies of a segment's header. */
    ck_assert((offset - DATA_OFFSET) % HOST_SEGMENT > 0 || action->length == BLOCK_BYTES);
    if (host->flash_writes + 1 == host->tear_write) {
        memcpy(host->torn_flash, host->flash, host->flash_bytes);
        memcpy(host->torn_flash + offset, write->iov[0].iov_base, BLOCK_BYTES);
        memcpy(host->torn_model, host->model, (size_t)HOST_BLOCKS * BLOCK_BYTES);
    }
    for (uint32_t i = 0; i < write->iov_count; i++) {
        memcpy(host->flash + offset, write->iov[i].iov_base, write->iov[i].iov_len);
        offset += write->iov[i].iov_len;
    }
    ck_assert_uint_eq(offset - action->offset, action->length);
    host->flash_writes++;
    host->flash_fua += action->flags & ACTION_FUA ? 1 : 0;
    step(host, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

static void read_backing(struct host *host, const struct action *action)
{
    struct piece *piece = action->owner;
    bool merge = action->flags & (ACTION_HEAD | ACTION_TAIL);

    if (host->backing_error) {
        step(host, &(struct event){
                       .kind = EVENT_IO_DONE, .action = action, .result = host->backing_error});
        return;
    }
    memcpy(action->data, host->backing + action->offset, action->length);
    if (merge)
        piece_merge(piece, action->flags & ACTION_HEAD, action->data);
    step(host, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

static void carry_out(struct host *host, const struct action *action)
{
    struct event done = {.kind = EVENT_IO_DONE, .action = action};
    struct piece *piece = action->owner;

    switch ((enum action_kind)action->kind) {
    case ACTION_READ_FLASH: read_flash(host, action); return;
    case ACTION_WRITE_FLASH: write_flash(host, action); return;
    case ACTION_READ_BACKING: read_backing(host, action); return;
    case ACTION_WRITE_BACKING:
        host->backing_writes++;
        done.result = host->backing_error;
        if (host->backing_bad_offset != 0 && action->offset >= host->backing_bad_offset)
            done.result = -5;
        if (done.result == 0)
            memcpy(host->backing + action->offset, action->data, action->length);
        break;
    case ACTION_ZERO_BACKING:
        host->backing_writes++;
        done.result = host->backing_error;
        if (done.result == 0)
            memset(host->backing + action->offset, 0, action->length);
        break;
    case ACTION_FLUSH_FLASH:
        host->flash_flushes++;
        shard_flush_end(host->shard, shard_flush_begin(host->shard));
        break;
    case ACTION_FLUSH_BACKING:
        host->backing_flushes++;
        done.result = host->backing_error;
        break;
    case ACTION_FILL: piece_fill(host->shard, piece, action->first, action->count); break;
    case ACTION_MERGE: piece_merge(piece, action->flags & ACTION_HEAD, action->data); break;
    case ACTION_REPLY:
        host->replies++;
        host->last_error = piece->error;
        return;
    case ACTION_RESUME: step(host, &(struct event){.kind = EVENT_REQUEST, .piece = piece}); return;
    case ACTION_RETIRE: host->retired[host->retired_count++ % 64] = (uint32_t)action->offset; break;
    case ACTION_NOTICE: host->notices[action->slot]++; return;
    case ACTION_EPOCH: return;
    }
    step(host, &done);
}

static bool is_late(struct host *host, const struct action *action)
{
    if (host->backing_error == 0 || host->backing_error_ns == 0 ||
        (action->kind != ACTION_WRITE_BACKING && action->kind != ACTION_ZERO_BACKING))
        return false;
    ck_assert_uint_lt(host->late_count, 64);
    host->late[host->late_count] = *action;
    host->late_due_ns[host->late_count++] = host->now_ns + host->backing_error_ns;
    return true;
}

/* In the order in which they began. */
static uint64_t late_due(const struct host *host)
{
    return host->late_count > 0 ? host->late_due_ns[0] : UINT64_MAX;
}

static void late_end(struct host *host)
{
    struct action action = host->late[0];

    host->late_count--;
    memmove(host->late, host->late + 1, host->late_count * sizeof(host->late[0]));
    memmove(host->late_due_ns, host->late_due_ns + 1,
            host->late_count * sizeof(host->late_due_ns[0]));
    step(host,
         &(struct event){.kind = EVENT_IO_DONE, .action = &action, .result = host->backing_error});
}

static bool is_held(const struct host *host, const struct action *action)
{
    const struct flash_write *write = action->owner;

    if (action->kind != ACTION_WRITE_FLASH)
        return false;
    return host->flash_held || (host->footers_held && write->iov_count == 1 &&
                                (action->offset - DATA_OFFSET) % HOST_SEGMENT >= HOST_SEGMENT / 2);
}

static void run(struct host *host)
{
    while (host->queue_head != host->queue_tail) {
        struct action action = host->queue[host->queue_head++ % HOST_QUEUE];

        host->now_ns += 1000;
        if (is_held(host, &action)) {
            ck_assert_uint_lt(host->waiting_count, 64);
            host->waiting[host->waiting_count++] = action;
        } else if (!is_late(host, &action)) {
            carry_out(host, &action);
        }
        if (host->queue_head != host->queue_tail)
            continue;
        step(host, &(struct event){.kind = EVENT_SEAL});
        if (shard_next_tick(host->shard) <= host->now_ns)
            step(host, &(struct event){.kind = EVENT_TICK});
    }
}

void host_idle(struct host *host, uint64_t ns)
{
    uint64_t end = host->now_ns + ns;

    while (host->now_ns < end) {
        uint64_t due = shard_next_tick(host->shard);

        if (late_due(host) < due && late_due(host) <= end) {
            if (late_due(host) > host->now_ns)
                host->now_ns = late_due(host);
            late_end(host);
            run(host);
            continue;
        }
        if (due > end) {
            host->now_ns = end;
            return;
        }
        if (due > host->now_ns)
            host->now_ns = due;
        else
            host->now_ns++;
        step(host, &(struct event){.kind = EVENT_TICK});
        run(host);
    }
}

void host_flash_release(struct host *host)
{
    host->flash_held = host->footers_held = false;
    for (uint32_t i = 0; i < host->waiting_count; i++) {
        carry_out(host, &host->waiting[i]);
        run(host);
    }
    host->waiting_count = 0;
}

int host_boot(struct host *host)
{
    int ready;

    host->config.session++;
    host->waiting_count = 0;
    host->queue_head = host->queue_tail = 0;
    host->config.retired = host->retired;
    host->config.retired_count = host->retired_count;
    free(host->memory);
    host->memory = aligned_alloc(BLOCK_BYTES, shard_memory_bytes(&host->config));
    memset(host->memory, 0, shard_memory_bytes(&host->config));
    host->shard = shard_create(&host->config, host->memory);
    shard_volume_set(host->shard, HOST_VOLUME, &host->policy);
    if (host->other.present)
        shard_volume_set(host->shard, HOST_OTHER, &host->other);
    for (int i = 0; (ready = shard_ready(host->shard)) == 0; i++) {
        ck_assert_int_lt(i, PATIENCE);
        step(host, &(struct event){.kind = EVENT_TICK});
        run(host);
    }
    return ready;
}

void host_ram(struct host *host, uint32_t frames)
{
    free(host->ram);
    host->config.ram_frames = frames;
    host->ram = aligned_alloc(BLOCK_BYTES, (size_t)frames * BLOCK_BYTES);
    host->config.ram = host->ram;
    ck_assert_int_eq(host_boot(host), 1);
}

void host_stop(struct host *host)
{
    step(host, &(struct event){.kind = EVENT_STOP});
    run(host);
    for (int i = 0; !shard_idle(host->shard); i++) {
        ck_assert_int_lt(i, PATIENCE);
        host_idle(host, 1000000);
    }
}

/* ---- requests --------------------------------------------------------------------------- */

static struct piece *piece_new(struct host *host, enum piece_op op, uint64_t block, uint32_t count,
                               uint8_t flags)
{
    struct piece *piece = &host->piece;

    memset(piece, 0xee, sizeof(*piece)); /* the shard must not rely on what it did not set */
    piece->op = (uint8_t)op;
    piece->flags = flags;
    piece->volume = host->volume;
    piece->count = (uint16_t)count;
    piece->head_bytes = piece->tail_bytes = 0;
    piece->core = 0;
    piece->block = block;
    piece->epoch = 1;
    piece->data = host->data + BLOCK_BYTES;
    piece->merge = host->data + 70 * BLOCK_BYTES;
    piece->state = piece->resumed = 0;
    return piece;
}

static int submit(struct host *host, struct piece *piece)
{
    uint64_t replies = host->replies;

    step(host, &(struct event){.kind = EVENT_REQUEST, .piece = piece});
    run(host);
    for (int i = 0; host->replies == replies; i++) {
        ck_assert_msg(i < PATIENCE, "request %u of block %llu does not end", piece->op,
                      (unsigned long long)piece->block);
        step(host, &(struct event){.kind = EVENT_SEAL});
        run(host);
        if (host->replies == replies)
            host_idle(host, 1000000);
    }
    return host->last_error;
}

int host_write(struct host *host, uint64_t block, uint32_t count, uint32_t head, uint32_t tail,
               uint8_t flags)
{
    struct piece *piece = piece_new(host, PIECE_WRITE, block, count, flags | PIECE_HEADROOM);
    size_t bytes = (size_t)count * BLOCK_BYTES - head - tail;

    piece->head_bytes = (uint16_t)head;
    piece->tail_bytes = (uint16_t)tail;
    fill_random(host, piece->data + head, bytes);
    for (uint32_t i = 0; i < count; i++)
        piece->crc[i] = crc32c(0, piece->data + i * (size_t)BLOCK_BYTES, BLOCK_BYTES);
    memcpy(host->model + block * BLOCK_BYTES + head, piece->data + head, bytes);
    return submit(host, piece);
}

int host_zero(struct host *host, uint64_t block, uint32_t count, uint8_t flags)
{
    memset(host->model + block * BLOCK_BYTES, 0, (size_t)count * BLOCK_BYTES);
    return submit(host, piece_new(host, PIECE_ZERO, block, count, flags));
}

int host_invalidate(struct host *host, uint64_t block, uint32_t count, uint8_t flags)
{
    return submit(host, piece_new(host, PIECE_INVALIDATE, block, count, flags));
}

int host_read(struct host *host, uint64_t block, uint32_t count, uint8_t flags)
{
    static const unsigned char zeros[BLOCK_BYTES];
    struct piece *piece = piece_new(host, PIECE_READ, block, count, flags);
    int error = submit(host, piece);

    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *data = piece->data + i * (size_t)BLOCK_BYTES;

        if (piece->zero_mask >> i & 1)
            data = zeros;
        if (piece->ram_mask >> i & 1)
            data = shard_frame(host->shard, piece->frame[i]);
        if (!error)
            ck_assert_msg(memcmp(data, host->model + (block + i) * BLOCK_BYTES, BLOCK_BYTES) == 0,
                          "block %llu is wrong", (unsigned long long)(block + i));
        if (piece->ram_mask >> i & 1)
            shard_frame_unpin(host->shard, piece->frame[i]);
    }
    return error;
}

int host_prefetch(struct host *host, uint64_t block, uint32_t count)
{
    struct piece *piece = piece_new(host, PIECE_PREFETCH, block, count, 0);
    int error = submit(host, piece);

    for (uint32_t i = 0; i < count; i++)
        if (piece->ram_mask >> i & 1)
            shard_frame_unpin(host->shard, piece->frame[i]);
    return error;
}

void host_read_all(struct host *host)
{
    for (uint64_t block = 0; block < HOST_BLOCKS; block += REGION_BLOCKS)
        ck_assert_int_eq(host_read(host, block, REGION_BLOCKS, 0), 0);
}

void host_destage_all(struct host *host)
{
    shard_destage_all(host->shard, VOLUME_ALL);
    for (int i = 0; shard_dirty_blocks(host->shard, VOLUME_ALL) > 0; i++) {
        ck_assert_int_lt(i, PATIENCE);
        host_idle(host, 10000000);
    }
}
