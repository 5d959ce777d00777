/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-oracle-unit.h"

#include <assert.h>
#include <string.h>

#include "engine/format.h"

static bool same(const struct unit *unit, const uint32_t *a, const uint32_t *b)
{
    for (uint32_t i = 0; i < unit->sectors; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* ---- what can be reached ----------------------------------------------------------------- */

static void apply(struct content *content, const struct unit *unit,
                  const struct unit_pending *write, uint32_t *ids)
{
    for (uint32_t i = write->from / SECTOR_BYTES; i * SECTOR_BYTES < write->to; i++) {
        uint32_t begin = i * SECTOR_BYTES;
        uint32_t from = write->from > begin ? write->from - begin : 0;
        uint32_t to = write->to < begin + SECTOR_BYTES ? write->to - begin : SECTOR_BYTES;

        ids[i] = content_overlay(content, unit->volume, unit->first_sector + i, ids[i], write->id,
                                 from, to);
    }
}

static void reach_add(const struct unit *unit, struct unit_reach *reach,
                      const struct unit_state *state)
{
    for (uint32_t i = 0; i < reach->count; i++)
        if (reach->states[i].applied == state->applied &&
            same(unit, reach->states[i].ids, state->ids))
            return;
    if (reach->count == UNIT_REACH_MAX) {
        reach->overflow = true;
        return;
    }
    reach->states[reach->count++] = *state;
}

void unit_reach(struct content *content, const struct unit *unit, struct unit_reach *reach)
{
    reach->count = unit->state_count;
    reach->overflow = false;
    memcpy(reach->states, unit->states, unit->state_count * sizeof(unit->states[0]));
    for (uint32_t i = 0; i < reach->count; i++) {
        uint32_t left = unit->pending_mask & ~reach->states[i].applied;

        for (; left != 0; left &= left - 1) {
            struct unit_state next = reach->states[i];
            uint32_t slot = (uint32_t)__builtin_ctz(left);

            apply(content, unit, &unit->pending[slot], next.ids);
            next.applied |= 1u << slot;
            reach_add(unit, reach, &next);
        }
    }
}

/* ---- history ----------------------------------------------------------------------------- */

/* NULL: there was no room, and nothing is known any more. */
static struct unit_past *past_add(struct unit *unit, const struct unit_state *state, uint64_t now,
                                  bool crash)
{
    struct unit_past *past;
    uint32_t unapplied = unit->pending_mask & ~state->applied;

    for (uint32_t i = 0; i < unit->past_count; i++) {
        past = &unit->past[i];
        if (!same(unit, past->ids, state->ids))
            continue;
        past->until = now;
        past->unapplied = past->crash && crash ? past->unapplied & unapplied
                          : crash              ? unapplied
                                               : past->unapplied;
        past->crash |= crash;
        return past;
    }
    if (unit->past_count == UNIT_PAST_MAX) {
        unit_doubt(unit, false);
        return NULL;
    }
    past = &unit->past[unit->past_count++];
    memcpy(past->ids, state->ids, sizeof(past->ids));
    past->unapplied = unapplied;
    past->crash = crash;
    past->failed = false;
    past->until = now;
    return past;
}

/* A write succeeded, and its record is newer than any that a failed one left. */
static void past_overwritten(struct unit *unit, uint64_t now)
{
    for (uint32_t i = 0; i < unit->past_count; i++)
        if (unit->past[i].failed) {
            unit->past[i].failed = false;
            unit->past[i].until = now;
        }
}

/* What lacks a durable write cannot come back. */
static void past_is_durable(struct unit *unit, uint32_t slot, uint64_t begun)
{
    for (uint32_t i = 0; i < unit->past_count; i++)
        if (unit->past[i].unapplied >> slot & 1 || unit->past[i].until < begun)
            unit->past[i].crash = false;
}

void unit_forget(struct unit *unit, uint64_t flushed)
{
    uint32_t kept = 0;

    if (unit->reads > 0)
        return;
    for (uint32_t i = 0; i < unit->past_count; i++)
        if (unit->past[i].failed || (unit->past[i].crash && unit->past[i].until > flushed))
            unit->past[kept++] = unit->past[i];
    unit->past_count = kept;
    unit->unknown_until = 0;
    if (unit->unknown_crash <= flushed && unit->discarded == 0)
        unit->unknown_crash = 0;
    if (unit->stale_until <= flushed)
        unit->stale_until = 0;
    if (unit->pending_mask == 0 && unit->state_count == 1 && unit->changed < flushed)
        unit->failed = false; /* whatever it left is durable */
}

/* ---- writes ------------------------------------------------------------------------------ */

void unit_write_begin(struct unit *unit, const struct unit_pending *pending)
{
    uint32_t free = ~unit->pending_mask & ((1u << UNIT_PENDING_MAX) - 1);
    uint32_t slot;

    assert(free != 0); /* the client asks oracle_crowded first */
    slot = (uint32_t)__builtin_ctz(free);
    unit->pending[slot] = *pending;
    unit->pending_mask |= 1u << slot;
    unit->changed = pending->begun;
    if (unit->unknown && (pending->from != 0 || pending->to < unit->sectors * SECTOR_BYTES))
        unit->garbage = true; /* over something unknown: no content that can be named */
}

static uint32_t pending_find(const struct unit *unit, uint64_t begun)
{
    for (uint32_t slot = 0; slot < UNIT_PENDING_MAX; slot++)
        if (unit->pending_mask >> slot & 1 && unit->pending[slot].begun == begun)
            return slot;
    assert(!"a write ends that did not begin");
    return 0;
}

static bool state_add(struct unit *unit, const struct unit_state *state)
{
    for (uint32_t i = 0; i < unit->state_count; i++)
        if (unit->states[i].applied == state->applied &&
            same(unit, unit->states[i].ids, state->ids))
            return true;
    if (unit->state_count == UNIT_STATES_MAX)
        return false;
    unit->states[unit->state_count++] = *state;
    return true;
}

/* The write took effect: the states that include it, as early as possible, remain. */
static bool keep_applied(struct content *content, struct unit *unit, const struct unit_reach *reach,
                         uint32_t slot, uint64_t now)
{
    const struct unit_pending write = unit->pending[slot];
    struct unit_state before[UNIT_STATES_MAX];
    uint32_t before_count = unit->state_count;
    bool fits = true;

    if (write.begun > unit->failed_until) { /* else the failed one may have landed behind it */
        past_overwritten(unit, now);
        unit->failed = false;
    }
    memcpy(before, unit->states, before_count * sizeof(before[0]));
    unit->state_count = 0;
    for (uint32_t i = 0; i < before_count; i++)
        if (before[i].applied >> slot & 1)
            fits &= state_add(unit, &before[i]);
    for (uint32_t i = 0; i < reach->count; i++) {
        struct unit_state state = reach->states[i];

        if (state.applied >> slot & 1)
            continue;
        past_add(unit, &state, now, !write.fua);
        apply(content, unit, &write, state.ids);
        state.applied |= 1u << slot;
        fits &= state_add(unit, &state);
    }
    if (write.fua)
        past_is_durable(unit, slot, write.begun);
    return fits;
}

static bool keep_either(struct unit *unit, const struct unit_reach *reach, uint64_t now)
{
    bool fits = true;

    unit->state_count = 0;
    for (uint32_t i = 0; i < reach->count; i++)
        fits &= state_add(unit, &reach->states[i]);
    unit->failed = true;
    unit->failed_until = now;
    return fits;
}

static void slot_free(struct unit *unit, uint32_t slot)
{
    struct unit_state states[UNIT_STATES_MAX];
    uint32_t count = unit->state_count;

    unit->pending_mask &= ~(1u << slot);
    for (uint32_t i = 0; i < unit->past_count; i++)
        unit->past[i].unapplied &= ~(1u << slot);
    memcpy(states, unit->states, count * sizeof(states[0]));
    unit->state_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        states[i].applied &= ~(1u << slot);
        state_add(unit, &states[i]);
    }
}

/* A write to the block, alone: its record, or `absent`, supersedes whatever may have come back. */
static void end_stale(struct unit *unit, uint32_t slot, int error, uint64_t now)
{
    const struct unit_pending *write = &unit->pending[slot];

    if (!unit->stale || error != 0 || unit->discards > 0 || unit->pending_mask != 1u << slot ||
        unit->ended > write->begun)
        return;
    unit->stale = false;
    unit->stale_until = write->fua ? 0 : now;
}

/* A write of the whole unit, alone: whatever was there, now it is known. */
static void end_doubt(struct content *content, struct unit *unit, uint32_t slot, int error,
                      uint64_t now)
{
    const struct unit_pending *write = &unit->pending[slot];

    if (error != 0 || unit->discards > 0 || unit->pending_mask != 1u << slot ||
        unit->ended > write->begun || write->from != 0 || write->to < unit->sectors * SECTOR_BYTES)
        return;
    unit->unknown_until = now;
    unit->unknown_crash = write->fua ? 0 : now;
    unit->was_garbage = unit->garbage;
    unit->unknown = unit->garbage = false;
    unit->discarded = 0; /* behind this write, as long as that lasts */
    unit->past_count = 0;
    unit->state_count = 1;
    memset(&unit->states[0], 0, sizeof(unit->states[0]));
    apply(content, unit, write, unit->states[0].ids);
}

bool unit_write_end(struct content *content, struct unit *unit, struct unit_reach *reach,
                    uint64_t begun, int error, uint64_t now)
{
    uint32_t slot = pending_find(unit, begun);
    bool fits;

    unit->changed = now;
    if (unit->unknown) {
        end_stale(unit, slot, error, now);
        end_doubt(content, unit, slot, error, now);
        unit->ended = now;
        slot_free(unit, slot);
        return true;
    }
    unit->ended = now;
    unit_reach(content, unit, reach);
    fits = !reach->overflow;
    if (error == 0)
        fits &= keep_applied(content, unit, reach, slot, now);
    else
        fits &= keep_either(unit, reach, now);
    slot_free(unit, slot);
    if (!fits)
        unit_doubt(unit, false);
    return fits && !unit->unknown;
}

/* ---- crashes and reads ------------------------------------------------------------------- */

void unit_crash(struct content *content, struct unit *unit, struct unit_reach *reach,
                uint64_t flushed, bool garbage)
{
    bool fits, lost;

    unit->reads = unit->discards = 0;
    unit_forget(unit, flushed);
    lost = unit->unknown_crash > (unit->discarded != 0 ? 0 : flushed);
    unit->discarded = 0;
    unit_reach(content, unit, reach);
    fits = !reach->overflow;
    /* A write that ended a doubt left no past, but is at stake, too. */
    garbage =
        garbage && (unit->pending_mask != 0 || unit->past_count > 0 || unit->failed ||
                    unit->unknown_crash > flushed || (unit->unknown && unit->ended > flushed));
    unit->pending_mask = 0;
    unit->state_count = 0;
    unit->failed = false;
    unit->changed = unit->ended = 0;
    for (uint32_t i = 0; i < reach->count; i++) {
        reach->states[i].applied = 0;
        fits &= state_add(unit, &reach->states[i]);
    }
    for (uint32_t i = 0; i < unit->past_count; i++) {
        struct unit_state state = {0};

        memcpy(state.ids, unit->past[i].ids, sizeof(state.ids));
        fits &= state_add(unit, &state);
    }
    unit->past_count = 0;
    if (!fits || garbage || lost)
        unit_doubt(unit, garbage || (lost && unit->was_garbage));
    if (unit->stale_until > flushed)
        unit_lose(unit);
    unit->unknown_crash = unit->stale_until = 0;
}

void unit_kill(struct content *content, struct unit *unit, struct unit_reach *reach, uint64_t now)
{
    bool fits = true;

    if (unit->discards > 0)
        unit->discarded = now;
    unit->discards = 0;
    if (unit->pending_mask != 0) {
        unit_reach(content, unit, reach);
        fits = !reach->overflow && keep_either(unit, reach, now);
        /* What landed is in the disk's cache, and what is under it at stake until a flush. */
        for (uint32_t i = 0; i < reach->count; i++)
            past_add(unit, &reach->states[i], now, true);
        for (uint32_t slot = 0; slot < UNIT_PENDING_MAX; slot++)
            if (unit->pending_mask >> slot & 1)
                slot_free(unit, slot);
        unit->ended = now;
    }
    for (uint32_t i = 0; i < unit->past_count; i++) {
        struct unit_state state = {0};

        if (!unit->past[i].failed)
            continue;
        memcpy(state.ids, unit->past[i].ids, sizeof(state.ids));
        fits &= state_add(unit, &state);
        unit->failed = true;
    }
    if (!fits)
        unit_doubt(unit, false);
}

void unit_recovered(struct unit *unit)
{
    unit->failed = false;
    for (uint32_t i = 0; i < unit->past_count; i++)
        unit->past[i].failed = false;
}

void unit_collapse(struct unit *unit, const uint32_t *ids, uint64_t now)
{
    struct unit_state state = {0};

    if ((unit->unknown && unit->failed) || unit->discards > 0 || unit->stale)
        return;
    memcpy(state.ids, ids, unit->sectors * sizeof(ids[0]));
    if (unit->failed)
        for (uint32_t i = 0; i < unit->state_count; i++) {
            struct unit_past *past = NULL;

            if (!same(unit, unit->states[i].ids, ids))
                past = past_add(unit, &unit->states[i], now, true);
            if (past)
                past->failed = true;
        }
    if (unit->unknown && unit->failed)
        return;          /* past_add ran out of room */
    if (unit->unknown) { /* what it was before is not known either */
        unit->unknown_until = now;
        unit->unknown_crash = unit->ended;
        unit->was_garbage = unit->garbage;
    }
    unit->unknown = unit->garbage = unit->failed = false;
    unit->states[0] = state;
    unit->state_count = 1;
}

void unit_doubt(struct unit *unit, bool garbage)
{
    unit->unknown = true;
    unit->garbage |= garbage;
}

void unit_lose(struct unit *unit)
{
    unit_doubt(unit, false);
    unit->stale = true;
}

static bool legal_unknown(const struct unit *unit, const uint32_t *ids)
{
    bool garbage = unit->unknown ? unit->garbage : unit->was_garbage;

    for (uint32_t i = 0; i < unit->sectors; i++)
        if (ids[i] == CONTENT_FOREIGN && !garbage)
            return false;
    return true;
}

bool unit_may_read(const struct unit *unit, const struct unit_reach *reach, const uint32_t *ids,
                   uint64_t begun)
{
    if (unit->unknown || unit->unknown_until > begun || reach->overflow)
        return legal_unknown(unit, ids);
    for (uint32_t i = 0; i < reach->count; i++)
        if (same(unit, reach->states[i].ids, ids))
            return true;
    for (uint32_t i = 0; i < unit->past_count; i++)
        if (unit->past[i].until > begun && same(unit, unit->past[i].ids, ids))
            return true;
    return false;
}

bool unit_may_survive(const struct unit *unit, const struct unit_reach *reach, const uint32_t *ids,
                      uint64_t flushed)
{
    if (unit->unknown || unit->unknown_crash > flushed || reach->overflow)
        return true;
    for (uint32_t sector = 0; sector < unit->sectors; sector++) {
        bool found = false;

        for (uint32_t i = 0; i < reach->count && !found; i++)
            found = reach->states[i].ids[sector] == ids[sector];
        for (uint32_t i = 0; i < unit->past_count && !found; i++)
            found = unit->past[i].crash && unit->past[i].until > flushed &&
                    unit->past[i].ids[sector] == ids[sector];
        if (!found)
            return false;
    }
    return true;
}

bool unit_is_plain(const struct unit *unit)
{
    return unit->pending_mask == 0 && unit->state_count == 1 && unit->past_count == 0 &&
           !unit->unknown && !unit->failed && unit->unknown_until == 0 &&
           unit->unknown_crash == 0 && unit->stale_until == 0 && unit->discarded == 0;
}
