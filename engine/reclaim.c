/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand: makes segments ready for new data, one at a time, oldest first (I13).
 *
 *   never used:  header A -> header B -> READY
 *   reclaimed:   [footer -> read hot blocks -> append them again] -> flush -> header A with a new
 *                generation -> header B -> drop the rest from the index -> wait for readers
 *                -> READY.  Or, when a write to it failed, retired.
 *   kept:        flush -> live map into header A, then B -> a new place in the ring, before the
 *                open segment (hazard 1)
 *
 * A header write is durable when it is done, and A is done before B begins: what was valid stays
 * valid until what follows it is.  Nothing is dropped from the index before the new generation is
 * durable (hazard 2), and the flush before the headers makes durable what superseded the victim's
 * dead records (hazard 3).
 */
#include "common/crc32c.h"
#include "engine/shard-private.h"

#define IDLE_RETRY_NS UINT64_C(100000000)
#define READY_BYTES   (32u << 20)
#define WRITERS_NS    UINT64_C(60000000000) /* so long after a client wrote, it may write again */
#define DOUBLINGS_MAX 7u
#define DROP_SLOTS    512u /* per step */

uint32_t ready_target(const struct shard *shard)
{
    /* After a crash each of them is scanned for batches.  They hold nothing: few will do while nobody
     * writes and something would have to go for them. */
    uint32_t target = READY_BYTES / shard->config.segment_bytes;
    bool writers = shard->last_write_ns != 0 && shard->now_ns - shard->last_write_ns < WRITERS_NS;
    uint32_t most = shard->config.segments / (writers || shard->free_count > 0 ? 16 : 64);

    target = target < most ? target : most;
    return target < READY_MIN ? READY_MIN : target;
}

bool reclaim_idle(const struct shard *shard)
{
    return shard->reclaim.state == RECLAIM_IDLE;
}

void reclaim_retry(struct shard *shard, uint64_t delay_ns)
{
    shard->reclaim.retry_ns = shard->now_ns + delay_ns;
    tick_want(shard, shard->reclaim.retry_ns);
}

static void drain_start(struct shard *shard);

/* ---- headers ---------------------------------------------------------------------------- */

void header_write(struct shard *shard, struct header_buffer *buffer, uint32_t segment,
                  unsigned copy, struct actions *out)
{
    struct action *action = action_add(out, ACTION_WRITE_FLASH);

    buffer->write.iov_count = 1;
    buffer->write.headroom = false;
    buffer->write.iov[0] = (struct iovec){.iov_base = buffer->header, .iov_len = BLOCK_BYTES};
    buffer->write.seal_bytes = BLOCK_BYTES;
    buffer->write.seal_crc = &buffer->header->crc;
    action->flags = ACTION_REPORT | (shard->config.flash_volatile ? ACTION_FUA : 0);
    action->first = TAG_RECLAIM;
    action->offset = segment_offset(shard, segment) + copy * (uint64_t)BLOCK_BYTES;
    action->length = BLOCK_BYTES;
    action->owner = &buffer->write;
    metadata_count(shard, action->length);
}

void header_fill(const struct shard *shard, struct segment_header *header, uint32_t index,
                 uint64_t generation, uint64_t ring_sequence, uint64_t map_sequence)
{
    memset(header, 0, sizeof(*header));
    header->magic = SEGMENT_MAGIC;
    memcpy(header->uuid, shard->config.uuid, sizeof(header->uuid));
    header->generation = generation;
    header->ring_sequence = ring_sequence;
    header->map_sequence = map_sequence;
    header->session = shard->config.session;
    header->segment = shard->config.segment_first + index;
    header->shard = shard->config.shard;
}

static void live_map_fill(const struct shard *shard, struct segment_header *header, uint32_t index)
{
    uint32_t base = index << shard->segment_shift;

    header->map_valid = MAP_VALID | (shard->segments[index].verdict ? MAP_VERDICT : 0);
    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        bool live = shard->slots[base + i].bits & SLOT_LINKED && !epoch_outdated(shard, base + i);

        if (live || MUTANT(101))
            header->map[i / 8] |= (uint8_t)(1u << i % 8);
    }
}

