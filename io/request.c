/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: validation, cutting into pieces, and the answer.
 *
 *   submit --> (waits for a buffer) --> pieces, a bounded number at a time --> done
 */
#include "io/request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crc32c.h"
#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"

#define PIECES_OPEN_MAX  64u /* of one request */
#define REGION_BYTES     (REGION_BLOCKS * BLOCK_BYTES)
#define CACHE_PARTS      4u /* pieces of a CACHE request, each with its part of the buffer */
#define EDGE_BLOCKS      3u /* of a ZERO request: data and two blocks to merge in */
#define AROUND_BYTES_MIN (8u << 20)
#define SLAB_PIECES      64u
#define SLABS_RESERVED   4u /* there from the start */

struct slab {
    struct list link;
    struct request_piece pieces[SLAB_PIECES];
};

/* ---- per core ----------------------------------------------------------------------------- */

static bool add_slab(struct request_core *own)
{
    struct slab *slab = malloc(sizeof(*slab));

    if (slab == NULL)
        return false;
    list_add_tail(&own->slabs, &slab->link);
    for (unsigned i = 0; i < SLAB_PIECES; i++) {
        slab->pieces[i].next = own->free;
        own->free = &slab->pieces[i];
    }
    return true;
}

/* What is reserved is enough for block devices: when the kernel writes its dirty pages to them to get
 * memory, there may be none for us. */
int request_enter(struct core *core)
{
    struct request_core *own = calloc(1, sizeof(*own));
    uint64_t bytes = core->config->buffer_bytes;

    if (own == NULL)
        return -ENOMEM;
    list_init(&own->slabs);
    own->write_bytes_max = bytes != 0 ? bytes / 2 : 32u << 20;
    core->request = own;
    for (unsigned i = 0; i < SLABS_RESERVED; i++) {
        if (!add_slab(own)) {
            request_leave(core);
            return -ENOMEM;
        }
    }
    return 0;
}

void request_leave(struct core *core)
{
    struct request_core *own = core->request;

    while (!list_empty(&own->slabs))
        free(container_of(list_take_first(&own->slabs), struct slab, link));
    free(own);
    core->request = NULL;
}

struct request_volume *request_volume_create(unsigned cores)
{
    struct request_volume *figures = aligned_alloc(64, cores * sizeof(*figures));

    if (figures != NULL)
        memset(figures, 0, cores * sizeof(*figures));
    return figures;
}

static struct request_volume *figures_of(const struct core *core, struct volume *volume)
{
    return &cache_volume_of(volume)->figures[core->index];
}

static struct request_piece *piece_take(struct request *request)
{
    struct request_core *own = request->core->request;
    struct request_piece *piece = &request->first;

    if (!request->first_taken) {
        request->first_taken = true;
        piece->request = request;
        return piece;
    }
    if (own->free == NULL && !add_slab(own))
        return NULL;
    piece = own->free;
    own->free = piece->next;
    piece->request = request;
    return piece;
}

static void piece_give(struct request *request, struct request_piece *piece)
{
    struct request_core *own = request->core->request;

    if (piece == &request->first) {
        request->first_taken = false;
        return;
    }
    piece->next = own->free;
    own->free = piece;
}

/* ---- the end ------------------------------------------------------------------------------ */

void request_finish(struct request *request)
{
    static const uint8_t ops[] = {
        [REQUEST_READ] = LATENCY_READ,      [REQUEST_WRITE] = LATENCY_WRITE,
        [REQUEST_ZERO] = LATENCY_ZERO,      [REQUEST_TRIM] = LATENCY_ZERO,
        [REQUEST_FLUSH] = LATENCY_FLUSH,    [REQUEST_CACHE] = LATENCY_OPS,
        [REQUEST_INVALIDATE] = LATENCY_OPS,
    };
    struct core *core = request->core;
    struct volume *volume = request->volume;
    uint8_t op = ops[request->op];
    bool ends = (op == LATENCY_WRITE || op == LATENCY_ZERO) && request->flags & REQUEST_FUA &&
                volume->destage == DESTAGE_ORDERED;
    uint64_t now_ns = core->now_ns;

    if (now_ns == request->received_ns) /* within one turn: as good as nothing, but not nothing */
        now_ns = clock_ns();
    if (op != LATENCY_OPS && request->error == 0)
        latency_add(&figures_of(core, volume)->latency[op][request->tier],
                    now_ns - request->received_ns);
    /* What is sent after this answer may rely on it: the answer ends an epoch, too (hazard 18). */
    if (ends)
        atomic_fetch_add(&volume->epoch, 1);
    request->done(request);
    if (ends)
        epoch_advance(core, cache_volume_of(volume));
}

