/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destaging: dirty blocks to the backing store, oldest segments first, sorted by backing offset.
 *
 *   gather a window -> flash flush (I3) -> runs: flash reads -> backing write
 *     -> written queue -> backing flush -> clean (I4) -> watermark: destage-flush.c
 *
 * A run is a stretch of neighbouring blocks in one region.  While it is active no other backing
 * write of its blocks is started (I22).  Slots in a run or in the written queue hold their segment.
 */
#include "engine/shard-private.h"

#define AGE_NS            UINT64_C(5000000000) /* dirty blocks older than this are destaged when idle */
#define UNREADABLE_MOST   4u                   /* tried again in one window */
#define UNREADABLE_MAX_NS UINT64_C(5000000000)
#define SCAN_SLOTS        8192u /* looked at for one window */

void destage_init(struct shard *shard)
{
    struct destage *destage = &shard->destage;

    destage->block_ns = 100000;
    destage->gather_next = NONE;
    for (uint32_t i = DESTAGE_RUNS; i-- > 0;) {
        destage->runs[i].next = destage->free;
        destage->free = &destage->runs[i];
    }
}

bool destage_idle(const struct shard *shard)
{
    return shard->destage.active_count == 0 && !shard->destage.flush_backing_busy &&
           !shard->destage.watermark_flushing && shard->destage.state != DESTAGE_FLUSHING;
}

/* ---- the window ------------------------------------------------------------------------- */

static bool slot_destageable(struct shard *shard, const struct slot *slot)
{
    const struct shard_volume *volume;

    if ((slot->bits & (SLOT_LINKED | SLOT_DIRTY | SLOT_PENDING | SLOT_WRITTEN | SLOT_DESTAGING |
                       SLOT_BAD | SLOT_THROUGH)) != (SLOT_LINKED | SLOT_DIRTY))
        return false;
    volume = shard_volume(shard, key_volume(slot_key(slot)));
    return volume && shard->now_ns >= volume->backoff_until_ns &&
           epoch_may_destage(shard, volume, (uint32_t)(slot - shard->slots));
}

/* What the flash did not return has its own turn: unreadable_gather(). */
static bool slot_eligible(struct shard *shard, const struct slot *slot)
{
    return !(slot->bits & SLOT_UNREADABLE) && slot_destageable(shard, slot);
}

/* Not to wait until its segment is old: its epoch has ended. */
static bool slot_urgent(const struct shard *shard, uint32_t id)
{
    const struct shard_volume *volume =
        shard_volume(shard, key_volume(slot_key(&shard->slots[id])));

    return volume && epoch_urgent(shard, volume, id);
}

static void window_sift(struct window_item *items, uint32_t root, uint32_t count)
{
    struct window_item item = items[root];

    for (;;) {
        uint32_t child = 2 * root + 1;

        if (child >= count)
            break;
        if (child + 1 < count && items[child].key < items[child + 1].key)
            child++;
        if (items[child].key <= item.key)
            break;
        items[root] = items[child];
        root = child;
    }
    items[root] = item;
}

/* Heapsort: no recursion, no allocation. */
void window_sort(struct window_item *items, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;)
        window_sift(items, i, count);
    for (uint32_t i = count; i-- > 1;) {
        struct window_item largest = items[0];

        items[0] = items[i];
        items[i] = largest;
        window_sift(items, 0, i);
    }
}

static bool pressure(const struct shard *shard)
{
    uint64_t capacity = (uint64_t)shard->config.segments * shard->usable_end;

    return shard->dirty_segments * 4 > shard->config.segments ||
           shard->dirty_blocks * 5 > capacity || shard->stalled.count > 0 ||
           (shard->free_count == 0 && shard->ready_count < ready_target(shard));
}

static bool destage_all_wanted(const struct shard *shard)
{
    for (uint32_t i = 0; i < shard->volume_count; i++)
        if (shard->volumes[i].destage_all)
            return true;
    return false;
}

static void segment_gather(struct shard *shard, uint32_t index, bool young, uint32_t *looked)
{
    struct destage *destage = &shard->destage;
    const struct segment *segment = &shard->segments[index];
    uint32_t base = index << shard->segment_shift, found = 0;

    for (uint32_t i = SEGMENT_HEADER_SLOTS; i < shard->usable_end; i++) {
        const struct slot *slot = &shard->slots[base + i];

        if (destage->window_count == DESTAGE_WINDOW || found == segment->dirty)
            return;
        (*looked)++;
        if (slot->bits & SLOT_DIRTY)
            found++;
        if (!slot_eligible(shard, slot) || (young && !slot_urgent(shard, base + i)))
            continue;
        destage->window[destage->window_count++] =
            (struct window_item){.key = slot_key(slot), .slot = base + i};
    }
}