static void give_up(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct segment *segment = &shard->segments[reclaim->victim];
    struct action *action;

    if (reclaim->keep) { /* it stays where it is; its old headers still hold */
        segment->state = SEGMENT_CLOSED;
        reclaim->state = RECLAIM_IDLE;
        segment->failed = true;
        reclaim_retry(shard, IDLE_RETRY_NS);
        return;
    }
    reclaim->state = RECLAIM_RETIRE;
    action = action_add(out, ACTION_RETIRE);
    action->flags = ACTION_REPORT;
    action->first = TAG_RECLAIM;
    action->offset = shard->config.segment_first + reclaim->victim;
}

/* What superseded the victim's dead records is durable. */
static void flushed(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    if (MUTANT(2) && !reclaim->keep) { /* hazard 2: dropped before the bump is durable */
        drain_start(shard);
        return;
    }
    if (!reclaim->keep && shard->segments[reclaim->victim].failed) {
        give_up(shard,
                out); /* only now: the superblock says that its records are dead (hazard 3) */
        return;
    }
    reclaim->state = RECLAIM_HEADER_A;
    header_write(shard, &reclaim->header, reclaim->victim, 0, out);
}

/* The victim's content is no longer needed (or its live map is fixed): write the headers. */
void reclaim_headers_start(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct segment *segment = &shard->segments[reclaim->victim];
    struct segment_header *header = reclaim->header.header;
    struct action *action;

    if (shard->flash_failed) {
        segment->state = reclaim->never_used ? SEGMENT_FREE : SEGMENT_CLOSED;
        reclaim->state = RECLAIM_IDLE;
        return;
    }
    if (!reclaim->keep && segment->dirty > 0 &&
        !MUTANT(207)) { /* not everything dirty could be copied (I7) */
        segment->state = SEGMENT_CLOSED;
        reclaim->state = RECLAIM_IDLE;
        reclaim->left = reclaim->victim;
        reclaim_retry(shard, IDLE_RETRY_NS);
        return;
    }
    reclaim->left = NONE;
    if (reclaim->keep) {
        reclaim->generation = segment->generation;
        header_fill(shard, header, reclaim->victim, segment->generation, reclaim->ring_sequence,
                    segment->map_sequence + 1);
        live_map_fill(shard, header, reclaim->victim);
    } else {
        reclaim->generation = shard->generation_next++;
        header_fill(shard, header, reclaim->victim, reclaim->generation, 0, 0);
    }
    if (reclaim->never_used && segment->failed) {
        give_up(shard, out);
    } else if (!reclaim->never_used && shard->config.flash_volatile && !MUTANT(103)) {
        reclaim->state = RECLAIM_FLUSH;
        action = action_add(out, ACTION_FLUSH_FLASH);
        action->flags = ACTION_REPORT;
        action->first = TAG_RECLAIM;
    } else {
        flushed(shard, out);
    }
}

/* ---- the end ---------------------------------------------------------------------------- */

static void place_in_ring(struct shard *shard, uint32_t index)
{
    uint64_t ring = shard->segments[index].ring_sequence;
    uint32_t before = NONE, at = shard->ring_newest;

    while (at != NONE && shard->segments[at].ring_sequence > ring) {
        before = at;
        at = shard->segments[at].ring_prev;
    }
    ring_insert_before(shard, index, before);
}

static void kept(struct shard *shard)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct segment *segment = &shard->segments[reclaim->victim];

    segment->map_sequence++;
    ring_remove(shard, reclaim->victim);
    segment->ring_sequence = reclaim->ring_sequence;
    place_in_ring(shard, reclaim->victim);
    segment->state = SEGMENT_CLOSED;
    reclaim->passed++;
    reclaim->state = RECLAIM_IDLE;
    tick_want(shard, shard->now_ns);
    shard->counters.segments_kept++;
}

