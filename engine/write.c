/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes, zeros and invalidations.
 *
 *   through the log:    [merge] -> append -> batch on flash -> reply
 *                                                  (write-through) -> backing write -> reply
 *   around the cache:   [merge] -> record "absent" on flash, if cached -> backing write -> reply
 *   invalidate:         record "absent" -> reply
 *
 * A piece that merges or goes around is *active*: later writes of its blocks wait in `blocked`.
 */
#include "engine/pin.h"
#include "engine/shard-private.h"

#define STALL_TIMEOUT_NS  UINT64_C(30000000000)
#define STALL_TIMES       4u   /* after so many times the timeout nobody waits for the hand */
#define PACE_LOW_PERMILLE 500u /* of the high watermark: writers are slowed from here on */
#define PACE_MAX_NS       UINT64_C(1000000000)

/* ---- active pieces ---------------------------------------------------------------------- */

void active_add(struct shard *shard, struct piece *piece)
{
    piece->active = 1;
    piece->active_next = shard->merging;
    shard->merging = piece;
}

static void active_remove(struct shard *shard, struct piece *piece)
{
    struct piece **link = &shard->merging;

    if (!piece->active)
        return;
    while (*link != piece)
        link = &(*link)->active_next;
    *link = piece->active_next;
    piece->active = 0;
    shard->unblock = true;
}

/* ---- the end of a piece ----------------------------------------------------------------- */

/* What waiting for destaging can make less of. */
static uint64_t blocks_owed(const struct shard_volume *volume)
{
    return volume_destageable(volume) - volume->unreadable;
}

/* How long to hold back a reply: rises smoothly from nothing at the low watermark to twice what
 * destaging these blocks costs at the high one. */
static uint64_t pace_ns(const struct shard *shard, const struct shard_volume *volume,
                        const struct piece *piece)
{
    uint64_t high = dirty_high(shard, volume);
    uint64_t used = blocks_owed(volume) * 1000 / (high ? high : 1);
    uint64_t segments = (uint64_t)shard->dirty_segments * 1000 / shard->config.segments;
    uint64_t delay;

    if (segments > used)
        used = segments;
    if (epoch_late_permille(shard, volume) > used)
        used = epoch_late_permille(shard, volume);
    if (used <= PACE_LOW_PERMILLE || volume_failing(volume))
        return 0;
    used = used > 1000 ? 1000 : used;
    delay = 2 * shard->destage.block_ns * piece->count * (used - PACE_LOW_PERMILLE) /
            (1000 - PACE_LOW_PERMILLE);
    return delay < PACE_MAX_NS ? delay : PACE_MAX_NS;
}

/* Write-through looks at piece->slots[] until its end: their segments must not be reused.  Nor does
 * destaging write them: a block that it had brought to the store would count as clean while the
 * piece writes it once more, and that write is at stake in a power cut. */
static void through_hold(struct shard *shard, struct piece *piece)
{
    piece->held = 1;
    shard->held_pieces++;
    for (uint32_t i = 0; i < piece->count; i++) {
        shard->slots[piece->slots[i]].bits |= SLOT_THROUGH;
        atomic_fetch_add_explicit(&slot_segment(shard, piece->slots[i])->users, 1,
                                  memory_order_relaxed);
    }
}

static void through_release(struct shard *shard, struct piece *piece)
{
    if (!piece->held)
        return;
    piece->held = 0;
    shard->held_pieces--;
    for (uint32_t i = 0; i < piece->count; i++) {
        struct slot *slot = &shard->slots[piece->slots[i]];

        slot->bits &= (uint16_t)~SLOT_THROUGH;
        if ((slot->bits & (SLOT_DIRTY | SLOT_WRITTEN)) == SLOT_DIRTY)
            tick_want(shard, shard->now_ns); /* now it is destaging's */
        shard_flash_read_end(shard, piece->slots[i]);
    }
}

/* By due time. */
static void pace(struct shard *shard, struct piece *piece)
{
    struct piece **link = &shard->paced.first;

    while (*link && (*link)->since_ns <= piece->since_ns)
        link = &(*link)->next;
    piece_list_insert(&shard->paced, link, piece);
    tick_want(shard, piece->since_ns);
}

void write_finish(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    uint64_t delay = 0;

    active_remove(shard, piece);
    through_release(shard, piece);
    if (!piece->error && volume && volume->policy.mode == MODE_WRITE_BACK && !shard->stopping &&
        !shard->flash_failed)
        delay = pace_ns(shard, volume, piece);
    if (delay == 0) {
        action_reply(out, piece, piece->error);
        return;
    }
    piece->since_ns = shard->now_ns + delay;
    pace(shard, piece);
}

