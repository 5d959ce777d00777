/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz-shard.h"

#include <errno.h>

#include "common/crc32c.h"

#define PATIENCE   200000
#define DATA_PAGES 80u

/* ---- set-up --------------------------------------------------------------------------------- */

void fuzz_host_init(struct fuzz_host *host, struct fuzz_image *image)
{
    size_t bytes = (size_t)HOST_BLOCKS * BLOCK_BYTES;
    uint64_t word = 1;

    memset(host, 0, sizeof(*host));
    host->image = image;
    host->config = (struct shard_config){.cores = 2,
                                         .segments = image->segments,
                                         .segment_bytes = FUZZ_SEGMENT_BYTES,
                                         .ram_frames = SHARD_FRAMES_MIN};
    memcpy(host->config.uuid, image->uuid, sizeof(image->uuid));
    host->ram = aligned_alloc(BLOCK_BYTES, (size_t)SHARD_FRAMES_MIN * BLOCK_BYTES);
    host->data = aligned_alloc(BLOCK_BYTES, DATA_PAGES * BLOCK_BYTES);
    host->memory = aligned_alloc(BLOCK_BYTES, shard_memory_bytes(&host->config));
    host->config.ram = host->ram;
    FUZZ_CHECK(host->ram && host->data && host->memory, "no memory");
    for (unsigned i = 0; i < HOST_VOLUMES; i++) {
        host->backing[i] = malloc(bytes);
        host->original[i] = malloc(bytes);
        FUZZ_CHECK(host->backing[i] && host->original[i], "no memory");
        for (size_t at = 0; at < bytes; at += sizeof(word), word += 0x9e3779b97f4a7c15u)
            memcpy(host->original[i] + at, &word, sizeof(word));
        memset(host->backing_written[i], 1, sizeof(host->backing_written[i]));
    }
}

void fuzz_host_reset(struct fuzz_host *host)
{
    for (unsigned i = 0; i < HOST_VOLUMES; i++) {
        for (uint32_t block = 0; block < HOST_BLOCKS; block++) {
            if (host->backing_written[i][block])
                memcpy(host->backing[i] + (size_t)block * BLOCK_BYTES,
                       host->original[i] + (size_t)block * BLOCK_BYTES, BLOCK_BYTES);
            host->backing_written[i][block] = false;
        }
    }
    host->now_ns = 1;
    host->config.session = FUZZ_SESSION;
    host->config.watermark = host->config.durable_lsn = 0;
    host->config.clean_start = host->config.flash_volatile = false;
    host->config.retired_count = 0;
}

/* ---- carrying out actions ------------------------------------------------------------------- */

static void step(struct fuzz_host *host, const struct event *event)
{
    shard_step(host->shard, host->now_ns, event, 1, &host->out);
    FUZZ_CHECK(host->out.count <= ACTIONS_MAX, "too many actions");
    for (uint32_t i = 0; i < host->out.count; i++)
        host->queue[host->queue_tail++ % HOST_QUEUE] = host->out.list[i];
    FUZZ_CHECK(host->queue_tail - host->queue_head < HOST_QUEUE, "actions pile up");
}

static void piece_io_ended(struct fuzz_host *host, struct piece *piece)
{
    FUZZ_CHECK(piece == &host->piece && piece->ios > 0, "a piece that has no I/O");
    if (--piece->ios == 0)
        host->replies++;
}

static void flash_range_check(const struct fuzz_host *host, const struct action *action)
{
    uint64_t end = host->image->bytes - SUPERBLOCK_BYTES;

    FUZZ_CHECK(action->offset >= DATA_OFFSET && action->offset < end && action->length > 0 &&
                   action->length <= end - action->offset && action->offset % BLOCK_BYTES == 0 &&
                   action->length % BLOCK_BYTES == 0,
               "%u bytes at %llu of the flash are accessed", action->length,
               (unsigned long long)action->offset);
}

static bool is_unreadable(const struct fuzz_host *host, const struct action *action)
{
    for (uint32_t i = 0; i < action->length / BLOCK_BYTES; i++) {
        if (host->image->state[action->offset / BLOCK_BYTES + i] & FUZZ_UNREADABLE)
            return true;
    }
    return false;
}

static void read_flash(struct fuzz_host *host, const struct action *action)
{
    struct event event = {.kind = EVENT_IO_DONE, .action = action};
    struct piece *piece = action->owner;

    flash_range_check(host, action);
    event.result = is_unreadable(host, action) ? -EIO : 0;
    if (event.result == 0)
        memcpy(action->data, host->image->data + action->offset, action->length);
    for (uint32_t i = 0; !event.result && action->flags & ACTION_VERIFY && i < action->count; i++) {
        if (crc32c(0, action->data + i * BLOCK_BYTES, BLOCK_BYTES) !=
            shard_slot_crc(host->shard, action->slot + i))
            event.bad_mask |= UINT64_C(1) << i;
    }
    if (action->flags & (ACTION_HEAD | ACTION_TAIL) && !event.bad_mask && !event.result)
        piece_merge(piece, action->flags & ACTION_HEAD, action->data);
    if (action->flags & ACTION_REPORT || event.bad_mask || event.result) {
        step(host, &event);
        return;
    }
    shard_flash_read_end(host->shard, action->slot);
    piece_io_ended(host, piece);
}