bool destage_has_unreadable(const struct shard *shard)
{
    for (uint32_t i = 0; i < shard->volume_count; i++)
        if (shard->volumes[i].unreadable > 0)
            return true;
    return false;
}

static void unreadable_defer(struct shard *shard)
{
    struct destage *destage = &shard->destage;

    destage->unreadable_ns = destage->unreadable_ns ? 2 * destage->unreadable_ns : BACKOFF_MIN_NS;
    if (destage->unreadable_ns > UNREADABLE_MAX_NS)
        destage->unreadable_ns = UNREADABLE_MAX_NS;
    destage->unreadable_due_ns = shard->now_ns + destage->unreadable_ns;
    tick_want(shard, destage->unreadable_due_ns);
}

/* A few of the blocks that the flash did not return are tried again, less and less often: each may take
 * the device seconds, and those behind them are not to wait for them. */
static void unreadable_gather(struct shard *shard)
{
    struct destage *destage = &shard->destage;

    if (!destage_has_unreadable(shard))
        return;
    if (shard->now_ns < destage->unreadable_due_ns) {
        tick_want(shard, destage->unreadable_due_ns);
        return;
    }
    for (uint32_t looked = 0; looked < SCAN_SLOTS && destage->window_count < UNREADABLE_MOST;) {
        uint32_t id = destage->unreadable_next;

        if (id >= shard->slot_count) {
            destage->unreadable_next = 0;
            unreadable_defer(shard);
            return;
        }
        if (shard->segments[id >> shard->segment_shift].dirty == 0) {
            destage->unreadable_next = ((id >> shard->segment_shift) + 1) << shard->segment_shift;
            continue;
        }
        if (shard->slots[id].bits & SLOT_UNREADABLE && slot_destageable(shard, &shard->slots[id]))
            destage->window[destage->window_count++] =
                (struct window_item){.key = slot_key(&shard->slots[id]), .slot = id};
        destage->unreadable_next++;
        looked++;
    }
    if (destage->window_count > 0)
        unreadable_defer(shard);
    else
        tick_want(shard, shard->now_ns + BACKOFF_MIN_NS / 100);
}

/* Oldest segments first; where so many blocks cannot be destaged now (their backing store fails) that
 * none was found, the next window goes on behind them. */
static void window_gather(struct shard *shard, bool urgent)
{
    struct destage *destage = &shard->destage;
    uint32_t looked = 0, i = destage->gather_next;
    bool ordered = epoch_due(shard), young = false;

    destage->window_count = destage->window_next = 0;
    destage->gather_next = NONE;
    unreadable_gather(shard);
    if (i == NONE || shard->segments[i].dirty == 0 || shard->segments[i].state == SEGMENT_READY)
        i = shard->ring_oldest;
    for (; i != NONE; i = shard->segments[i].ring_next) {
        const struct segment *segment = &shard->segments[i];

        if (segment->dirty == 0)
            continue;
        if (!urgent && segment->opened_ns + AGE_NS > shard->now_ns) {
            tick_want(shard, segment->opened_ns + AGE_NS);
            young = true;
            if (!ordered)
                break;
        }
        if (looked > SCAN_SLOTS) {
            if (destage->window_count == 0) {
                destage->gather_next = i;
                tick_want(shard, shard->now_ns + BACKOFF_MIN_NS / 100);
            }
            break;
        }
        segment_gather(shard, i, young, &looked);
        if (destage->window_count == DESTAGE_WINDOW)
            break;
    }
    window_sort(destage->window, destage->window_count);
}

/* ---- runs ------------------------------------------------------------------------------- */

static void run_release(struct shard *shard, struct run *run)
{
    struct destage *destage = &shard->destage;
    struct run **link = &destage->active;

    for (uint32_t i = 0; i < run->count; i++) {
        shard->slots[run->slots[i]].bits &= (uint16_t)~SLOT_DESTAGING;
        shard_flash_read_end(shard, run->slots[i]);
    }
    while (*link != run)
        link = &(*link)->next;
    *link = run->next;
    destage->active_count--;
    run->next = destage->free;
    destage->free = run;
    shard->unblock = true;
    tick_want(shard, shard->now_ns);
}

static void run_end(struct shard *shard, struct run *run)
{
    struct destage *destage = &shard->destage;
    uint64_t since = shard->now_ns - destage->last_done_ns;

    if (!run->error && since < UINT64_C(1000000000))
        destage->block_ns = (7 * destage->block_ns + since / run->count) / 8;
    destage->last_done_ns = shard->now_ns;
    run_release(shard, run);
}

