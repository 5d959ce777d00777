/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of clients that go to the backing store themselves: after the log (write-through), or
 * instead of it (around the cache).
 */
#include "engine/shard-private.h"

/* ---- write-through: after the log ----------------------------------------------------------- */

static void backing_write(struct piece *piece, uint32_t first, uint32_t count, struct actions *out)
{
    bool zero = piece->op == PIECE_ZERO;
    struct action *action = action_add(out, zero ? ACTION_ZERO_BACKING : ACTION_WRITE_BACKING);

    action->flags = ACTION_REPORT | ACTION_PIECE | (piece->flags & PIECE_FUA ? ACTION_FUA : 0) |
                    (zero && piece->flags & PIECE_HOLE ? ACTION_MAY_UNMAP : 0);
    action->volume = piece->volume;
    action->first = (uint16_t)first;
    action->count = (uint16_t)count;
    action->length = count * BLOCK_BYTES;
    action->offset = (piece->block + first) * BLOCK_BYTES;
    action->data = zero ? NULL : piece->data + (size_t)first * BLOCK_BYTES;
    action->owner = piece;
    piece->ios++;
}

typedef bool block_test(const struct shard *shard, const struct piece *piece, uint32_t i);

/* Writes the blocks of the piece that pass the test, each run of them at once. */
static void backing_write_where(const struct shard *shard, struct piece *piece, block_test *test,
                                struct actions *out)
{
    uint32_t first = 0;

    for (uint32_t i = 0; i <= piece->count; i++) {
        if (i < piece->count && test(shard, piece, i))
            continue;
        if (i > first)
            backing_write(piece, first, i - first, out);
        first = i + 1;
    }
}

/* A block that was written again meanwhile is the newer write's to bring to the store. */
static bool through_current(const struct shard *shard, const struct piece *piece, uint32_t i)
{
    const struct slot *slot = &shard->slots[piece->slots[i]];

    return (slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_PENDING)) == (SLOT_LINKED | SLOT_DIRTY) &&
           slot_key(slot) == piece_key(piece) + i;
}

void write_through_start(struct shard *shard, struct piece *piece, struct actions *out)
{
    const struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (!backing_write_begin(shard, piece)) {
        piece->state = WRITE_THROUGH_WAIT;
        piece_list_push(&shard->blocked, piece);
        return;
    }
    piece->state = WRITE_THROUGH;
    piece->flush_failures = volume ? volume->flush_failures : 0;
    backing_write_where(shard, piece, through_current, out);
    if (piece->ios > 0)
        return;
    backing_write_end(shard, piece);
    write_finish(shard, piece, out);
}

static void through_done(struct shard *shard, struct piece *piece, const struct event *event,
                         struct actions *out)
{
    const struct action *action = event->action;

    for (uint32_t i = action->first; i < (uint32_t)action->first + action->count; i++)
        if ((event->result >= 0 || MUTANT(117)) && through_current(shard, piece, i))
            destage_written(shard, piece->slots[i], piece->flush_failures);
    if (piece->ios > 0)
        return;
    backing_write_end(shard, piece);
    write_finish(shard, piece, out);
}

/* ---- around the cache ----------------------------------------------------------------------- */

/* What destaging was writing of the discarded blocks has arrived, and changes nothing any more; but
 * nobody flushes it. */
static void invalidated(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (volume && piece->flags & PIECE_DISCARD) {
        volume->around_writes++;
        tick_want(shard, shard->now_ns);
    }
    for (uint32_t i = 0; i < piece->count; i++)
        ram_drop(shard, piece_key(piece) + i);
    backing_write_end(shard, piece);
    write_finish(shard, piece, out);
}

/* The piece was in the log when the flash failed, and a later write of this block got there: that is not
 * to be undone, the less as what this piece merged with is older. */
bool write_passed(const struct shard *shard, const struct piece *piece, uint32_t i)
{
    return piece->rerouted_mask != 0 && !(piece->rerouted_mask >> i & 1) &&
           !(shard->slots[piece->slots[i]].bits & SLOT_LINKED);
}

static bool around_own(const struct shard *shard, const struct piece *piece, uint32_t i)
{
    return !write_passed(shard, piece, i);
}

void write_around(struct shard *shard, struct piece *piece, struct actions *out)
{
    if (!backing_write_begin(shard, piece)) {
        piece->state = WRITE_AROUND_WAIT;
        piece_list_push(&shard->blocked, piece);
        return;
    }
    if (piece->op == PIECE_INVALIDATE) {
        invalidated(shard, piece, out);
        return;
    }
    piece->state = WRITE_AROUND;
    for (uint32_t i = 0; i < piece->count; i++)
        ram_drop(shard, piece_key(piece) + i);
    backing_write_where(shard, piece, around_own, out);
}

static void around_done(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (volume && !(piece->flags & PIECE_FUA))
        volume->around_writes++;
    tick_want(shard, shard->now_ns); /* for a flush: fills wait for it */
    if (volume)
        volume->counters.around_blocks += piece->count;
    for (uint32_t i = 0; i < piece->count; i++)
        ram_drop(shard, piece_key(piece) + i);
    backing_write_end(shard, piece);
    write_finish(shard, piece, out);
}

/* Whether flash may hold an acceptable record of its blocks (I14). */
static bool piece_cached(const struct shard *shard, const struct piece *piece)
{
    if (shard->untrusted_count > 0)
        return true; /* a clean block of a failed batch may have landed all the same */
    for (uint32_t i = 0; i < piece->count; i++)
        if (index_flash(shard, piece_key(piece) + i) != NONE)
            return true;
    return false;
}

void write_absent_append(struct shard *shard, struct piece *piece, struct actions *out)
{
    piece->state = WRITE_ABSENT;
    log_append(shard,
               &(struct append){.key = piece_key(piece),
                                .epoch = piece->epoch,
                                .kind = ENTRY_ABSENT,
                                .count = piece->count,
                                .piece = piece,
                                .frame = NONE,
                                .fua = true},
               out);
}

/* Hazard 7: the fact that the cached copies are dead is durable before the store changes. */
void write_around_start(struct shard *shard, struct piece *piece, struct actions *out)
{
    for (uint32_t i = 0; i < piece->count; i++)
        ram_drop(shard, piece_key(piece) + i);
    if (shard->flash_failed) {
        loss_write(shard, piece, out);
        return;
    }
    if (!piece_cached(shard, piece) || MUTANT(7)) {
        write_around(shard, piece, out);
        return;
    }
    piece->state = WRITE_ABSENT_APPEND;
    if (log_room(shard, 1, false)) {
        write_absent_append(shard, piece, out);
    } else {
        write_stall(shard, piece);
    }
}

void write_backing_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct piece *piece = event->action->owner;

    piece->ios--;
    if (event->result < 0)
        piece->error = event->result; /* hazard 17: the record, if there is one, stays dirty */
    if (piece->state == WRITE_THROUGH)
        through_done(shard, piece, event, out);
    else if (piece->ios == 0)
        around_done(shard, piece, out);
}
