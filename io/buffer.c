/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O buffers of one core.
 *
 * One mapping, registered in the core's ring as buffer 0, is cut into chunks; a chunk holds
 * buffers of one size class and changes its class when it is empty and another class needs it.
 *
 *      | chunk 0: 4 KiB class      | chunk 1: 64 KiB class     | chunk 2: free | ...
 *      | h data | h data | h data | ...      h: headroom of one block before each buffer's data
 *
 * What is larger than the largest class, or finds no chunk, is mapped on its own, unregistered,
 * within a second bound of the same size or of two of the largest buffers, whichever is more.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/format.h"
#include "io/core-private.h"

#define CLASSES            5u
#define CLASS_MAPPED       CLASSES
#define CHUNK_BYTES        (4u * ((1u << 20) + BLOCK_BYTES)) /* four of the largest class */
#define CHUNK_BUFFERS_MAX  (CHUNK_BYTES / (2 * BLOCK_BYTES))
#define POOL_BYTES_DEFAULT (64u << 20)
#define HUGE_PAGE_BYTES    (2u << 20)

static const uint32_t class_bytes[CLASSES] = {4u << 10, 16u << 10, 64u << 10, 256u << 10, 1u << 20};

struct chunk {
    struct list link;     /* in `partial` of its class: it has a free buffer */
    struct buffer *free;  /* the last one given back first: its memory is in the cache */
    uint16_t used, total; /* total 0: the chunk has no class */
    uint16_t size_class;
    struct buffer buffers[CHUNK_BUFFERS_MAX];
};

struct buffer_pool {
    struct core *core;
    unsigned char *memory;
    size_t memory_bytes;
    struct list partial[CLASSES];
    unsigned chunk_count;
    struct chunk *chunks;

    uint64_t mapped_bytes, mapped_bytes_max; /* outside `memory`, kept ones included */
    struct buffer *kept;                     /* a mapped buffer for the next one who wants it */

    struct list waiters;
    struct core_deferred serve;
    struct core_buffer_waiter *served; /* whose `ready` runs */
};

/* ---- life --------------------------------------------------------------------------------- */

static unsigned char *map_aligned(size_t bytes, size_t alignment)
{
    size_t total = bytes + alignment;
    unsigned char *all =
        mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (all == MAP_FAILED)
        return NULL;
    before = alignment - (size_t)((uintptr_t)all % alignment);
    if (before == alignment)
        before = 0;
    if (before > 0)
        munmap(all, before);
    if (alignment > before)
        munmap(all + before + bytes, alignment - before);
    return all + before;
}

struct buffer_pool *buffer_pool_create(struct core *core, uint64_t bytes)
{
    struct buffer_pool *pool = calloc(1, sizeof(*pool));
    uint64_t two_largest = 2 * (uint64_t)(BUFFER_BYTES_MAX + BLOCK_BYTES);

    if (pool == NULL)
        return NULL;
    if (bytes == 0)
        bytes = POOL_BYTES_DEFAULT;
    if (bytes < 2 * CHUNK_BYTES)
        bytes = 2 * CHUNK_BYTES;
    pool->core = core;
    pool->chunk_count = (unsigned)(bytes / CHUNK_BYTES);
    pool->memory_bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    pool->mapped_bytes_max = bytes > two_largest ? bytes : two_largest;
    for (unsigned i = 0; i < CLASSES; i++)
        list_init(&pool->partial[i]);
    list_init(&pool->waiters);
    pool->chunks = calloc(pool->chunk_count, sizeof(*pool->chunks));
    pool->memory = map_aligned(pool->memory_bytes, HUGE_PAGE_BYTES);
    if (pool->chunks == NULL || pool->memory == NULL) {
        buffer_pool_destroy(pool);
        return NULL;
    }
    for (unsigned i = 0; i < pool->chunk_count; i++)
        list_init(&pool->chunks[i].link);
    madvise(pool->memory, pool->memory_bytes, MADV_HUGEPAGE);
    ring_register_buffers(&core->ring, &core->traits, pool->memory, pool->memory_bytes,
                          1 + MEMORY_REGIONS);
    return pool;
}