static void drained(struct shard *shard, bool retired)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct segment *segment = &shard->segments[reclaim->victim];

    if (reclaim->never_used)
        shard->free_count--;
    else
        ring_remove(shard, reclaim->victim);
    if (!reclaim->never_used) {
        shard->counters.segments_reclaimed += !retired;
        shard->counters.segments_retired += retired;
    }
    assert(segment->live == 0 && segment->dirty == 0);
    segment->ring_sequence = 0;
    segment->map_sequence = 0;
    if (segment->untrusted)
        shard->untrusted_count--;
    segment->untrusted = segment->verdict = false;
    if (retired) {
        segment->state = SEGMENT_RETIRED;
        shard->retired_count++;
        shard->flash_failed |= wear_is_out(shard);
    } else {
        segment->generation = reclaim->generation;
        segment->state = SEGMENT_READY;
        shard->ready_count++;
        reclaim->fruitless_rounds = 0;
    }
    reclaim->passed = 0;
    reclaim->state = RECLAIM_IDLE;
    shard->unblock = true;
    tick_want(shard, shard->now_ns);
}

/* The new generation is durable: what is left may go; then wait for readers. */
static void drain(struct shard *shard)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct segment *segment = &shard->segments[reclaim->victim];
    uint32_t base = reclaim->victim << shard->segment_shift, end = reclaim->cursor + DROP_SLOTS;

    for (; reclaim->cursor < shard->segment_slots && reclaim->cursor < end; reclaim->cursor++)
        if (shard->slots[base + reclaim->cursor].bits & SLOT_LINKED)
            index_drop(shard, base + reclaim->cursor);
    if (reclaim->cursor < shard->segment_slots ||
        (atomic_load_explicit(&segment->users, memory_order_acquire) > 0 && !MUTANT(107))) {
        reclaim_retry(shard, reclaim->cursor < shard->segment_slots ? 0 : RETRY_NS);
        return;
    }
    drained(shard, segment->failed);
}

static void drain_start(struct shard *shard)
{
    shard->reclaim.state = RECLAIM_DRAIN;
    shard->reclaim.cursor = 0;
    drain(shard);
}

/* ---- choosing --------------------------------------------------------------------------- */

struct census {
    uint32_t hot, dirty;
    uint32_t stuck;    /* dirty and not to be destaged now */
    uint32_t copyable; /* of these, those that could be appended again */
};

static struct census segment_census(struct shard *shard, uint32_t index)
{
    struct census census = {0};
    uint32_t base = index << shard->segment_shift;
    uint16_t stuck = SLOT_BAD | SLOT_UNREADABLE;

    /* The piece may wait for its part in a failed batch, and that for room. */
    if (shard->batch_failed)
        stuck |= SLOT_THROUGH;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        const struct slot *slot = &shard->slots[base + i];
        const struct shard_volume *volume;

        if (!(slot->bits & SLOT_LINKED))
            continue;
        if (reclaim_slot_hot(slot))
            census.hot++;
        if (!(slot->bits & SLOT_DIRTY))
            continue;
        census.dirty++;
        volume = shard_volume(shard, key_volume(slot_key(slot)));
        if (slot->bits & stuck || !volume || volume_failing(volume))
            census.stuck++, census.copyable += reclaim_slot_copyable(shard, base + i);
    }
    return census;
}

static void lower_counters(struct shard *shard, uint32_t index)
{
    uint32_t base = index << shard->segment_shift;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++)
        if (shard->slots[base + i].bits & SLOT_USE)
            shard->slots[base + i].bits--;
}

static void reclaim_start(struct shard *shard, uint32_t index, bool copy, bool compact,
                          struct actions *out);

static bool closing_in_flight(const struct shard *shard)
{
    for (uint32_t i = 0; i < shard->batch_count; i++)
        if (shard->batches[i].state == BATCH_WRITING &&
            shard->segments[shard->batches[i].segment].state == SEGMENT_CLOSING)
            return true;
    return false;
}

/* Nobody waits for room, so that there is time to look for a better victim. */
static bool may_pass(const struct shard *shard)
{
    return shard->ready_count >= READY_MIN / 2 + RESERVE_SEGMENTS && shard->stalled.count == 0 &&
           !shard->batch_failed && shard->closing_count == 0;
}

/* A segment on its way to being closed forbids to pass any: there is time to wait for it. */
static bool waits_for_closing(const struct shard *shard)
{
    uint32_t target = ready_target(shard);

    return shard->closing_count > 0 && shard->stalled.count == 0 && !shard->batch_failed &&
           shard->ready_count + 1 + target / 4 >= target;
}

/* Each round lowers the use counters: after so many they hold nothing any more. */
#define COOLING_ROUNDS (FRUITLESS_ROUNDS + USE_MAX)