static void run_backing(struct run *run, uint32_t first, uint32_t count, struct actions *out)
{
    struct action *action = action_add(out, run->zero ? ACTION_ZERO_BACKING : ACTION_WRITE_BACKING);

    action->flags = ACTION_REPORT | ACTION_BACKGROUND | (run->hole ? ACTION_MAY_UNMAP : 0);
    action->first = TAG_DESTAGE;
    action->volume = key_volume(run->key);
    action->count = (uint16_t)count;
    action->length = count * BLOCK_BYTES;
    action->offset = (key_block(run->key) + first) * BLOCK_BYTES;
    action->data = run->zero ? NULL : run->buffer + (size_t)first * BLOCK_BYTES;
    action->owner = run;
    run->ios++;
}

/* All blocks of the run that could be read are in its buffer. */
static void run_write(struct shard *shard, struct run *run, struct actions *out)
{
    const struct shard_volume *volume = shard_volume(shard, key_volume(run->key));
    uint32_t first = 0;

    run->flush_failures = volume ? volume->flush_failures : 0;
    for (uint32_t i = 0; i <= run->count; i++) {
        if (i < run->count && !(run->bad_mask >> i & 1))
            continue;
        if (i > first)
            run_backing(run, first, i - first, out);
        first = i + 1;
    }
    if (run->ios == 0)
        run_end(shard, run);
}

static void run_read_blocks(const struct shard *shard, struct run *run, uint32_t first,
                            uint32_t count, struct actions *out)
{
    struct action *action = action_add(out, ACTION_READ_FLASH);

    action->flags = ACTION_REPORT | ACTION_VERIFY | ACTION_BACKGROUND;
    action->first = TAG_DESTAGE;
    action->slot = run->slots[first];
    action->count = (uint16_t)count;
    action->length = count * BLOCK_BYTES;
    action->offset = slot_offset(shard, run->slots[first]);
    action->data = run->buffer + (size_t)first * BLOCK_BYTES;
    action->owner = run;
    run->ios++;
}

static void run_read(const struct shard *shard, struct run *run, struct actions *out)
{
    uint32_t first = 0;

    for (uint32_t i = 1; i <= run->count; i++) {
        if (i < run->count && run->slots[i] == run->slots[i - 1] + 1)
            continue;
        run_read_blocks(shard, run, first, i - first, out);
        first = i;
    }
}

/* Makes a run of the window's next items; false: none could be made of the first of them. */
static bool run_start(struct shard *shard, struct actions *out)
{
    struct destage *destage = &shard->destage;
    const struct window_item *item = &destage->window[destage->window_next];
    const struct slot *slot = &shard->slots[item->slot];
    struct run *run = destage->free;

    destage->window_next++;
    if (!slot_destageable(shard, slot) || slot_key(slot) != item->key ||
        backing_busy(shard, item->key, 1))
        return false;
    destage->free = run->next;
    run->key = item->key;
    run->zero = slot->bits & SLOT_ZERO;
    run->hole = slot->bits & SLOT_HOLE;
    run->count = run->ios = 0;
    run->bad_mask = 0;
    run->error = 0;
    for (;;) {
        run->slots[run->count++] = item->slot;
        shard->slots[item->slot].bits |= SLOT_DESTAGING;
        atomic_fetch_add_explicit(&slot_segment(shard, item->slot)->users, 1, memory_order_relaxed);
        if (destage->window_next == destage->window_count)
            break;
        item = &destage->window[destage->window_next];
        if (item->key != run->key + run->count || item->key % REGION_BLOCKS == 0)
            break;
        slot = &shard->slots[item->slot];
        if (!slot_destageable(shard, slot) || slot_key(slot) != item->key ||
            backing_busy(shard, item->key, 1) || run->zero != !!(slot->bits & SLOT_ZERO) ||
            run->hole != !!(slot->bits & SLOT_HOLE))
            break;
        destage->window_next++;
    }
    run->next = destage->active;
    destage->active = run;
    destage->active_count++;
    if (run->zero)
        run_write(shard, run, out);
    else
        run_read(shard, run, out);
    return true;
}

static void runs_start(struct shard *shard, struct actions *out)
{
    struct destage *destage = &shard->destage;
    bool hurry = pressure(shard) || destage_all_wanted(shard) || epoch_due(shard);
    uint32_t most = hurry ? DESTAGE_RUNS : 2;
    bool skipped = false;

    while (destage->window_next < destage->window_count && destage->active_count < most &&
           destage->written_count + (destage->active_count + 1) * REGION_BLOCKS <= WRITTEN_MAX &&
           !actions_full(out) && !shard->stopping && !shard->flash_lost)
        skipped |= !run_start(shard, out);
    if (skipped && destage->active_count == 0) /* its block is being read, say */
        tick_want(shard, shard->now_ns + RETRY_NS);
    if (destage->window_next == destage->window_count || shard->stopping || shard->flash_lost)
        destage->state = DESTAGE_IDLE;
}