static void write_flash(struct fuzz_host *host, const struct action *action)
{
    struct flash_write *write = action->owner;
    uint64_t offset = action->offset;

    flash_range_check(host, action);
    flash_write_seal(write);
    fuzz_image_touch(host->image, offset, action->length);
    for (uint32_t i = 0; i < write->iov_count; i++) {
        FUZZ_CHECK(write->iov[i].iov_len <= action->offset + action->length - offset,
                   "a write is longer than it says");
        memcpy(host->image->data + offset, write->iov[i].iov_base, write->iov[i].iov_len);
        offset += write->iov[i].iov_len;
    }
    step(host, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

/* What lies behind the end of the store reads as zeros, and is not written. */
static void backing_copy(struct fuzz_host *host, const struct action *action, bool reads)
{
    uint64_t block = action->offset / BLOCK_BYTES;
    unsigned volume = action->volume - 1u;

    FUZZ_CHECK(volume < HOST_VOLUMES && action->offset % BLOCK_BYTES == 0 &&
                   action->length % BLOCK_BYTES == 0,
               "volume %u at %llu", action->volume, (unsigned long long)action->offset);
    for (uint64_t i = 0; i < action->length / BLOCK_BYTES; i++) {
        bool inside = block + i < HOST_BLOCKS;
        unsigned char *store =
            inside ? host->backing[volume] + (size_t)(block + i) * BLOCK_BYTES : NULL;
        unsigned char *data = action->data ? action->data + i * BLOCK_BYTES : NULL;

        if (inside && reads)
            memcpy(data, store, BLOCK_BYTES);
        else if (reads)
            memset(data, 0, BLOCK_BYTES);
        else if (inside && action->kind == ACTION_WRITE_BACKING)
            memcpy(store, data, BLOCK_BYTES);
        else if (inside)
            memset(store, 0, BLOCK_BYTES);
        if (inside && !reads)
            host->backing_written[volume][block + i] = true;
        if (!inside && !reads && action->kind == ACTION_ZERO_BACKING)
            return; /* it may be very long */
    }
}

static void read_backing(struct fuzz_host *host, const struct action *action)
{
    struct piece *piece = action->owner;

    FUZZ_CHECK(action->flags & ACTION_REPORT, "a backing read that is not reported");
    backing_copy(host, action, true);
    if (action->flags & (ACTION_HEAD | ACTION_TAIL))
        piece_merge(piece, action->flags & ACTION_HEAD, action->data);
    step(host, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

static void carry_out(struct fuzz_host *host, const struct action *action)
{
    struct piece *piece = action->owner;

    switch ((enum action_kind)action->kind) {
    case ACTION_READ_FLASH: read_flash(host, action); return;
    case ACTION_WRITE_FLASH: write_flash(host, action); return;
    case ACTION_READ_BACKING: read_backing(host, action); return;
    case ACTION_WRITE_BACKING:
    case ACTION_ZERO_BACKING: backing_copy(host, action, false); break;
    case ACTION_FLUSH_FLASH: shard_flush_end(host->shard, shard_flush_begin(host->shard)); break;
    case ACTION_FLUSH_BACKING: break;
    case ACTION_FILL: piece_fill(host->shard, piece, action->first, action->count); break;
    case ACTION_MERGE: piece_merge(piece, action->flags & ACTION_HEAD, action->data); break;
    case ACTION_REPLY: host->replies++; return;
    case ACTION_RESUME: step(host, &(struct event){.kind = EVENT_REQUEST, .piece = piece}); return;
    case ACTION_RETIRE:
        if (host->config.retired_count < 16)
            host->retired[host->config.retired_count++] = (uint32_t)action->offset;
        break;
    case ACTION_NOTICE: return;
    default: break; /* newer kinds are reported as done */
    }
    step(host, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

static void run(struct fuzz_host *host)
{
    for (unsigned turns = 0; host->queue_head != host->queue_tail; turns++) {
        struct action action = host->queue[host->queue_head++ % HOST_QUEUE];

        FUZZ_CHECK(turns < PATIENCE, "the shard does not come to rest");
        host->now_ns += 1000;
        carry_out(host, &action);
        if (host->queue_head != host->queue_tail)
            continue;
        step(host, &(struct event){.kind = EVENT_SEAL});
        if (shard_next_tick(host->shard) <= host->now_ns)
            step(host, &(struct event){.kind = EVENT_TICK});
    }
}

static void idle(struct fuzz_host *host, uint64_t ns)
{
    uint64_t end = host->now_ns + ns;

    for (unsigned turns = 0; host->now_ns < end; turns++) {
        uint64_t due = shard_next_tick(host->shard);

        FUZZ_CHECK(turns < PATIENCE, "the shard asks for ticks without end");
        if (due > end) {
            host->now_ns = end;
            return;
        }
        host->now_ns = due > host->now_ns ? due : host->now_ns + 1;
        step(host, &(struct event){.kind = EVENT_TICK});
        run(host);
    }
}

/* ---- life ----------------------------------------------------------------------------------- */

int fuzz_host_boot(struct fuzz_host *host)
{
    int ready;

    host->config.session++;
    host->queue_head = host->queue_tail = 0;
    host->config.retired = host->retired;
    memset(host->memory, 0, shard_memory_bytes(&host->config));
    host->shard = shard_create(&host->config, host->memory);
    for (unsigned i = 0; i < HOST_VOLUMES; i++)
        shard_volume_set(host->shard, (uint16_t)(i + 1), &host->policies[i]);
    for (unsigned turns = 0; (ready = shard_ready(host->shard)) == 0; turns++) {
        FUZZ_CHECK(turns < PATIENCE, "recovery does not end");
        step(host, &(struct event){.kind = EVENT_TICK});
        run(host);
    }
    host->config.clean_start = false;
    return ready;
}

void fuzz_host_stop(struct fuzz_host *host)
{
    struct shard_status status;

    step(host, &(struct event){.kind = EVENT_STOP});
    run(host);
    for (unsigned turns = 0; !shard_idle(host->shard); turns++) {
        FUZZ_CHECK(turns < PATIENCE, "the shard does not stop");
        idle(host, 1000000);
    }
    shard_status(host->shard, &status);
    host->config.watermark = status.watermark;
    host->config.durable_lsn = status.durable_lsn;
    host->config.clean_start = !status.flash_failed;
}

static void results_gather(struct fuzz_host *host, struct piece *piece)
{
    for (uint32_t i = 0; i < piece->count; i++) {
        unsigned char *data = piece->data + i * (size_t)BLOCK_BYTES;

        if (piece->zero_mask >> i & 1)
            memset(data, 0, BLOCK_BYTES);
        if (piece->ram_mask >> i & 1) {
            memcpy(data, shard_frame(host->shard, piece->frame[i]), BLOCK_BYTES);
            shard_frame_unpin(host->shard, piece->frame[i]);
        }
    }
}

int fuzz_host_submit(struct fuzz_host *host, enum piece_op op, unsigned volume, uint64_t block,
                     uint32_t count, uint32_t head_bytes, uint8_t flags)
{
    struct piece *piece = &host->piece;
    uint64_t replies = host->replies;

    memset(piece, 0xee, sizeof(*piece)); /* the shard must not rely on what it did not set */
    piece->op = (uint8_t)op;
    piece->flags = flags | (op == PIECE_WRITE ? PIECE_HEADROOM : 0);
    piece->volume = (uint16_t)(volume + 1);
    piece->count = (uint16_t)count;
    piece->head_bytes = (uint16_t)head_bytes;
    piece->tail_bytes = piece->core = 0;
    piece->block = block;
    piece->epoch = 1;
    piece->data = host->data + BLOCK_BYTES;
    piece->merge = host->data + 70 * BLOCK_BYTES;
    piece->state = piece->resumed = 0;
    for (uint32_t i = 0; op == PIECE_WRITE && i < count; i++)
        piece->crc[i] = crc32c(0, piece->data + i * (size_t)BLOCK_BYTES, BLOCK_BYTES);
    step(host, &(struct event){.kind = EVENT_REQUEST, .piece = piece});
    run(host);
    for (unsigned turns = 0; host->replies == replies; turns++) {
        FUZZ_CHECK(turns < PATIENCE, "request %u of block %llu does not end", piece->op,
                   (unsigned long long)piece->block);
        step(host, &(struct event){.kind = EVENT_SEAL});
        run(host);
        if (host->replies == replies)
            idle(host, 1000000);
    }
    FUZZ_CHECK(host->replies == replies + 1, "a request is answered twice");
    if (op == PIECE_READ)
        results_gather(host, piece);
    return piece->error;
}

/* Lost blocks never become clean; neither does a block whose flash cannot be read. */
void fuzz_host_destage(struct fuzz_host *host)
{
    shard_destage_all(host->shard, VOLUME_ALL);
    for (unsigned turns = 0; turns < 100 && shard_dirty_blocks(host->shard, VOLUME_ALL) >
                                                shard_lost_blocks(host->shard, VOLUME_ALL);
         turns++)
        idle(host, 10000000);
}
