/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of a device: requests from the kernel to the engine, and answers back. */
#include "frontends/ublk/ublk-queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "frontends/ublk/ublk-params.h"
#include "io/volume.h"

enum tag_state {
    TAG_CLOSED,
    TAG_FETCHING,
    TAG_SERVING,
    TAG_LEFT,
    TAG_ENDED
};

struct ublk_tag {
    struct core_op op;
    struct ublk_queue *queue;
    uint16_t index;
    uint8_t state;  /* enum tag_state */
    uint32_t bytes; /* of payload */
    struct buffer memory;
    struct request request;
};

static void count(struct ublk_queue *queue, enum ublk_counter counter, uint64_t n)
{
    _Atomic uint64_t *place = &queue->counters[counter];

    /* One writer: no read-modify-write on the bus is needed. */
    atomic_store_explicit(place, atomic_load_explicit(place, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- to the kernel -------------------------------------------------------------------------- */

/* All of a turn are submitted at its end, together.  Not with a registered file: up to Linux 6.12 no
 * file that is registered later, of an NBD client, say, is closed while a request with an older one is
 * under way, and these are for as long as the device is idle. */
static void command(struct ublk_tag *tag, enum ublk_io_number number, int32_t result)
{
    struct ublk_queue *queue = tag->queue;
    struct io_uring_sqe *sqe = core_sqe(queue->core);
    struct ublk_io_command own = {
        .queue = queue->index,
        .tag = tag->index,
        .result = result,
        .address = (uint64_t)(uintptr_t)tag->memory.data,
    };

    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, queue->fd, NULL, 0, 0);
    sqe->cmd_op = ublk_io_opcode(number, queue->encoded);
    memcpy(sqe->cmd, &own, sizeof(own));
    core_sqe_to(sqe, &tag->op);
    tag->state = TAG_FETCHING;
    queue->fetching++;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void check_end(struct ublk_queue *queue)
{
    if (!queue->opened)
        return;
    if (queue->ended == queue->depth) {
        queue->opened = false;
        core_memory_forget(queue->core, queue->memory);
        queue->told(queue, UBLK_QUEUE_ENDED);
    } else if (queue->leaving && queue->serving == 0) {
        queue->opened = false;
        queue->told(queue, UBLK_QUEUE_LEFT);
    }
}

static void end_tag(struct ublk_tag *tag, int error)
{
    struct ublk_queue *queue = tag->queue;

    if (error != UBLK_IO_ABORT) {
        log_error("the kernel refused a ublk command", LOG_STR("volume", queue->volume->name),
                  LOG_ERRNO(error));
        if (queue->error == 0)
            queue->error = error;
    }
    tag->state = TAG_ENDED;
    queue->ended++;
    check_end(queue);
}

/* ---- answers -------------------------------------------------------------------------------- */

/* Brings the payload of a read to where the kernel takes it from.  Backwards never happens: what is
 * in the tag's memory already is at its place, or, when the request does not begin with a block, a
 * little behind it. */
static void gather(struct ublk_tag *tag)
{
    struct iovec vectors[REQUEST_VECTORS_MAX(UBLK_IO_BYTES_MAX)];
    unsigned char *to = tag->memory.data;
    unsigned vector_count =
        request_payload(&tag->request, vectors, sizeof(vectors) / sizeof(vectors[0]));

    for (unsigned i = 0; i < vector_count; i++) {
        if (to != vectors[i].iov_base)
            memmove(to, vectors[i].iov_base, vectors[i].iov_len);
        to += vectors[i].iov_len;
    }
}

static void answer(struct ublk_tag *tag, int32_t result)
{
    struct ublk_queue *queue = tag->queue;

    assert(tag->state == TAG_SERVING);
    queue->serving--;
    if (result < 0)
        count(queue, UBLK_COUNTER_requests_failed, 1);
    command(tag, UBLK_IO_COMMIT_AND_FETCH, result);
    check_end(queue);
}

static void done(struct request *request)
{
    struct ublk_tag *tag = container_of(request, struct ublk_tag, request);
    int error = request->error;

    if (error == 0 && request->op == REQUEST_READ)
        gather(tag);
    request_release(request);
    answer(tag, error ? error : (int32_t)tag->bytes);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* The payload lies at the start of the memory, and belongs where its block begins. */
static void place_payload(struct ublk_tag *tag)
{
    unsigned char *place = request_buffer(&tag->request);

    if (place != tag->memory.data)
        memmove(place, tag->memory.data, tag->bytes);
}

/* What a device without FLUSH and FUA promises, whatever the volume's mode has become, and for large
 * zeroing always. */
static bool must_be_durable(const struct ublk_queue *queue, const struct request *request)
{
    return !queue->has_flush &&
           (request->op == REQUEST_ZERO ||
            (request->op == REQUEST_WRITE && volume_is_volatile(queue->volume)));
}

static void take(struct ublk_tag *tag)
{
    static const struct {
        bool known;
        uint8_t op;
        enum ublk_counter counter;
    } ops[] = {
        [UBLK_OP_READ] = {true, REQUEST_READ, UBLK_COUNTER_requests_read},
        [UBLK_OP_WRITE] = {true, REQUEST_WRITE, UBLK_COUNTER_requests_write},
        [UBLK_OP_FLUSH] = {true, REQUEST_FLUSH, UBLK_COUNTER_requests_flush},
        [UBLK_OP_DISCARD] = {true, REQUEST_TRIM, UBLK_COUNTER_requests_trim},
        [UBLK_OP_WRITE_ZEROES] = {true, REQUEST_ZERO, UBLK_COUNTER_requests_zero},
    };
    struct ublk_queue *queue = tag->queue;
    const struct ublk_io_description *wanted = &queue->descriptions[tag->index];
    struct request *request = &tag->request;
    uint32_t op_flags = wanted->op_flags, op = UBLK_OP(op_flags);

    tag->state = TAG_SERVING;
    tag->bytes = 0;
    queue->serving++;
    if (op >= sizeof(ops) / sizeof(ops[0]) || !ops[op].known) {
        answer(tag, -EOPNOTSUPP);
        return;
    }
    count(queue, ops[op].counter, 1);
    request->op = ops[op].op;
    request->flags = (uint8_t)((op_flags & UBLK_OP_FUA ? REQUEST_FUA : 0) |
                               (op_flags & UBLK_OP_NO_UNMAP ? REQUEST_NO_HOLE : 0));
    request->offset = wanted->start_sector << UBLK_SECTOR_SHIFT;
    request->length = (uint64_t)wanted->sectors << UBLK_SECTOR_SHIFT;
    if (op == UBLK_OP_READ || op == UBLK_OP_WRITE) {
        if (request->length == 0 || request->length > queue->io_bytes) {
            answer(tag, -EINVAL);
            return;
        }
        tag->bytes = (uint32_t)request->length;
        count(queue, op == UBLK_OP_READ ? UBLK_COUNTER_bytes_read : UBLK_COUNTER_bytes_written,
              tag->bytes);
    }
    if (must_be_durable(queue, request))
        request->flags |= REQUEST_FUA;
    if (op == UBLK_OP_WRITE)
        place_payload(tag);
    request_submit(request);
}

static void fetched(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct ublk_tag *tag = container_of(op, struct ublk_tag, op);
    struct ublk_queue *queue = tag->queue;

    (void)core, (void)cqe_flags;
    assert(tag->state == TAG_FETCHING);
    queue->fetching--;
    if (result != UBLK_IO_OK)
        end_tag(tag, result);
    else if (queue->leaving)
        tag->state = TAG_LEFT;
    else
        take(tag);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void set_up_tag(struct ublk_queue *queue, uint16_t index)
{
    struct ublk_tag *tag = &queue->tags[index];

    tag->op.done = fetched;
    tag->queue = queue;
    tag->index = index;
    tag->memory.data = queue->memory + index * queue->stride_bytes + BLOCK_BYTES;
    tag->memory.bytes = (uint32_t)(queue->stride_bytes - BLOCK_BYTES);
    tag->memory.registered = -1;
    tag->memory.core = (uint16_t)core_index(queue->core);
    tag->request.volume = queue->volume;
    tag->request.core = queue->core;
    tag->request.done = done;
    tag->request.given = &tag->memory;
}

int ublk_queue_create(struct ublk_queue *queue, uint32_t io_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *map;

    queue->io_bytes = io_bytes;
    queue->descriptions_bytes = queue->depth * sizeof(struct ublk_io_description);
    queue->descriptions_bytes = (queue->descriptions_bytes + page - 1) / page * page;
    map = mmap(NULL, queue->descriptions_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, queue->fd,
               (off_t)(queue->index * UBLK_DESCRIPTIONS_BYTES_MAX));
    if (map == MAP_FAILED)
        return -errno;
    queue->descriptions = map;
    queue->stride_bytes = BLOCK_BYTES + REQUEST_GIVEN_BYTES(io_bytes);
    queue->memory_bytes = queue->depth * queue->stride_bytes;
    map =
        mmap(NULL, queue->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    queue->memory = map;
    queue->tags = calloc(queue->depth, sizeof(*queue->tags));
    if (queue->tags == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < queue->depth; i++)
        set_up_tag(queue, (uint16_t)i);
    return 0;
}

void ublk_queue_destroy(struct ublk_queue *queue)
{
    if (queue->descriptions != NULL)
        munmap((void *)(uintptr_t)queue->descriptions, queue->descriptions_bytes);
    if (queue->memory != NULL)
        munmap(queue->memory, queue->memory_bytes);
    free(queue->tags);
    queue->descriptions = NULL;
    queue->memory = NULL;
    queue->tags = NULL;
}

/* In the turn after FETCH was submitted: what the kernel refused was reaped by now. */
static void opened(struct core *core, struct core_message *message)
{
    struct ublk_queue *queue = container_of(message, struct ublk_queue, message);

    (void)core;
    queue->opened = true;
    queue->told(queue, UBLK_QUEUE_OPENED);
    check_end(queue);
}

static void open_here(struct core *core, struct core_message *message)
{
    struct ublk_queue *queue = container_of(message, struct ublk_queue, message);

    core_memory_register(core, queue->memory, queue->memory_bytes);
    for (unsigned i = 0; i < queue->depth; i++)
        command(&queue->tags[i], UBLK_IO_FETCH, 0);
    message->handle = opened;
    core_message_send(core, message);
}

void ublk_queue_open(struct ublk_queue *queue)
{
    queue->message.handle = open_here;
    core_message_send(queue->core, &queue->message);
}

static void leave_here(struct core *core, struct core_message *message)
{
    struct ublk_queue *queue = container_of(message, struct ublk_queue, message);

    (void)core;
    queue->leaving = true;
    check_end(queue);
}

void ublk_queue_leave(struct ublk_queue *queue)
{
    queue->message.handle = leave_here;
    core_message_send(queue->core, &queue->message);
}