void destage_read_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct run *run = action->owner;
    uint32_t first = (uint32_t)((action->data - run->buffer) / BLOCK_BYTES);

    run->ios--;
    for (uint32_t i = 0; i < action->count; i++) {
        /* Which of several the device cannot read shows when each is read alone. */
        if (event->result < 0 && action->count > 1) {
            run_read_blocks(shard, run, first + i, 1, out);
            continue;
        }
        if (event->result >= 0 && shard->slots[action->slot + i].bits & SLOT_UNREADABLE) {
            slot_unreadable(shard, action->slot + i, false);
            shard->destage.unreadable_ns = shard->destage.unreadable_due_ns = 0; /* others, too? */
            shard->destage.unreadable_since_ns = shard->now_ns;
        }
        if (event->result >= 0 && !(event->bad_mask >> i & 1))
            continue;
        if (event->result < 0 && shard->slots[action->slot + i].bits & SLOT_UNREADABLE)
            shard->destage.unreadable_until_ns = shard->now_ns;
        run->bad_mask |= UINT64_C(1) << (first + i);
        run->error = -EIO;
        read_slot_bad(shard, action->slot + i, run->key + first + i, event->result >= 0, out);
    }
    if (event->result < 0 && shard->destage.unreadable_due_ns <= shard->now_ns)
        unreadable_defer(shard);
    if (run->ios == 0)
        run_write(shard, run, out);
}

void destage_write_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct run *run = action->owner;
    struct shard_volume *volume = shard_volume(shard, key_volume(run->key));
    uint32_t first = (uint32_t)(action->offset / BLOCK_BYTES - key_block(run->key));

    run->ios--;
    if (event->result < 0) {
        run->error = event->result;
        if (volume)
            destage_volume_failed(shard, volume, out);
    } else {
        for (uint32_t i = first; i < first + action->count; i++) {
            const struct slot *slot = &shard->slots[run->slots[i]];

            /* Superseded while it was written: the newer record is destaged in its turn. */
            if ((slot->bits & (SLOT_LINKED | SLOT_DIRTY)) == (SLOT_LINKED | SLOT_DIRTY))
                destage_written(shard, run->slots[i], run->flush_failures);
        }
        if (volume) {
            volume->counters.destage_blocks += action->count;
            volume->counters.destage_writes++;
            destage_volume_works(shard, volume, out);
        }
    }
    if (run->ios == 0)
        run_end(shard, run);
}

void destage_flash_flushed(struct shard *shard, const struct event *event, struct actions *out)
{
    struct destage *destage = &shard->destage;
    int result = event->result;

    if (event->action->slot == FLUSH_FOR_WATERMARK) {
        destage_watermark_flushed(shard, result);
        return;
    }
    assert(destage->state == DESTAGE_FLUSHING);
    if (result < 0) {
        destage->state = DESTAGE_IDLE;
        destage->retry_ns = shard->now_ns + BACKOFF_MIN_NS;
        tick_want(shard, destage->retry_ns);
        return;
    }
    destage->state = DESTAGE_ISSUING;
    runs_start(shard, out);
}

void destage_tick(struct shard *shard, struct actions *out)
{
    struct destage *destage = &shard->destage;

    epoch_unstick(shard);
    destage_flush_consider(shard, out);
    if (destage->state == DESTAGE_ISSUING)
        runs_start(shard, out);
    if (destage->state != DESTAGE_IDLE || shard->dirty_blocks == 0 || shard->stopping ||
        shard->flash_lost || (shard->held && !shard->draining))
        return;
    if (shard->now_ns < destage->retry_ns) {
        tick_want(shard, destage->retry_ns);
        return;
    }
    window_gather(shard, pressure(shard) || destage_all_wanted(shard));
    if (destage->window_count == 0) {
        for (uint32_t i = 0; i < shard->volume_count; i++)
            if (shard->volumes[i].backoff_until_ns > shard->now_ns)
                tick_want(shard, shard->volumes[i].backoff_until_ns);
        return;
    }
    if (shard->config.flash_volatile && !MUTANT(3)) {
        destage->state = DESTAGE_FLUSHING;
        destage_flash_flush(FLUSH_FOR_WINDOW, out);
        return;
    }
    destage->state = DESTAGE_ISSUING;
    runs_start(shard, out);
}
