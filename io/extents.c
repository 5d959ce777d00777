/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathering extents: the cache region by region, some of them in a turn; then the backing store;
 * then both together.
 */
#include "io/extents.h"

#include "io/cache-private.h"

#define REGIONS_PER_TURN 16u
#define SCAN_BYTES_MAX   (UINT64_C(1) << 30) /* of one query */

/* In the list `cached`: this is what the block is, the backing store need not be asked. */
#define CACHED_KNOWN 0x80u

/* ---- both together ------------------------------------------------------------------------ */

static uint32_t merged_flags(uint32_t cached, uint32_t stored)
{
    return cached & CACHED_KNOWN ? cached & ~CACHED_KNOWN : cached | stored;
}

/* As far as both lists reach, where `stored` is needed. */
static void merge(struct extents *extents)
{
    struct extent *stored = extents->stored.extents;
    struct extent *stored_end = stored + extents->stored.count;

    for (unsigned i = 0; i < extents->cached.count; i++) {
        uint32_t flags = extents->cached.extents[i].flags;
        uint64_t left = extents->cached.extents[i].bytes;

        while (left > 0) {
            uint64_t here = left;

            if (stored < stored_end && stored->bytes < here)
                here = stored->bytes;
            else if (stored == stored_end && !(flags & CACHED_KNOWN))
                return;
            if (!extent_list_add(&extents->allocation, here,
                                 merged_flags(flags, stored < stored_end ? stored->flags : 0)))
                return;
            left -= here;
            if (stored < stored_end && (stored->bytes -= here) == 0)
                stored++;
        }
    }
}

static void finish(struct extents *extents)
{
    if (extents->wants_allocation)
        merge(extents);
    extents->done(extents);
}

/* ---- the backing store -------------------------------------------------------------------- */

static void stored_came(struct core *core, struct backing_io *io, int result)
{
    struct extents *extents = container_of(io, struct extents, io);

    (void)core;
    /* Whatever is wrong shows when it is read. */
    if (result != 0 || extents->stored.count == 0) {
        extents->stored.count = 0;
        extents->stored.bytes = 0;
        extent_list_add(&extents->stored, extents->cached.bytes, 0);
    }
    finish(extents);
}

static bool is_all_known(const struct extent_list *cached)
{
    for (unsigned i = 0; i < cached->count; i++) {
        if (!(cached->extents[i].flags & CACHED_KNOWN))
            return false;
    }
    return true;
}

static void ask_backing(struct extents *extents)
{
    struct backing_io *io = &extents->io;

    if (!extents->wants_allocation || is_all_known(&extents->cached)) {
        finish(extents);
        return;
    }
    io->op = BACKING_EXTENTS;
    io->flags = 0;
    io->offset = extents->offset;
    io->length = extents->cached.bytes;
    io->data = NULL;
    io->extents = &extents->stored;
    io->done = stored_came;
    backing_submit(extents->core, extents->volume->backing, io);
}

/* ---- the cache ---------------------------------------------------------------------------- */

/* A dirty block is what the cache says.  Of a clean one the cache only knows if it is zeros. */
static uint32_t cached_flags(uint8_t state)
{
    if (state & SHARD_BLOCK_DIRTY)
        return CACHED_KNOWN | (state & SHARD_BLOCK_ZERO ? EXTENT_ZERO : 0) |
               (state & SHARD_BLOCK_HOLE ? EXTENT_HOLE : 0);
    return state & SHARD_BLOCK_ZERO ? EXTENT_ZERO : 0;
}

/* Adds `count` blocks.  False: a list is full. */
static bool add_blocks(struct extents *extents, const uint8_t *state, uint64_t block,
                       uint32_t count)
{
    uint64_t end = extents->offset + extents->length;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t from = (block + i) << BLOCK_SHIFT, to = from + BLOCK_BYTES;

        from = from < extents->offset ? extents->offset : from;
        to = to > end ? end : to;
        if (!extent_list_add(&extents->cached, to - from, cached_flags(state[i])))
            return false;
        if (extents->wants_state && !extent_list_add(&extents->state, to - from, state[i] & 7))
            return !extents->one; /* the other one may go on */
    }
    return true;
}

static bool scan_region(struct extents *extents)
{
    struct volume *volume = extents->volume;
    struct cache *cache = core_cache(extents->core);
    uint64_t block = extents->next_block, region_end = (block | (REGION_BLOCKS - 1)) + 1;
    uint64_t end = region_end < extents->end_block ? region_end : extents->end_block;
    uint32_t count = (uint32_t)(end - block);
    struct shard_runner *runner = &cache->runners[shard_of(volume->id, block, cache->shard_count)];
    uint8_t state[REGION_BLOCKS];

    pthread_mutex_lock(&runner->lock);
    shard_block_state(runner->shard, volume->id, block, count, state);
    pthread_mutex_unlock(&runner->lock);
    extents->next_block = end;
    return add_blocks(extents, state, block, count);
}

static void scan(struct core *core, struct core_message *message)
{
    struct extents *extents = container_of(message, struct extents, message);

    for (unsigned i = 0; i < REGIONS_PER_TURN; i++) {
        if (extents->next_block == extents->end_block || !scan_region(extents)) {
            ask_backing(extents);
            return;
        }
    }
    core_message_send(core, &extents->message); /* others first */
}

static void list_init_extents(struct extents *extents, struct extent_list *list, unsigned index,
                              bool one)
{
    *list = (struct extent_list){.extents = extents->lists[index], .max = one ? 1 : EXTENTS_MAX};
}

void extents_start(struct extents *extents)
{
    struct volume *volume = extents->volume;
    uint64_t end;

    list_init_extents(extents, &extents->allocation, 0, extents->one);
    list_init_extents(extents, &extents->state, 1, extents->one);
    list_init_extents(extents, &extents->cached, 2, false);
    list_init_extents(extents, &extents->stored, 3, false);
    extents->message.handle = scan;
    if (!extents->wants_state && cache_dirty_blocks(core_cache(extents->core), volume->id) == 0) {
        /* The backing store knows it all. */
        extent_list_add(&extents->cached, extents->length, 0);
        extents->next_block = extents->end_block = 0;
    } else {
        if (extents->length > SCAN_BYTES_MAX)
            extents->length = SCAN_BYTES_MAX;
        end = extents->offset + extents->length;
        extents->next_block = extents->offset >> BLOCK_SHIFT;
        extents->end_block = (end + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
    }
    core_message_send(extents->core, &extents->message);
}
