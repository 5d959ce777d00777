/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of destaging: what was written to the backing store waits in a queue for a flush of it; then
 * it is clean (I4), and the watermark advances (I17).  Also whether a volume's backing store works.
 */
#include "engine/shard-private.h"

#define FLUSH_DELAY_NS UINT64_C(1000000000) /* written blocks wait this long for a backing flush */
#define FLUSH_BLOCKS   2048u                /* ... or for so many */
#define BACKOFF_MAX_NS UINT64_C(5000000000)

/* ---- whether the backing store works ---------------------------------------------------------- */

/* Several times within the patience of a write that waits for space. */
static uint64_t backoff_max_ns(const struct shard_volume *volume)
{
    uint64_t part = volume->policy.stall_timeout_ns / 4;

    if (part == 0 || part > BACKOFF_MAX_NS)
        return BACKOFF_MAX_NS;
    return part < BACKOFF_MIN_NS ? BACKOFF_MIN_NS : part;
}

static void volume_failing_set(struct shard *shard, struct shard_volume *volume, bool failing)
{
    if (volume->failing != failing && volume->epochs) /* other shards have to wait for this one */
        volume->epochs->changed = shard->epochs_changed = true;
    volume->failing = failing;
}

void destage_volume_failed(struct shard *shard, struct shard_volume *volume, struct actions *out)
{
    volume->counters.destage_errors++;
    if (!volume->failing)
        action_notice(out, NOTICE_BACKING_ERROR, volume->id, 0);
    if (!volume->failing)
        volume->failing_since_ns = shard->now_ns;
    volume_failing_set(shard, volume, true);
    /* What was under way when it began to fail tells nothing new. */
    if (shard->now_ns < volume->backoff_until_ns)
        return;
    volume->backoff_ns = volume->backoff_ns ? 2 * volume->backoff_ns : BACKOFF_MIN_NS;
    if (volume->backoff_ns > backoff_max_ns(volume))
        volume->backoff_ns = backoff_max_ns(volume);
    volume->backoff_until_ns = shard->now_ns + volume->backoff_ns;
    tick_want(shard, volume->backoff_until_ns);
}

void destage_volume_works(struct shard *shard, struct shard_volume *volume, struct actions *out)
{
    if (volume->failing)
        action_notice(out, NOTICE_BACKING_BACK, volume->id, 0);
    volume_failing_set(shard, volume, false);
    volume->backoff_ns = 0;
    volume->backoff_until_ns = 0;
}

/* ---- the watermark ---------------------------------------------------------------------------- */

/* Everything at or below is garbage or on the flushed backing store, once the flash is flushed
 * (I17): superseding records that completed may still be in the device's cache. */
static uint64_t watermark_candidate(const struct shard *shard)
{
    uint64_t lsn = log_completed_lsn(shard) + 1;

    if (MUTANT(17))
        return shard->next_lsn - 1;
    for (uint32_t i = 0; i < shard->config.segments; i++) {
        const struct segment *segment = &shard->segments[i];

        if (segment->dirty > 0 && segment->lsn_first < lsn)
            lsn = segment->lsn_first;
    }
    return lsn - 1;
}

void destage_flash_flush(enum flash_flush_purpose purpose, struct actions *out)
{
    struct action *action = action_add(out, ACTION_FLUSH_FLASH);

    action->flags = ACTION_REPORT;
    action->first = TAG_DESTAGE;
    action->slot = purpose;
}

static void watermark_advance(struct shard *shard, struct actions *out)
{
    struct destage *destage = &shard->destage;
    uint64_t candidate = watermark_candidate(shard);

    if (candidate <= shard->watermark || destage->watermark_flushing || shard->flash_lost)
        return;
    if (!shard->config.flash_volatile) {
        shard->watermark = candidate;
        tick_want(shard, shard->now_ns);
        return;
    }
    destage->watermark_flushing = true;
    destage->candidate = candidate;
    destage_flash_flush(FLUSH_FOR_WATERMARK, out);
}

void destage_watermark_flushed(struct shard *shard, int result)
{
    struct destage *destage = &shard->destage;

    destage->watermark_flushing = false;
    if (result >= 0 && destage->candidate > shard->watermark)
        shard->watermark = destage->candidate;
    tick_want(shard, shard->now_ns);
}

/* ---- flushes ---------------------------------------------------------------------------------- */

/* Queues a slot whose backing write completed; `flush_failures` is the volume's when it began.  The
 * slot stays dirty and is written again later when the queue is full, or when a flush failed
 * meanwhile: it may have dropped this write, and the next one does not bring it back. */
void destage_written(struct shard *shard, uint32_t slot, uint32_t flush_failures)
{
    struct destage *destage = &shard->destage;
    struct shard_volume *volume;

    if (shard->slots[slot].bits & SLOT_WRITTEN)
        return;
    if (MUTANT(204)) {
        slot_clean(shard, slot);
        return;
    }
    volume = shard_volume(shard, key_volume(slot_key(&shard->slots[slot])));
    if (destage->written_count == WRITTEN_MAX ||
        (volume && volume->flush_failures != flush_failures))
        return;
    if (destage->written_count == 0)
        destage->flush_due_ns = shard->now_ns + FLUSH_DELAY_NS;
    destage->written[(destage->written_head + destage->written_count++) % WRITTEN_MAX] = slot;
    shard->slots[slot].bits |= SLOT_WRITTEN;
    if (volume && volume->epochs)
        volume->epochs->written++;
    atomic_fetch_add_explicit(&slot_segment(shard, slot)->users, 1, memory_order_relaxed);
    tick_want(shard, destage->flush_due_ns);
}