static void refuse(struct request *request, int error)
{
    request->error = error;
    request->error_offset = request->offset;
    request->done(request);
}

static void let_go(struct request *request)
{
    if (--request->pieces_open == 0)
        request_finish(request);
}

static void raise_tier(struct request *request, enum latency_tier tier)
{
    if (tier > request->tier)
        request->tier = (uint8_t)tier;
}

/* `error` happened somewhere from `block` on. */
static void note_error(struct request *request, int error, uint64_t block)
{
    uint64_t offset = block << BLOCK_SHIFT;

    offset = offset < request->offset ? request->offset : offset;
    if (request->error == 0 || offset < request->error_offset)
        request->error_offset = offset;
    if (request->error == 0)
        request->error = error;
}

/* ---- pieces ------------------------------------------------------------------------------- */

/* Only what the shard reads before it writes it: the arrays are large. */
static void piece_init(struct request_piece *own, uint8_t op, uint64_t block, uint32_t count)
{
    struct request *request = own->request;
    struct piece *piece = &own->piece;
    struct cache *cache = core_cache(request->core);
    uint32_t shard;

    piece->op = op;
    piece->flags = request->flags & REQUEST_FUA ? PIECE_FUA : 0;
    piece->volume = request->volume->id;
    piece->count = (uint16_t)count;
    piece->head_bytes = 0;
    piece->tail_bytes = 0;
    piece->core = (uint16_t)request->core->index;
    piece->block = block;
    piece->epoch = request->epoch;
    piece->data = NULL;
    piece->merge = NULL;
    piece->ram_mask = 0;
    piece->fill_mask = 0;
    piece->zero_mask = 0;
    piece->flash_blocks = 0;
    piece->backing_blocks = 0;
    piece->error = 0;
    piece->ios = 0;
    piece->private_pointer = NULL;
    piece->next = NULL;
    piece->active_next = NULL;
    piece->since_ns = 0;
    piece->batches = 0;
    piece->state = 0;
    piece->active = 0;
    piece->around = 0;
    piece->resumed = 0;
    shard = shard_of(piece->volume, block, cache->shard_count);
    own->runner = &cache->runners[shard];
    own->next = NULL;
}

static void piece_send(struct request_piece *own)
{
    own->request->pieces_open++;
    shard_runner_queue(own->request->core, own);
}

static void fill_read(struct request *request, struct request_piece *own)
{
    own->piece.data = request->span + (own->piece.block << BLOCK_SHIFT) -
                      (request->offset & ~(uint64_t)(BLOCK_BYTES - 1));
    if (request->no_fill)
        own->piece.flags |= PIECE_NO_FILL;
    if (request->beyond)
        own->piece.flags |= PIECE_BEYOND;
    if (request->sequential)
        own->piece.flags |= PIECE_SEQUENTIAL;
    if (request->pieces == NULL)
        request->pieces = own;
    else
        request->last->next = own;
    request->last = own;
}

