/* SPDX-License-Identifier: Apache-2.0 */
/* Where the bytes of a request are: the buffer of a write, the vectors of a read, giving all back.
 */
#include <assert.h>

#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"

static const unsigned char zeros[REGION_BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));

void *request_buffer(struct request *request)
{
    struct request_core *own = request->core->request;
    uint32_t before = request->offset % BLOCK_BYTES;
    uint32_t bytes;

    assert(request->length > 0 && request->length <= REQUEST_BYTES_MAX && request->buffer == NULL);
    bytes = (uint32_t)(before + request->length + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    if (bytes != request->length)
        bytes += REQUEST_SCRATCH_BYTES;
    if (request->given != NULL) {
        assert(bytes <= request->given->bytes);
        request->buffer = request->given;
        request->span = request->buffer->data;
        return request->span + before;
    }
    /* A write alone may always go on, however large it is. */
    if (own->write_bytes != 0 && own->write_bytes + bytes > own->write_bytes_max)
        return NULL;
    request->buffer = core_buffer_take(request->core, bytes);
    if (request->buffer == NULL)
        return NULL;
    own->write_bytes += bytes;
    request->counted_bytes = bytes;
    request->span = request->buffer->data;
    return request->span + before;
}

/* The vectors of one read: joined where memory goes on. */
struct payload {
    struct iovec *vectors;
    unsigned count, max;
};

static void append(struct payload *payload, const unsigned char *data, size_t bytes)
{
    struct iovec *last = payload->count > 0 ? &payload->vectors[payload->count - 1] : NULL;

    if (last != NULL && (unsigned char *)last->iov_base + last->iov_len == data) {
        last->iov_len += bytes;
        return;
    }
    assert(payload->count < payload->max);
    /* Sending does not write to it. */
    payload->vectors[payload->count++] = (struct iovec){(void *)(uintptr_t)data, bytes};
}

/* Bytes [from, to) of a piece that has blocks elsewhere than in the buffer. */
static void append_mixed(struct payload *payload, const struct request_piece *own, uint64_t from,
                         uint64_t to)
{
    const struct piece *piece = &own->piece;

    while (from < to) {
        uint32_t i = (uint32_t)(from / BLOCK_BYTES), inside = from % BLOCK_BYTES;
        uint64_t bit = UINT64_C(1) << i;
        size_t bytes = BLOCK_BYTES - inside;

        if (bytes > to - from)
            bytes = to - from;
        if (piece->zero_mask & bit)
            append(payload, zeros + from, bytes);
        else if (piece->ram_mask & bit)
            append(payload, shard_frame(own->runner->shard, piece->frame[i]) + inside, bytes);
        else
            append(payload, piece->data + from, bytes);
        from += bytes;
    }
}

unsigned request_payload(struct request *request, struct iovec *vectors, unsigned max)
{
    struct payload payload = {.vectors = vectors, .max = max};
    uint64_t end = request->offset + request->length;

    for (const struct request_piece *own = request->pieces; own != NULL; own = own->next) {
        const struct piece *piece = &own->piece;
        uint64_t start = piece->block << BLOCK_SHIFT, from = 0;
        uint64_t to = (uint64_t)piece->count * BLOCK_BYTES;

        if (request->offset > start)
            from = request->offset - start;
        if (end < start + to)
            to = end - start;
        if ((piece->zero_mask | piece->ram_mask) == 0)
            append(&payload, piece->data + from, to - from);
        else
            append_mixed(&payload, own, from, to);
    }
    return payload.count;
}

/* Appends a run, or makes the last one longer.  False: there is no room. */
static bool add_run(struct request_run *runs, unsigned *count, unsigned max, uint64_t bytes,
                    bool is_zeros)
{
    if (*count > 0 && runs[*count - 1].zeros == is_zeros) {
        runs[*count - 1].bytes += bytes;
        return true;
    }
    if (*count == max)
        return false;
    runs[(*count)++] = (struct request_run){bytes, is_zeros};
    return true;
}

unsigned request_runs(const struct request *request, struct request_run *runs, unsigned max)
{
    uint64_t end = request->offset + request->length, known = 0;
    unsigned count = 0;

    for (const struct request_piece *own = request->pieces; own != NULL; own = own->next)
        known |= own->piece.zero_mask;
    if (known == 0)
        return 0;
    for (const struct request_piece *own = request->pieces; own != NULL; own = own->next) {
        const struct piece *piece = &own->piece;

        for (uint32_t i = 0; i < piece->count; i++) {
            uint64_t from = (piece->block + i) << BLOCK_SHIFT, to = from + BLOCK_BYTES;
            bool whole = from >= request->offset && to <= end;

            from = from < request->offset ? request->offset : from;
            to = to > end ? end : to;
            if (!add_run(runs, &count, max, to - from, whole && (piece->zero_mask >> i & 1)))
                return 0;
        }
    }
    return count > 1 || (count == 1 && runs[0].zeros) ? count : 0;
}

static void give_pieces(struct request *request)
{
    struct request_core *core = request->core->request;

    while (request->pieces != NULL) {
        struct request_piece *own = request->pieces;

        request->pieces = own->next;
        for (uint64_t left = own->piece.ram_mask; left != 0; left &= left - 1)
            shard_frame_unpin(own->runner->shard, own->piece.frame[__builtin_ctzll(left)]);
        if (own != &request->first) {
            own->next = core->free;
            core->free = own;
        }
    }
}

void request_release(struct request *request)
{
    give_pieces(request);
    if (request->buffer == NULL)
        return;
    request->core->request->write_bytes -= request->counted_bytes;
    request->counted_bytes = 0;
    if (request->buffer != request->given)
        core_buffer_give(request->core, request->buffer);
    request->buffer = NULL;
}