static void unmap(struct buffer_pool *pool, struct buffer *buffer)
{
    pool->mapped_bytes -= buffer->bytes + BLOCK_BYTES;
    munmap(buffer->data - BLOCK_BYTES, buffer->bytes + BLOCK_BYTES);
    free(buffer);
}

void buffer_pool_destroy(struct buffer_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->kept != NULL)
        unmap(pool, pool->kept);
    if (pool->memory != NULL)
        munmap(pool->memory, pool->memory_bytes);
    free(pool->chunks);
    free(pool);
}

/* ---- chunks ------------------------------------------------------------------------------- */

static void chunk_format(struct buffer_pool *pool, struct chunk *chunk, unsigned size_class)
{
    uint32_t stride = class_bytes[size_class] + BLOCK_BYTES;
    unsigned char *memory = pool->memory + (size_t)(chunk - pool->chunks) * CHUNK_BYTES;

    chunk->size_class = (uint16_t)size_class;
    chunk->total = (uint16_t)(CHUNK_BYTES / stride);
    chunk->free = NULL;
    for (unsigned i = chunk->total; i-- > 0;) {
        chunk->buffers[i] = (struct buffer){
            .data = memory + (size_t)i * stride + BLOCK_BYTES,
            .bytes = class_bytes[size_class],
            .registered = pool->core->traits.buffers_registered ? 0 : -1,
            .core = (uint16_t)pool->core->index,
            .size_class = (uint16_t)size_class,
            .next = chunk->free,
        };
        chunk->free = &chunk->buffers[i];
    }
    list_move_tail(&pool->partial[size_class], &chunk->link);
}

static struct chunk *chunk_find(struct buffer_pool *pool, unsigned size_class)
{
    struct chunk *empty = NULL;

    if (!list_empty(&pool->partial[size_class]))
        return list_first_entry(&pool->partial[size_class], struct chunk, link);
    for (unsigned i = 0; i < pool->chunk_count; i++) {
        struct chunk *chunk = &pool->chunks[i];

        if (chunk->used == 0 && (empty == NULL || chunk->total == 0))
            empty = chunk; /* one that never had a class saves memory that was not touched */
        if (chunk->total == 0)
            break;
    }
    if (empty != NULL)
        chunk_format(pool, empty, size_class);
    return empty;
}

static struct buffer *chunk_take(struct buffer_pool *pool, unsigned size_class)
{
    struct chunk *chunk = chunk_find(pool, size_class);
    struct buffer *buffer;

    if (chunk == NULL)
        return NULL;
    buffer = chunk->free;
    chunk->free = buffer->next;
    chunk->used++;
    if (chunk->free == NULL)
        list_remove(&chunk->link);
    return buffer;
}

static void chunk_give(struct buffer_pool *pool, struct buffer *buffer)
{
    size_t at = (size_t)(buffer->data - pool->memory);
    struct chunk *chunk = &pool->chunks[at / CHUNK_BYTES];

    assert(chunk->used > 0);
    if (chunk->free == NULL)
        list_add_head(&pool->partial[chunk->size_class], &chunk->link);
    buffer->next = chunk->free;
    chunk->free = buffer;
    chunk->used--;
}

/* ---- buffers of their own ----------------------------------------------------------------- */

static struct buffer *mapped_take(struct buffer_pool *pool, uint32_t bytes)
{
    struct buffer *buffer = pool->kept;
    unsigned char *memory;

    if (buffer != NULL) {
        pool->kept = NULL;
        if (buffer->bytes >= bytes)
            return buffer;
        unmap(pool, buffer);
    }
    bytes = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    if (pool->mapped_bytes + bytes + BLOCK_BYTES > pool->mapped_bytes_max)
        return NULL;
    buffer = malloc(sizeof(*buffer));
    memory =
        mmap(NULL, bytes + BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == NULL || memory == MAP_FAILED) {
        free(buffer);
        if (memory != MAP_FAILED)
            munmap(memory, bytes + BLOCK_BYTES);
        return NULL;
    }
    pool->mapped_bytes += bytes + BLOCK_BYTES;
    *buffer = (struct buffer){
        .data = memory + BLOCK_BYTES,
        .bytes = bytes,
        .registered = -1,
        .core = (uint16_t)pool->core->index,
        .size_class = CLASS_MAPPED,
    };
    return buffer;
}