/* Once round without finding anything: wait for a change, the longer the more often it was so, because
 * each round writes the headers of every segment. */
static void round_ended(struct shard *shard)
{
    struct reclaim *reclaim = &shard->reclaim;
    uint32_t doublings =
        reclaim->fruitless_rounds < COOLING_ROUNDS ? 0 : reclaim->fruitless_rounds - COOLING_ROUNDS;

    reclaim->passed = 0;
    reclaim->fruitless_rounds++;
    if (reclaim->fruitless_rounds >= FRUITLESS_ROUNDS && wear_sticks(shard)) {
        shard->flash_failed = shard->unblock = true;
        return;
    }
    reclaim_retry(shard, IDLE_RETRY_NS << (doublings < DOUBLINGS_MAX ? doublings : DOUBLINGS_MAX));
}

/* `hot`: as there is nothing that could go instead of it, it has to be less hot the next time. */
static void keep_start(struct shard *shard, uint32_t index, bool hot, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    /* Records still on their way to a closing segment could be newer than what is kept. */
    if (shard->closing_count > 0 || shard->batch_failed) {
        /* A failed batch that finds no room waits for this: what is clean is given up.  Its own
         * records will stand behind what is kept, wherever they are appended again. */
        bool awaited = shard->batch_failed && shard->ready_count == 0;

        if (awaited && shard->segments[index].dirty == 0) {
            reclaim_start(shard, index, false, false, out);
            return;
        }
        if (!awaited || closing_in_flight(shard)) {
            reclaim_retry(shard, RETRY_NS);
            return;
        }
    }
    if (reclaim->passed >= shard->config.segments) {
        round_ended(shard);
        return;
    }
    if (shard->open_segment == NONE) {
        reclaim->ring_sequence = shard->ring_next += RING_SPACING;
    } else {
        if (reclaim->kept_since_open + 2 >= RING_SPACING) {
            reclaim_retry(shard, IDLE_RETRY_NS);
            return;
        }
        reclaim->ring_sequence = shard->segments[shard->open_segment].ring_sequence -
                                 (MUTANT(113) ? 0 : RING_SPACING) + ++reclaim->kept_since_open;
    }
    if (hot)
        lower_counters(shard, index);
    reclaim->keep = true;
    shard->segments[index].state = SEGMENT_VICTIM;
    reclaim_headers_start(shard, out);
}

static void reclaim_start(struct shard *shard, uint32_t index, bool copy, bool compact,
                          struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    struct action *action;

    shard->segments[index].state = SEGMENT_VICTIM;
    reclaim->keep = false;
    reclaim->cursor = SEGMENT_HEADER_SLOTS;
    reclaim->footer_cursor = 0;
    reclaim->read_count = 0;
    reclaim->compact = compact;
    if (!copy || shard->flash_failed) {
        reclaim_headers_start(shard, out);
        return;
    }
    reclaim->state = RECLAIM_FOOTER;
    action = action_add(out, ACTION_READ_FLASH);
    action->flags = ACTION_REPORT | ACTION_BACKGROUND;
    action->first = TAG_RECLAIM;
    action->slot = index << shard->segment_shift;
    action->length = shard->footer_slots * BLOCK_BYTES;
    action->offset = segment_offset(shard, index) + (uint64_t)shard->usable_end * BLOCK_BYTES;
    action->data = (unsigned char *)reclaim->footer;
    atomic_fetch_add_explicit(&shard->segments[index].users, 1, memory_order_relaxed);
}

static bool free_start(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    if (shard->free_count == 0)
        return false;
    for (uint32_t i = 0; i < shard->config.segments; i++) {
        if (shard->segments[i].state != SEGMENT_FREE)
            continue;
        reclaim->victim = i;
        reclaim->never_used = true;
        reclaim->keep = false;
        shard->segments[i].state = SEGMENT_VICTIM;
        reclaim_headers_start(shard, out);
        return true;
    }
    return false;
}