void write_fail(struct shard *shard, struct piece *piece, int error, struct actions *out)
{
    active_remove(shard, piece);
    action_reply(out, piece, error);
}

/* ---- waiting for room ------------------------------------------------------------------------ */

/* Behind the others, unless it was in the log already: those wait in the order of the log, before
 * those that were not.  A later write of the same block may be answered first; what was merged
 * into the block before it must not go over it. */
static void stalled_insert(struct shard *shard, struct piece *piece)
{
    struct piece **link = &shard->stalled.first;

    if (piece->rerouted_lsn == 0) {
        piece_list_push(&shard->stalled, piece);
        return;
    }
    while (*link && (*link)->rerouted_lsn != 0 && (*link)->rerouted_lsn < piece->rerouted_lsn)
        link = &(*link)->next;
    piece_list_insert(&shard->stalled, link, piece);
}

void write_stall(struct shard *shard, struct piece *piece)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (volume) {
        volume->stalled++;
        volume->counters.stalled_pieces++;
    }
    if (!piece->active && !MUTANT(306))
        active_add(shard, piece); /* a merge that started now would miss what this piece brings */
    piece->since_ns = shard->now_ns;
    stalled_insert(shard, piece);
    tick_want(shard, shard->now_ns);
}

/* ---- through the log -------------------------------------------------------------------- */

uint64_t dirty_high(const struct shard *shard, const struct shard_volume *volume)
{
    uint32_t percent = volume->policy.dirty_max_percent ? volume->policy.dirty_max_percent : 70;
    uint64_t high;

    percent = percent < volume->dirty_limit_percent ? percent : volume->dirty_limit_percent;
    high = shard_capacity(shard) * percent / 100;
    return shard->pinned == 0 || high < pin_leaves(shard) ? high : pin_leaves(shard);
}

static bool volume_full(const struct shard *shard, const struct piece *piece)
{
    const struct shard_volume *volume = shard_volume(shard, piece->volume);

    return piece->state != WRITE_ABSENT_APPEND && volume &&
           (blocks_owed(volume) >= dirty_high(shard, volume) ||
            epoch_full(shard, volume, piece->epoch));
}

static bool room_for(const struct shard *shard, const struct piece *piece)
{
    return log_room(shard, piece->state == WRITE_ABSENT_APPEND ? 1 : piece->count, false);
}

static void append_now(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    bool zero = piece->op == PIECE_ZERO, through = volume->policy.mode == MODE_WRITE_THROUGH;

    piece->state = WRITE_LOGGED;
    for (uint32_t i = 0; i < piece->count; i++)
        piece->slots[i] =
            log_append(shard,
                       &(struct append){.key = piece_key(piece) + i,
                                        .epoch = piece->epoch,
                                        .kind = zero ? ENTRY_ZERO : ENTRY_DIRTY,
                                        .flags = zero && piece->flags & PIECE_HOLE ? ENTRY_HOLE : 0,
                                        .crc = zero ? 0 : piece->crc[i],
                                        .count = 1,
                                        .data = zero ? NULL : piece->data + (size_t)i * BLOCK_BYTES,
                                        .piece = piece,
                                        .frame = NONE,
                                        .fua = through || piece->flags & PIECE_FUA},
                       out);
    volume->counters.flash_write_blocks += zero ? 0 : piece->count;
    if (through)
        through_hold(shard, piece);
    active_remove(shard, piece);
}

static void append(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    piece->state = WRITE_APPEND;
    if (!volume) {
        write_fail(shard, piece, -EIO, out);
        return;
    }
    if (shard->flash_failed) {
        loss_write(shard, piece, out);
        return;
    }
    if (!shard->room_short && volume->stalled == 0 && !volume_full(shard, piece) &&
        room_for(shard, piece))
        append_now(shard, piece, out);
    else
        write_stall(shard, piece);
}

/* Every block of the piece is in the log. */
void write_logged(struct shard *shard, struct piece *piece, struct actions *out)
{
    const struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (piece->error || !volume) {
        write_finish(shard, piece, out);
    } else if (piece->rerouted) {
        piece->rerouted = 0;
        through_release(shard, piece);
        loss_write(shard, piece, out);
    } else if (piece->state == WRITE_ABSENT) {
        write_around(shard, piece, out);
    } else if (piece->held) {
        write_through_start(shard, piece, out);
    } else {
        write_finish(shard, piece, out);
    }
}

