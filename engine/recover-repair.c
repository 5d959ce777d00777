/* SPDX-License-Identifier: Apache-2.0 */
/* The end of recovery: header copies that were missing or old, then the state to serve from. */
#include "engine/shard-private.h"

void recovery_repair_next(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    struct action *action;

    for (; recovery->next < shard->config.segments; recovery->next++) {
        const struct segment *segment = &shard->segments[recovery->next];

        if (segment->state == SEGMENT_RETIRED || !(segment->found & FOUND_REPAIR))
            continue;
        recovery->state = RECOVERY_REPAIR_IO;
        recovery->repair_step = 0;
        recovery->attempts = 0;
        recovery_read(shard, recovery->next, 0, SEGMENT_HEADER_SLOTS, recovery->areas[0].headers,
                      NULL, out);
        return;
    }
    recovery->state = RECOVERY_FLUSH;
    if (MUTANT(212)) {
        recovery_finish(shard, out);
        return;
    }
    action = action_add(out, ACTION_FLUSH_FLASH);
    action->flags = ACTION_REPORT;
    action->first = TAG_RECOVERY;
}

/* Writes the good copy over the other one; where neither is good, a fresh one to both. */
static void repair_write(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;
    struct segment *segment = &shard->segments[recovery->next];
    struct segment_header *first = (void *)recovery->areas[0].headers;
    struct segment_header *best = recovery_header_best(shard, recovery->next);
    struct segment_header *header = shard->reclaim.header.header;
    unsigned copy;

    if (best)
        *header = *best;
    else
        header_fill(shard, header, recovery->next, segment->generation, segment->ring_sequence, 0);
    if (!best && segment->found & FOUND_LOST)
        segment->verdict = true;
    if (!best && segment->verdict)
        header->map_valid = MAP_VERDICT;
    copy = best ? best == first : recovery->repair_step;
    recovery->repair_step = best ? 2 : recovery->repair_step + 1;
    header_write(shard, &shard->reclaim.header, recovery->next, copy, out);
    out->list[out->count - 1].first = TAG_RECOVERY;
}

void recovery_repair_done(struct shard *shard, const struct event *event, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    if (event->result < 0 && event->action->kind == ACTION_READ_FLASH &&
        ++recovery->attempts < ATTEMPTS_MAX) {
        recovery_read(shard, recovery->next, 0, SEGMENT_HEADER_SLOTS, recovery->areas[0].headers,
                      NULL, out);
        return;
    }
    if (event->result >= 0 && event->action->kind == ACTION_READ_FLASH) {
        repair_write(shard, out);
        return;
    }
    if (event->result < 0) /* one good copy is left: it is retired when it is reclaimed */
        shard->segments[recovery->next].failed = true;
    else if (recovery->repair_step < 2) {
        repair_write(shard, out);
        return;
    }
    recovery->next++;
    recovery->state = RECOVERY_REPAIR;
    recovery_repair_next(shard, out);
}

/* The verdicts are durable: serve. */
void recovery_finish(struct shard *shard, struct actions *out)
{
    struct recovery *recovery = &shard->recovery;

    shard->ring_oldest = shard->ring_newest = NONE;
    for (uint32_t i = 0; i < recovery->order_count; i++) {
        uint32_t index = shard->order[i].slot;

        if (shard->segments[index].state != SEGMENT_CLOSED)
            continue;
        ring_append(shard, index);
        if (shard->segments[index].ring_sequence > recovery->ring_max)
            recovery->ring_max = shard->segments[index].ring_sequence;
    }
    for (uint32_t i = 0; i < shard->config.segments; i++) {
        struct segment *segment = &shard->segments[i];

        if (segment->state == SEGMENT_CLOSED || segment->state == SEGMENT_RETIRED)
            continue;
        segment->state = SEGMENT_FREE;
        segment->ring_sequence = 0;
        shard->free_count++;
    }
    shard->footers[0].segment = NONE;
    shard->ring_next = recovery->ring_max / RING_SPACING * RING_SPACING;
    shard->watermark = recovery->watermark;
    shard->next_lsn = MUTANT(106) ? 1 : shard->config.session << LSN_SESSION_SHIFT | 1;
    shard->durable_lsn = shard->next_lsn - 1; /* all that was accepted, after the flush */
    shard->marked_durable = shard->durable_lsn;
    shard->marked_watermark = shard->watermark;
    shard->generation_next = shard->config.session << GENERATION_SESSION_SHIFT | 1;
    shard->flash_failed |= wear_is_out(shard); /* as before the restart */
    recovery->state = RECOVERY_DONE;
    shard->recovering = false;
    recovery_lost_tell(shard, out);
    tick_want(shard, shard->now_ns);
}