static void backing_flush(struct shard *shard, uint16_t volume, struct actions *out)
{
    struct destage *destage = &shard->destage;
    struct action *action = action_add(out, ACTION_FLUSH_BACKING);
    const struct shard_volume *v = shard_volume(shard, volume);

    action->flags = ACTION_REPORT;
    action->first = TAG_DESTAGE;
    action->volume = volume;
    destage->flush_backing_busy = true;
    destage->flush_volume = volume;
    destage->flush_count = destage->written_count;
    destage->flush_around = v ? v->around_writes : 0;
}

/* An epoch waits for it. */
static bool epoch_flush_consider(struct shard *shard, struct actions *out)
{
    for (uint32_t i = 0; shard->epochs_used > 0 && i < shard->volume_count; i++) {
        const struct shard_volume *volume = &shard->volumes[i];

        if (!epoch_wants_flush(volume, shard))
            continue;
        if (shard->now_ns < volume->backoff_until_ns) {
            tick_want(shard, volume->backoff_until_ns);
            continue;
        }
        backing_flush(shard, volume->id, out);
        return true;
    }
    return false;
}

void destage_flush_consider(struct shard *shard, struct actions *out)
{
    struct destage *destage = &shard->destage;

    /* A segment being reclaimed waits for what the queue holds. */
    if (destage->flush_backing_busy || (shard->stopping && reclaim_idle(shard)))
        return;
    if (epoch_flush_consider(shard, out))
        return;
    if (destage->written_count > 0) {
        uint32_t slot = destage->written[destage->written_head];
        uint16_t id = key_volume(slot_key(&shard->slots[slot]));
        const struct shard_volume *volume = shard_volume(shard, id);
        bool due = destage->written_count >= FLUSH_BLOCKS || shard->flash_lost ||
                   shard->now_ns >= destage->flush_due_ns ||
                   (destage->state == DESTAGE_IDLE && destage->active_count == 0 && volume &&
                    volume->destage_all);

        if (volume && shard->now_ns < volume->backoff_until_ns)
            tick_want(shard, volume->backoff_until_ns);
        else if (due)
            backing_flush(shard, id, out);
        else
            tick_want(shard, destage->flush_due_ns);
        return;
    }
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];

        if (!volume->policy.present || volume->around_writes == volume->around_flushed)
            continue;
        if (shard->now_ns < destage->around_due_ns || shard->now_ns < volume->backoff_until_ns) {
            uint64_t due = destage->around_due_ns;

            tick_want(shard, due > volume->backoff_until_ns ? due : volume->backoff_until_ns);
            continue;
        }
        destage->around_due_ns = shard->now_ns + FLUSH_DELAY_NS;
        backing_flush(shard, volume->id, out);
        return;
    }
}

/* The flush that failed may not be repeated by one that succeeds: what it was to cover may be lost,
 * and with it what was read back.  Fills from now on have a debt of their own. */
static void around_lost(struct shard_volume *volume)
{
    if (volume->around_writes == volume->around_flushed)
        return;
    if (volume->debt_lost <= volume->around_flushed)
        volume->debt_lost_after = volume->around_flushed;
    volume->debt_lost = volume->around_writes++;
}

static void slot_written_end(struct shard *shard, uint32_t id, bool flushed)
{
    struct slot *slot = &shard->slots[id];
    struct shard_volume *volume = shard_volume(shard, key_volume(slot_key(slot)));

    slot->bits &= (uint16_t)~SLOT_WRITTEN;
    if (volume && volume->epochs)
        volume->epochs->written--;
    if (!flushed)
        return;
    slot_clean(shard, id);
    if (epoch_outdated(shard, id)) /* it was kept only for this */
        index_drop(shard, id);
}

void destage_backing_flushed(struct shard *shard, const struct event *event, struct actions *out)
{
    struct destage *destage = &shard->destage;
    struct shard_volume *volume = shard_volume(shard, destage->flush_volume);
    /* One that failed may also have dropped what was only queued while it ran. */
    uint32_t count = event->result < 0 ? destage->written_count : destage->flush_count;

    destage->flush_backing_busy = false;
    while (count-- > 0) {
        uint32_t id = destage->written[destage->written_head];
        struct slot *slot = &shard->slots[id];

        destage->written_head = (destage->written_head + 1) % WRITTEN_MAX;
        if (key_volume(slot_key(slot)) != destage->flush_volume) {
            destage->written[(destage->written_head + destage->written_count - 1) % WRITTEN_MAX] =
                id;
            continue;
        }
        destage->written_count--;
        if (slot->bits & SLOT_WRITTEN) /* else it was superseded meanwhile */
            slot_written_end(shard, id, event->result >= 0);
        shard_flash_read_end(shard, id);
    }
    shard->unblock = true;
    tick_want(shard, shard->now_ns);
    if (!volume)
        return;
    if (event->result < 0) {
        volume->flush_failures++;
        around_lost(volume);
        destage_volume_failed(shard, volume, out);
        return;
    }
    volume->around_flushed = MUTANT(313) ? volume->around_writes : destage->flush_around;
    if (volume->epochs)
        volume->epochs->changed = shard->epochs_changed = true;
    destage_volume_works(shard, volume, out);
    if (volume_destageable(volume) == 0)
        volume->destage_all = false;
    watermark_advance(shard, out);
}