static void mapped_give(struct buffer_pool *pool, struct buffer *buffer)
{
    struct buffer *old = pool->kept;

    if (old != NULL && old->bytes >= buffer->bytes) {
        unmap(pool, buffer);
        return;
    }
    if (old != NULL)
        unmap(pool, old);
    pool->kept = buffer;
}

/* ---- taking, giving, waiting -------------------------------------------------------------- */

struct buffer *core_buffer_take(struct core *core, uint32_t bytes)
{
    struct buffer_pool *pool = core->buffers;
    struct buffer *buffer = NULL;
    unsigned size_class = 0;

    assert(bytes <= BUFFER_BYTES_MAX);
    if (!list_empty(&pool->waiters) && pool->served == NULL)
        return NULL;
    while (size_class < CLASSES && class_bytes[size_class] < bytes)
        size_class++;
    if (size_class < CLASSES)
        buffer = chunk_take(pool, size_class);
    return buffer != NULL ? buffer : mapped_take(pool, bytes);
}

void core_buffer_give(struct core *core, struct buffer *buffer)
{
    struct buffer_pool *pool = core->buffers;

    assert(buffer->core == core->index);
    if (buffer->size_class == CLASS_MAPPED)
        mapped_give(pool, buffer);
    else
        chunk_give(pool, buffer);
    if (!list_empty(&pool->waiters))
        core_defer(core, &pool->serve);
}

/* One after the other, until one of them finds too little. */
static void serve(struct core *core, struct core_deferred *deferred)
{
    struct buffer_pool *pool = container_of(deferred, struct buffer_pool, serve);
    struct core_buffer_waiter *waiter;

    while ((waiter = list_first_entry(&pool->waiters, struct core_buffer_waiter, link)) != NULL) {
        list_remove(&waiter->link);
        pool->served = waiter;
        waiter->ready(core, waiter);
        pool->served = NULL;
        if (list_first(&pool->waiters) == &waiter->link)
            break;
    }
}

void core_buffer_wait(struct core *core, struct core_buffer_waiter *waiter)
{
    struct buffer_pool *pool = core->buffers;

    pool->serve.run = serve;
    if (waiter == pool->served)
        list_add_head(&pool->waiters, &waiter->link);
    else
        list_add_tail(&pool->waiters, &waiter->link);
}

void core_buffer_wait_cancel(struct core *core, struct core_buffer_waiter *waiter)
{
    (void)core;
    list_remove(&waiter->link);
}

/* ---- registered memory -------------------------------------------------------------------- */

int core_buffer_index(const struct core *core, const void *data, size_t bytes)
{
    const struct buffer_pool *pool = core->buffers;
    uintptr_t at = (uintptr_t)data - (uintptr_t)pool->memory;

    if (at < pool->memory_bytes && bytes <= pool->memory_bytes - at)
        return core->traits.buffers_registered ? 0 : -1;
    for (unsigned i = 0; i < core->region_count; i++) {
        at = (uintptr_t)data - core->regions[i].start;
        if (at < core->regions[i].bytes && bytes <= core->regions[i].bytes - at)
            return (int)i + 1;
    }
    return -1;
}

bool core_memory_register(struct core *core, void *memory, size_t bytes)
{
    unsigned i = 0;

    while (i < core->region_count && core->regions[i].bytes != 0)
        i++;
    if (i == MEMORY_REGIONS || !ring_set_buffer(&core->ring, &core->traits, i + 1, memory, bytes))
        return false;
    core->regions[i].start = (uintptr_t)memory;
    core->regions[i].bytes = bytes;
    if (i == core->region_count)
        core->region_count++;
    return true;
}

void core_memory_forget(struct core *core, const void *memory)
{
    for (unsigned i = 0; i < core->region_count; i++) {
        if (core->regions[i].start != (uintptr_t)memory || core->regions[i].bytes == 0)
            continue;
        ring_set_buffer(&core->ring, &core->traits, i + 1, NULL, 0);
        core->regions[i].bytes = 0;
    }
}