static void choose(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;
    uint32_t index = shard->ring_oldest;
    struct census census;
    uint32_t most = keep_most(shard), owed, hot;

    if (shard->ready_count >= ready_target(shard) || shard->stopping || shard->flash_failed ||
        shard->held)
        return;
    if (shard->now_ns < reclaim->retry_ns) {
        tick_want(shard, reclaim->retry_ns);
        return;
    }
    if (free_start(shard, out))
        return;
    if (waits_for_closing(shard)) {
        tick_want(shard, shard->now_ns + RETRY_NS);
        return;
    }
    if (index == NONE || shard->segments[index].state != SEGMENT_CLOSED) {
        reclaim_retry(shard, IDLE_RETRY_NS);
        return;
    }
    reclaim->victim = index;
    reclaim->never_used = false;
    census = segment_census(shard, index);
    if (census.dirty > 0 && census.stuck == census.dirty) {
        /* A dead backing store must not pin every segment with a block or two. */
        if (census.hot + census.dirty > most || census.copyable < census.dirty ||
            reclaim->left == index)
            keep_start(shard, index, true, out);
        else
            reclaim_start(shard, index, true, true, out);
    } else if (census.dirty > 0 &&
               !MUTANT(207)) { /* destaging takes the oldest segments first: let it */
        shard->destage.flush_due_ns = shard->now_ns;
        reclaim_retry(shard, RETRY_NS);
    } else if ((owed = heat_owed(shard, index)) > most ||
               (may_pass(shard) && heat_cheaper_ahead(shard, index))) {
        keep_start(shard, index, false, out);
    } else if ((hot = heat_cull(shard, index, most, owed)) == NONE) {
        keep_start(shard, index, true, out);
    } else {
        reclaim_start(shard, index, hot > 0, false, out);
    }
}

/* ---- steps ------------------------------------------------------------------------------ */

static void read_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    shard_flash_read_end(shard, event->action->slot);
    if (reclaim->state == RECLAIM_FOOTER) {
        reclaim->cursor = SEGMENT_HEADER_SLOTS;
        if (event->result < 0 || !reclaim_footer_valid(shard, reclaim->victim))
            reclaim_headers_start(shard, out); /* hot blocks are given up: they are clean */
        else
            reclaim_copy_next(shard, out);
        return;
    }
    reclaim->bad_mask = event->result < 0 ? UINT64_MAX : event->bad_mask;
    reclaim_copy_append(shard, out);
}

static void write_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    if (event->result < 0) {
        action_notice(out, NOTICE_SEGMENT_FAILED, 0, segment_offset(shard, reclaim->victim));
        shard->segments[reclaim->victim].failed = true;
        give_up(shard, out);
        return;
    }
    if (reclaim->state == RECLAIM_HEADER_A) {
        reclaim->state = RECLAIM_HEADER_B;
        header_write(shard, &reclaim->header, reclaim->victim, 1, out);
    } else if (reclaim->keep) {
        kept(shard);
    } else {
        drain_start(shard);
    }
}

static void retire_done(struct shard *shard, const struct event *event)
{
    struct segment *segment = &shard->segments[shard->reclaim.victim];

    if (event->result >= 0) {
        segment->failed = true;
        drain_start(shard);
        return;
    }
    /* Not even the superblocks can be written: its records are still acceptable, so nothing of it
     * may be dropped. */
    shard->flash_failed = true;
    segment->state = shard->reclaim.never_used ? SEGMENT_FREE : SEGMENT_CLOSED;
    shard->reclaim.state = RECLAIM_IDLE;
}

void reclaim_io_done(struct shard *shard, const struct event *event, struct actions *out)
{
    switch (event->action->kind) {
    case ACTION_READ_FLASH: read_done(shard, event, out); break;
    case ACTION_WRITE_FLASH: write_done(shard, event, out); break;
    case ACTION_FLUSH_FLASH:
        if (event->result < 0)
            give_up(shard, out);
        else
            flushed(shard, out);
        break;
    case ACTION_RETIRE: retire_done(shard, event); break;
    default: break;
    }
}

void reclaim_tick(struct shard *shard, struct actions *out)
{
    struct reclaim *reclaim = &shard->reclaim;

    if (reclaim->state == RECLAIM_IDLE) {
        choose(shard, out);
    } else if (reclaim->state == RECLAIM_APPEND) {
        reclaim_copy_append(shard, out);
    } else if (reclaim->state == RECLAIM_DRAIN) {
        drain(shard);
    }
}
