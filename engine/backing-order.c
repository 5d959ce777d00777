/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which reads and writes of the backing store may be under way together.
 *
 * The store need not be atomic at 4 KiB: a read that overlaps a write of the same block may return
 * some of both (I2), and two writes may end in either order (I22).  So a backing write waits for
 * the backing reads and writes of its blocks, and a read waits for a write around the cache of
 * its blocks.  Reads and writes through the cache need no further rule: a block that is being written
 * from the log is found there.
 */
#include "engine/shard-private.h"

/* ---- reads ------------------------------------------------------------------------------ */

void backing_read_begin(struct shard *shard, struct piece *piece, uint32_t first, uint32_t count)
{
    if (piece->backing_mask == 0) {
        piece->active_next = shard->reading;
        piece->active_link = &shard->reading;
        if (shard->reading)
            shard->reading->active_link = &piece->active_next;
        shard->reading = piece;
    }
    piece->backing_mask |= piece_range(first, count);
}

void backing_read_end(struct shard *shard, struct piece *piece, uint32_t first, uint32_t count)
{
    assert(piece->backing_mask);
    piece->backing_mask &= ~piece_range(first, count);
    shard->unblock |= shard->blocked.count > 0;
    if (piece->backing_mask)
        return;
    *piece->active_link = piece->active_next;
    if (piece->active_next)
        piece->active_next->active_link = piece->active_link;
}

static bool readers_overlap(const struct shard *shard, uint64_t key, uint32_t count)
{
    for (const struct piece *piece = shard->reading; piece; piece = piece->active_next) {
        uint64_t first = piece_key(piece);
        uint64_t from = key > first ? key : first;
        uint64_t to = key + count < first + piece->count ? key + count : first + piece->count;

        if (from < to &&
            piece->backing_mask & piece_range((uint32_t)(from - first), (uint32_t)(to - from)))
            return true;
    }
    return false;
}

/* It goes to the backing store, or waits for nothing but others there. */
static bool goes_around(const struct shard *shard, const struct piece *active)
{
    const struct shard_volume *volume = shard_volume(shard, active->volume);

    return active->state == WRITE_AROUND_WAIT || active->state == WRITE_AROUND ||
           (active->state == WRITE_APPEND && shard->flash_failed && volume && volume->pass);
}

bool backing_read_waits(const struct shard *shard, const struct piece *piece)
{
    for (const struct piece *active = shard->merging; active; active = active->active_next)
        if (goes_around(shard, active) && piece_overlaps(active, piece_key(piece), piece->count))
            return true;
    return false;
}

/* ---- writes ----------------------------------------------------------------------------- */

bool backing_writers_overlap(const struct shard *shard, uint64_t key, uint32_t count)
{
    for (const struct run *run = shard->destage.active; run; run = run->next)
        if (keys_overlap(run->key, run->count, key, count))
            return true;
    for (uint32_t i = 0; i < shard->writing_count; i++)
        if (piece_overlaps(shard->writing[i], key, count))
            return true;
    return false;
}

bool backing_busy(const struct shard *shard, uint64_t key, uint32_t count)
{
    return (backing_writers_overlap(shard, key, count) && !MUTANT(22)) ||
           (readers_overlap(shard, key, count) && !MUTANT(102));
}

bool backing_write_fits(const struct shard *shard, const struct piece *piece)
{
    return shard->writing_count < WRITING_MAX &&
           !backing_busy(shard, piece_key(piece), piece->count);
}

bool backing_write_begin(struct shard *shard, struct piece *piece)
{
    if (!backing_write_fits(shard, piece))
        return false;
    shard->writing[shard->writing_count++] = piece;
    return true;
}

void backing_write_end(struct shard *shard, struct piece *piece)
{
    uint32_t i = 0;

    while (shard->writing[i] != piece)
        i++;
    shard->writing[i] = shard->writing[--shard->writing_count];
    shard->unblock = true;
}