void write_merged(struct shard *shard, struct piece *piece, struct actions *out)
{
    if (piece->error)
        write_fail(shard, piece, piece->error, out);
    else if (piece->around)
        write_around_start(shard, piece, out);
    else
        append(shard, piece, out);
}

/* ---- arrival ---------------------------------------------------------------------------- */

enum {
    RANGE_PENDING = 1,
    RANGE_DIRTY = 2
};

static unsigned range_state(const struct shard *shard, const struct piece *piece)
{
    unsigned state = 0;

    for (uint32_t i = 0; i < piece->count; i++) {
        uint32_t id = index_flash(shard, piece_key(piece) + i);

        if (id != NONE && shard->slots[id].bits & SLOT_DIRTY)
            state |= RANGE_DIRTY;
        if (index_pending(shard, piece_key(piece) + i))
            state |= RANGE_PENDING;
    }
    return state;
}

static bool edge_pending(const struct shard *shard, const struct piece *piece)
{
    return (piece->head_bytes && index_pending(shard, piece_key(piece))) ||
           (piece->tail_bytes && index_pending(shard, piece_key(piece) + piece->count - 1));
}

static void invalidate_start(struct shard *shard, struct piece *piece, struct actions *out)
{
    unsigned state = range_state(shard, piece);

    if (state & RANGE_PENDING || backing_writers_overlap(shard, piece_key(piece), piece->count)) {
        log_hurry(shard);
        piece_list_push(&shard->blocked, piece);
    } else if (state & RANGE_DIRTY && !(piece->flags & PIECE_DISCARD)) {
        action_reply(out, piece, -EBUSY);
    } else {
        active_add(shard, piece);
        write_around_start(shard, piece, out);
    }
}

static bool goes_around(const struct shard *shard, const struct shard_volume *volume,
                        const struct piece *piece)
{
    if (volume->policy.mode != MODE_WRITE_AROUND && volume->policy.mode != MODE_PASS_THROUGH &&
        !(piece->flags & PIECE_AROUND && epoch_around(volume, piece)))
        return false;
    return range_state(shard, piece) == 0 || MUTANT(223); /* I23: a dirty block stays in the log */
}

static void write_start(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    bool edges = piece->op == PIECE_WRITE && (piece->head_bytes || piece->tail_bytes);

    if (active_overlap(shard, piece_key(piece), piece->count)) {
        piece_list_push(&shard->blocked, piece);
        return;
    }
    if (piece->op == PIECE_INVALIDATE) {
        invalidate_start(shard, piece, out);
        return;
    }
    piece->around = goes_around(shard, volume, piece);
    if (edges && edge_pending(shard, piece) && !MUTANT(6)) {
        log_hurry(shard);
        piece_list_push(&shard->blocked, piece);
        return;
    }
    if (edges || piece->around)
        active_add(shard, piece);
    if (edges)
        write_merge_start(shard, piece, out);
    else if (piece->around)
        write_around_start(shard, piece, out);
    else
        append(shard, piece, out);
}

/* A new piece, or one resumed from `blocked`: it holds nothing then and starts afresh. */
void write_request(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    bool resumed = piece->state == WRITE_NEW && piece->resumed;

    piece->state = WRITE_NEW;
    piece->resumed = 0;
    piece->active = piece->held = piece->rerouted = 0;
    piece->ram_mask = piece->fill_mask = piece->zero_mask = 0;
    piece->ios = 0;
    piece->batches = 0;
    piece->rerouted_lsn = piece->rerouted_mask = 0;
    piece->error = 0;
    if (!volume || shard->stopping) {
        action_reply(out, piece, volume ? -ESHUTDOWN : -ENXIO);
        return;
    }
    if (!resumed && piece->op == PIECE_WRITE) {
        volume->counters.write_pieces++;
        volume->counters.write_blocks += piece->count;
        mrc_note(volume, piece);
    } else if (!resumed && piece->op == PIECE_ZERO) {
        volume->counters.zero_blocks += piece->count;
    }
    write_start(shard, piece, out);
}

/* ---- waiting ---------------------------------------------------------------------------- */

static void unstall(struct shard *shard, struct piece **link)
{
    struct piece *piece = piece_list_cut(&shard->stalled, link);
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (volume)
        volume->stalled--;
}

/* Once volumes go on without the flash.  What waits for others at the backing store lets nobody else
 * go ahead over its blocks: it may be the merge of a part with what the other replaced. */