static void fill_write(struct request *request, struct request_piece *own)
{
    struct piece *piece = &own->piece;
    uint64_t start = piece->block << BLOCK_SHIFT;
    uint64_t end = start + (uint64_t)piece->count * BLOCK_BYTES;
    uint64_t request_end = request->offset + request->length;
    uint32_t first = 0, last = piece->count;

    piece->data = request->span + start - (request->offset & ~(uint64_t)(BLOCK_BYTES - 1));
    if (piece->data == request->buffer->data)
        piece->flags |= PIECE_HEADROOM;
    if (request->offset > start)
        piece->head_bytes = (uint16_t)(request->offset - start);
    if (request_end < end && request_end != request->volume->bytes)
        piece->tail_bytes = (uint16_t)(end - request_end);
    else if (request_end < end) /* nothing to keep behind the end of the volume */
        memset(piece->data + (request_end - start), 0, end - request_end);
    if (piece->head_bytes != 0)
        piece->merge = request->buffer->data + request->buffer->bytes - REQUEST_SCRATCH_BYTES;
    else if (piece->tail_bytes != 0)
        piece->merge = request->buffer->data + request->buffer->bytes - REQUEST_SCRATCH_BYTES / 2;
    first = piece->head_bytes != 0 ? 1 : 0;
    last -= piece->tail_bytes != 0 && last > first ? 1 : 0;
    for (uint32_t i = first; i < last; i++)
        piece->crc[i] = crc32c(0, piece->data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
}

static void fill_zero(struct request *request, struct request_piece *own)
{
    if (request->op == REQUEST_TRIM || !(request->flags & REQUEST_NO_HOLE))
        own->piece.flags |= PIECE_HOLE;
    if (request->length >= AROUND_BYTES_MIN)
        own->piece.flags |= PIECE_AROUND;
}

static void fill_invalidate(struct request *request, struct request_piece *own)
{
    if (request->flags & REQUEST_DISCARD)
        own->piece.flags |= PIECE_DISCARD;
}

static void fill_cache(struct request *request, struct request_piece *own)
{
    own->part = (uint32_t)__builtin_ctz(~(unsigned)request->parts);
    request->parts |= (uint8_t)(1u << own->part);
    own->piece.data = request->buffer->data + (size_t)own->part * REGION_BYTES;
}

static unsigned pieces_limit(const struct request *request)
{
    uint32_t parts;

    if (request->op != REQUEST_CACHE)
        return PIECES_OPEN_MAX;
    parts = request->buffer->bytes / REGION_BYTES;
    return parts < CACHE_PARTS ? parts : CACHE_PARTS;
}

/* Sends as many of the pieces that are left as may be under way; the caller holds one more count of
 * pieces_open. */
static void launch(struct request *request)
{
    static const struct {
        uint8_t op;
        void (*fill)(struct request *request, struct request_piece *piece);
    } kinds[] = {
        [REQUEST_READ] = {PIECE_READ, fill_read},
        [REQUEST_WRITE] = {PIECE_WRITE, fill_write},
        [REQUEST_ZERO] = {PIECE_ZERO, fill_zero},
        [REQUEST_TRIM] = {PIECE_ZERO, fill_zero},
        [REQUEST_CACHE] = {PIECE_PREFETCH, fill_cache},
        [REQUEST_INVALIDATE] = {PIECE_INVALIDATE, fill_invalidate},
    };
    unsigned limit = pieces_limit(request);

    while (request->next_block < request->end_block && request->pieces_open <= limit) {
        uint64_t block = request->next_block, region_end = (block | (REGION_BLOCKS - 1)) + 1;
        uint64_t end = region_end < request->end_block ? region_end : request->end_block;
        struct request_piece *piece = piece_take(request);

        /* The end of a piece that is under way frees one, unless the request keeps it. */
        if (piece == NULL && request->pieces_open > 1 && request->op != REQUEST_READ)
            return;
        if (piece == NULL) {
            note_error(request, -ENOMEM, block);
            request->next_block = request->end_block;
            return;
        }
        piece_init(piece, kinds[request->op].op, block, (uint32_t)(end - block));
        kinds[request->op].fill(request, piece);
        request->next_block = end;
        piece_send(piece);
    }
}

static void piece_ended(struct request_piece *own)
{
    struct request *request = own->request;
    struct piece *piece = &own->piece;

    if (piece->error != 0)
        note_error(request, piece->error, piece->block);
    if (piece->backing_blocks != 0)
        raise_tier(request, TIER_BACKING);
    else if (piece->flash_blocks != 0)
        raise_tier(request, TIER_FLASH);
    if (piece->op == PIECE_PREFETCH) {
        for (uint64_t left = piece->ram_mask; left != 0; left &= left - 1)
            shard_frame_unpin(own->runner->shard, piece->frame[__builtin_ctzll(left)]);
        request->parts &= (uint8_t) ~(1u << own->part);
    }
    /* What destaging wrote of the discarded blocks no log record covers any more. */
    if (piece->op == PIECE_INVALIDATE && piece->flags & PIECE_DISCARD)
        atomic_fetch_add(&request->volume->backing_writes, 1);
    if (piece->op != PIECE_READ)
        piece_give(request, own);
    if (request->next_block < request->end_block) {
        if (request->error != 0)
            request->next_block = request->end_block;
        else
            launch(request); /* this piece's count is still held */
    }
    let_go(request);
}

static void ended_elsewhere(struct core *core, struct core_message *message)
{
    (void)core;
    piece_ended(container_of(message, struct request_piece, message));
}

static void resumed_elsewhere(struct core *core, struct core_message *message)
{
    shard_runner_queue(core, container_of(message, struct request_piece, message));
}

void request_piece_done(struct core *core, struct request_piece *piece)
{
    if (piece->piece.core == core->index) {
        piece_ended(piece);
        return;
    }
    piece->message.handle = ended_elsewhere;
    core_message_send(core_at(piece->piece.core), &piece->message);
}

void request_piece_resume(struct core *core, struct request_piece *piece)
{
    if (piece->piece.core == core->index) {
        shard_runner_queue(core, piece);
        return;
    }
    piece->message.handle = resumed_elsewhere;
    core_message_send(core_at(piece->piece.core), &piece->message);
}

/* ---- the start ---------------------------------------------------------------------------- */

/* One edge of a ZERO that covers only a part of a block: zeros, written. */
static void send_edge(struct request *request, unsigned edge, uint64_t block, uint32_t head_bytes,
                      uint32_t tail_bytes)
{
    unsigned char *memory = request->buffer->data + (size_t)edge * EDGE_BLOCKS * BLOCK_BYTES;
    struct request_piece *own = piece_take(request);

    if (own == NULL) {
        note_error(request, -ENOMEM, block);
        return;
    }
    piece_init(own, PIECE_WRITE, block, 1);
    memset(memory, 0, BLOCK_BYTES);
    own->piece.data = memory;
    own->piece.merge = memory + BLOCK_BYTES;
    own->piece.head_bytes = (uint16_t)head_bytes;
    own->piece.tail_bytes = (uint16_t)tail_bytes;
    if (edge == 0)
        own->piece.flags |= PIECE_HEADROOM;
    piece_send(own);
}

static void send_edges(struct request *request)
{
    uint64_t end = request->offset + request->length;
    uint32_t head = request->offset % BLOCK_BYTES, tail = end % BLOCK_BYTES;
    uint64_t first = request->offset >> BLOCK_SHIFT, last = end >> BLOCK_SHIFT;

    if (end == request->volume->bytes)
        tail = 0;
    if (head != 0 && tail != 0 && first == last) {
        send_edge(request, 0, first, head, BLOCK_BYTES - tail);
        return;
    }
    if (head != 0)
        send_edge(request, 0, first, head, 0);
    if (tail != 0)
        send_edge(request, 1, last, 0, BLOCK_BYTES - tail);
}

/* What the request needs besides what it came with; 0: nothing. */
static uint32_t buffer_bytes(const struct request *request)
{
    uint64_t blocks = request->end_block - request->next_block;
    uint64_t end = request->offset + request->length;

    switch (request->op) {
    case REQUEST_READ: return (uint32_t)(blocks << BLOCK_SHIFT);
    case REQUEST_CACHE:
        return blocks > (CACHE_PARTS - 1) * REGION_BLOCKS
                   ? CACHE_PARTS * REGION_BYTES
                   : (uint32_t)((blocks + REGION_BLOCKS - 1) / REGION_BLOCKS + 1) * REGION_BYTES;
    case REQUEST_ZERO:
        return request->offset % BLOCK_BYTES != 0 ||
                       (end % BLOCK_BYTES != 0 && end != request->volume->bytes)
                   ? 2 * EDGE_BLOCKS * BLOCK_BYTES
                   : 0;
    default: return 0;
    }
}

static void start(struct core *core, struct core_buffer_waiter *waiter)
{
    struct request *request = container_of(waiter, struct request, waiter);
    uint32_t bytes = buffer_bytes(request);

    if (bytes != 0) {
        request->buffer = request->given != NULL && request->op != REQUEST_CACHE
                              ? request->given
                              : core_buffer_take(core, bytes);
        if (request->buffer == NULL) {
            core_buffer_wait(core, waiter);
            return;
        }
        request->span = request->buffer->data;
    }
    request->pieces_open = 1;
    if (request->op == REQUEST_ZERO && bytes != 0)
        send_edges(request);
    launch(request);
    let_go(request);
}

/* Which blocks: all that are touched; of a ZERO or TRIM those covered as a whole, where what lies
 * behind the end of the volume counts as covered. */
static void set_range(struct request *request)
{
    uint64_t end = request->offset + request->length;

    if (request->op == REQUEST_ZERO || request->op == REQUEST_TRIM) {
        request->next_block = (request->offset + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
        if (end == request->volume->bytes)
            end += BLOCK_BYTES - 1;
        request->end_block = end >> BLOCK_SHIFT;
        if (request->end_block < request->next_block)
            request->end_block = request->next_block;
    } else {
        request->next_block = request->offset >> BLOCK_SHIFT;
        request->end_block = (end + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
    }
}

/* Does zeroing take less time than writing as many bytes?  It does where it takes log entries
 * without data, or where the backing store is known to be quick, and there is a block that is
 * covered as a whole. */
static bool zeroes_fast(const struct request *request)
{
    const struct volume *volume = request->volume;
    uint64_t end = request->offset + request->length;

    if ((request->offset + BLOCK_BYTES - 1) / BLOCK_BYTES >= end / BLOCK_BYTES)
        return false;
    if (volume->mode == MODE_WRITE_BACK && request->length < AROUND_BYTES_MIN)
        return true;
    return backing_info(volume->backing)->zeroes_fast && !(request->flags & REQUEST_NO_HOLE);
}

static int check(const struct request *request)
{
    const struct volume *volume = request->volume;
    bool writes =
        request->op == REQUEST_WRITE || request->op == REQUEST_ZERO || request->op == REQUEST_TRIM;
    bool payload = request->op == REQUEST_READ || request->op == REQUEST_WRITE;

    if (request->op == REQUEST_FLUSH)
        return 0;
    if (writes && volume->read_only)
        return -EPERM;
    if (request->op > REQUEST_INVALIDATE || request->length == 0 ||
        (payload && request->length > REQUEST_BYTES_MAX))
        return -EINVAL;
    if (request->offset > volume->bytes || request->length > volume->bytes - request->offset)
        return request->op == REQUEST_WRITE || request->op == REQUEST_ZERO ? -ENOSPC : -EINVAL;
    if (request->op == REQUEST_INVALIDATE && request->flags & REQUEST_DISCARD &&
        (request->offset % BLOCK_BYTES != 0 ||
         (request->length % BLOCK_BYTES != 0 &&
          request->offset + request->length != volume->bytes)))
        return -EINVAL; /* what a client wrote beside it is not to be discarded */
    return (request->flags & REQUEST_FAST) && !zeroes_fast(request) ? -EOPNOTSUPP : 0;
}

void request_submit(struct request *request)
{
    struct core *core = request->core;
    struct volume *volume = request->volume;
    struct request_volume *own = figures_of(core, volume);
    int error = check(request);

    request->error = 0;
    request->pieces = NULL;
    request->first_taken = false;
    request->parts = 0;
    request->flash_failed = false;
    request->flush_timer.armed = false;
    request->sequential = request->beyond = false;
    request->received_ns = core->now_ns;
    request->no_fill =
        atomic_load_explicit(&volume->fill_paused_until_ns, memory_order_relaxed) > core->now_ns;
    request->tier = request->op == REQUEST_READ ? TIER_RAM : TIER_FLASH;
    if (error) {
        refuse(request, error);
        return;
    }
    if (request->op == REQUEST_FLUSH) { /* ends an epoch (hazard 18) */
        request->epoch = atomic_fetch_add(&volume->epoch, 1);
        request_flush_start(request); /* it may be over now */
        epoch_advance(core, cache_volume_of(volume));
        return;
    }
    request->epoch = atomic_load_explicit(&volume->epoch, memory_order_relaxed);
    set_range(request);
    if (request->op != REQUEST_READ && volume->mode != MODE_WRITE_BACK)
        raise_tier(request, TIER_BACKING);
    if (request->op == REQUEST_READ) {
        uint64_t run =
            stream_note(&own->streams, request->offset, request->length, &request->sequential);

        request->beyond =
            volume->sequential_cutoff_bytes != 0 && run > volume->sequential_cutoff_bytes;
    }
    assert(request->op != REQUEST_WRITE || request->buffer != NULL);
    request->waiter.ready = start;
    start(core, &request->waiter);
}