static bool may_pass(const struct shard *shard, const struct piece *piece)
{
    const struct shard_volume *volume = shard_volume(shard, piece->volume);

    if (!volume)
        return true;
    for (const struct piece *earlier = shard->stalled.first; earlier != piece;
         earlier = earlier->next)
        if (piece_overlaps(earlier, piece_key(piece), piece->count))
            return false;
    return volume->pass && backing_write_fits(shard, piece);
}

/* First come, first served; but a volume at its limit does not hold up the others. */
static void stalled_retry(struct shard *shard, struct actions *out)
{
    struct piece **link = &shard->stalled.first, *piece;

    shard->room_short = false;
    while ((piece = *link) && !actions_full(out)) {
        if (shard->flash_failed) {
            if (!may_pass(shard, piece)) {
                link = &piece->next;
                continue;
            }
            unstall(shard, link);
            loss_write(shard, piece, out);
            continue;
        }
        if (volume_full(shard, piece)) {
            link = &piece->next;
            continue;
        }
        if (!room_for(shard, piece)) {
            shard->room_short = true;
            return;
        }
        unstall(shard, link);
        if (piece->state == WRITE_ABSENT_APPEND)
            write_absent_append(shard, piece, out);
        else
            append_now(shard, piece, out);
    }
}

void write_progress(struct shard *shard, struct actions *out)
{
    uint32_t count = shard->blocked.count;

    stalled_retry(shard, out);
    if (!shard->unblock)
        return;
    shard->unblock = false;
    while (count-- > 0) {
        struct piece *piece;

        if (actions_full(out)) {
            shard->unblock = true;
            out->again = true;
            return;
        }
        piece = piece_list_pop(&shard->blocked);
        if (piece->state == WRITE_THROUGH_WAIT) {
            write_through_start(shard, piece, out);
        } else if (piece->state == WRITE_AROUND_WAIT) {
            write_around(shard, piece, out);
        } else {
            piece->resumed = 1;
            action_add(out, ACTION_RESUME)->owner = piece;
        }
    }
}

static void paced_release(struct shard *shard, struct actions *out)
{
    struct piece *piece;

    while ((piece = shard->paced.first) && !actions_full(out)) {
        if (piece->since_ns > shard->now_ns && !shard->stopping) {
            tick_want(shard, piece->since_ns);
            return;
        }
        piece_list_pop(&shard->paced);
        action_reply(out, piece, piece->error);
    }
}

/* When a write that waits for space is to be given up.  The time counts from when the store failed:
 * until then reclaim waits for destaging, and clean blocks keep their room.  After it the hand may
 * need some rounds until hot clean blocks make room. */
static uint64_t stall_due(const struct shard *shard, const struct shard_volume *volume,
                          const struct piece *piece)
{
    uint64_t since = piece->since_ns, timeout = STALL_TIMEOUT_NS;

    if (!volume)
        return since;
    if (volume->policy.stall_timeout_ns)
        timeout = volume->policy.stall_timeout_ns;
    if (shard->flash_failed)
        return since + timeout;
    if (volume->failing_since_ns > since)
        since = volume->failing_since_ns;
    if (!volume_full(shard, piece) && shard->reclaim.fruitless_rounds < FRUITLESS_ROUNDS)
        timeout *= STALL_TIMES;
    return since + timeout;
}

/* A write that waited too long for space, because the backing store takes nothing, gets ENOSPC. */
static void stalled_expire(struct shard *shard, struct actions *out)
{
    struct piece **link = &shard->stalled.first, *piece;

    while ((piece = *link) && !actions_full(out)) {
        const struct shard_volume *volume = shard_volume(shard, piece->volume);
        bool failing = !volume || volume_failing(volume) || shard->flash_failed;
        uint64_t due = failing ? stall_due(shard, volume, piece) : UINT64_MAX;
        int error = shard->flash_failed ? -EIO : -ENOSPC;

        if (shard->stopping || shard->now_ns >= due) {
            unstall(shard, link);
            write_fail(shard, piece, shard->stopping ? -ESHUTDOWN : error, out);
            continue;
        }
        tick_want(shard, due);
        link = &piece->next;
    }
}

void write_tick(struct shard *shard, struct actions *out)
{
    paced_release(shard, out);
    stalled_retry(shard, out);
    stalled_expire(shard, out);
    if (actions_full(out))
        tick_want(shard, shard->now_ns); /* the rest */
}
