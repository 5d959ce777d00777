/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM tier: a FIFO of frames with second chance.
 *
 *   miss -> filling -> resident --(flash has free room: soon; else used often enough)--> flash
 *                        |
 *                        +-(else)--> ghost
 *
 * While flash has free room, what was read is written there as soon as the log has time for it, so
 * that it outlives the process; until then its frame is kept, and when all frames wait for that,
 * what is read next does not enter the cache.
 *
 * A frame's content never changes while it is linked or pinned; a write to its block unlinks it.
 */
#include "common/hash.h"
#include "engine/pin.h"
#include "engine/shard-private.h"
#include "engine/share.h"

#define RESERVE_FRAMES 512u
#define NEAR_ACCESSES  64u /* hits so soon after the fill are one request in pieces */

static struct frame *frame_of(const struct shard *shard, uint32_t id)
{
    return &shard->frames[id - shard->slot_count];
}

/* Of a hand at this frame. */
static uint32_t frame_next(const struct shard *shard, uint32_t frame)
{
    return frame + 1 < shard->frame_count ? frame + 1 : 0;
}

/* Free room that is not kept for others. */
static bool room_is_left(const struct shard *shard, const struct slot *slot)
{
    uint32_t ready = ready_target(shard), reserved = shard->config.segments / 2;
    uint32_t free = shard->free_count;

    free += shard->ready_count > ready ? shard->ready_count - ready : 0;
    return free > (slot->bits & FRAME_SEQUENTIAL ? reserved : 0) &&
           !share_full(shard, slot_key(slot));
}

/* What is pinned finds room.  While flash has some that is free, everything enters it; but what the
 * backing store reads fastest, long runs, leaves half of it to other blocks. */
static bool flash_has_room(const struct shard *shard, const struct slot *slot)
{
    if (shard->flash_failed || shard->held || shard->stopping)
        return false;
    if (shard->free_count == 0 && shard->ready_count <= READY_MIN)
        return pin_admits(shard, slot_key(slot));
    return pin_admits(shard, slot_key(slot)) || room_is_left(shard, slot);
}

static void frame_written(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];

    if (!(slot->bits & FRAME_UNWRITTEN))
        return;
    slot->bits &= (uint16_t)~FRAME_UNWRITTEN;
    assert(shard->frames_unwritten > 0);
    shard->frames_unwritten--;
}

static void frame_free(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];

    slot->bits = 0;
    slot->next = NONE;
    if (shard->frame_free_last == NONE)
        shard->frame_free_first = id;
    else
        shard->slots[shard->frame_free_last].next = id;
    shard->frame_free_last = id;
    shard->frames_free++;
}

void ram_init(struct shard *shard)
{
    shard->frame_free_first = shard->frame_free_last = NONE;
    for (uint32_t i = 0; i < shard->frame_count; i++)
        frame_free(shard, shard->slot_count + i);
}

/* Out of the index; free now, or when its last user is done (the hand finds it then). */
static void frame_kill(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];

    frame_written(shard, id);
    if (slot->bits & SLOT_LINKED)
        index_remove(shard, id);
    if (slot->bits & (FRAME_FILLING | FRAME_PROMOTING) ||
        atomic_load_explicit(&frame_of(shard, id)->pins, memory_order_acquire) > 0)
        slot->bits |= FRAME_DEAD;
    else
        frame_free(shard, id);
}

uint32_t ram_take(struct shard *shard, const struct shard_volume *volume, uint64_t key,
                  bool sequential)
{
    uint32_t id = shard->frame_free_first;

    if (id == NONE)
        return NONE;
    shard->frame_free_first = shard->slots[id].next;
    if (shard->frame_free_first == NONE)
        shard->frame_free_last = NONE;
    shard->frames_free--;
    shard->slots[id].bits = FRAME_FILLING | (sequential ? FRAME_SEQUENTIAL : 0);
    frame_of(shard, id)->filled_at = shard->accesses;
    frame_of(shard, id)->debt = volume->around_writes;
    index_insert(shard, id, key);
    return id;
}

void ram_filled(struct shard *shard, uint32_t id, uint32_t crc)
{
    struct slot *slot = &shard->slots[id];
    unsigned use;

    assert(slot->bits & FRAME_FILLING);
    slot->bits &= (uint16_t)~FRAME_FILLING;
    if (slot->bits & FRAME_DEAD) {
        frame_kill(shard, id);
        return;
    }
    slot->crc = crc;
    use = ghost_take(shard, slot_key(slot));
    shard->heat.ghosts.hits[use]++;
    slot->bits |= (uint16_t)use;
    slot_used(slot);
    /* Half of RAM at most waits for the flash: the other one serves who reads the same again. */
    if (shard->frames_unwritten < shard->frame_count / 2 && flash_has_room(shard, slot)) {
        slot->bits |= FRAME_UNWRITTEN;
        shard->frames_unwritten++;
    }
}

void ram_hit(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];

    if (shard->accesses - frame_of(shard, id)->filled_at <= NEAR_ACCESSES)
        return;
    slot_used(slot);
    slot->bits |= FRAME_HIT;
}

/* Changes whenever a block of the key's region (or of one that shares its counter) is written. */
uint32_t *ram_generation(struct shard *shard, uint64_t key)
{
    return &shard->generations[hash_mix64(key >> REGION_SHIFT) % GENERATIONS];
}

/* The block is being written: what was or is being read of it is out of date. */
void ram_drop(struct shard *shard, uint64_t key)
{
    uint32_t id = index_frame(shard, key);

    ++*ram_generation(shard, key);

    if (id != NONE && !MUTANT(312))
        frame_kill(shard, id);
}

/* The batch with this frame's block ended; the flash copy, if it is there, was published. */
void ram_promoted(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];

    assert(slot->bits & FRAME_PROMOTING);
    slot->bits &= (uint16_t)~FRAME_PROMOTING;
    if (slot->bits & (FRAME_DEAD | FRAME_DROP))
        frame_kill(shard, id);
}

static bool frame_promote(struct shard *shard, uint32_t id, bool drop, bool earned,
                          struct actions *out)
{
    struct slot *slot = &shard->slots[id];
    uint64_t key = slot_key(slot);
    struct shard_volume *volume = shard_volume(shard, key_volume(key));

    /* Hazard 8: not while the backing store's volatile cache may be what was read, nor when that
     * may have been lost. */
    if (!volume || (frame_of(shard, id)->debt > volume->around_flushed && !MUTANT(8)))
        return false;
    if (frame_of(shard, id)->debt > volume->debt_lost_after &&
        frame_of(shard, id)->debt <= volume->debt_lost)
        return false;
    /* Nor while a write of the block is on its way, through the log or around it. */
    if (index_pending(shard, key) || active_overlap(shard, key, 1) || !log_room(shard, 1, false))
        return false;
    frame_written(shard, id);
    slot->bits |= FRAME_PROMOTING | (drop ? FRAME_DROP : 0);
    log_append(shard,
               &(struct append){.key = key,
                                .kind = ENTRY_CLEAN,
                                .crc = slot->crc,
                                .count = 1,
                                .data = shard_frame(shard, id),
                                .use = slot->bits & SLOT_USE,
                                .frame = id},
               out);
    volume->counters.flash_fill_blocks++;
    volume->counters.flash_promote_blocks += earned;
    return true;
}

static void frame_evict(struct shard *shard, uint32_t id, uint32_t flash)
{
    struct slot *slot = &shard->slots[id];

    if (flash == NONE)
        ghost_add(shard, slot_key(slot), slot->bits & SLOT_USE);
    else if ((slot->bits & SLOT_USE) > (shard->slots[flash].bits & SLOT_USE))
        shard->slots[flash].bits =
            (uint16_t)((shard->slots[flash].bits & ~SLOT_USE) | (slot->bits & SLOT_USE));
    frame_kill(shard, id);
}

/* One look of the hand at one frame. */
static void frame_consider(struct shard *shard, uint32_t id, struct actions *out)
{
    struct slot *slot = &shard->slots[id];
    bool pinned = atomic_load_explicit(&frame_of(shard, id)->pins, memory_order_acquire) > 0;
    struct shard_volume *volume;
    bool again, room, late;
    uint32_t flash;

    if (slot->bits & (FRAME_FILLING | FRAME_PROMOTING) || pinned)
        return;
    if (slot->bits & FRAME_DEAD) {
        frame_free(shard, id);
        return;
    }
    if (!(slot->bits & SLOT_LINKED))
        return; /* free */
    flash = index_flash(shard, slot_key(slot));
    if (flash != NONE && shard->slots[flash].bits & SLOT_BAD)
        flash = NONE;
    again = slot->bits & FRAME_HIT;
    slot->bits &= (uint16_t)~FRAME_HIT;
    room = flash_has_room(shard, slot);
    late = room && !log_room_idle(shard);
    if (late && slot->bits & FRAME_UNWRITTEN)
        return;
    room = room && !late;
    if (flash == NONE && (room || heat_admits(shard, slot)) &&
        frame_promote(shard, id, !again, !room, out))
        return;
    if (again)
        return;
    volume = shard_volume(shard, key_volume(slot_key(slot)));
    if (late && flash == NONE && volume)
        volume->counters.overrun_blocks++;
    frame_evict(shard, id, flash);
}

void ram_write(struct shard *shard, struct actions *out)
{
    for (uint32_t looks = 0; shard->frames_unwritten > 0 && looks < 2 * REGION_BLOCKS; looks++) {
        uint32_t id = shard->slot_count + shard->frame_write_hand;
        struct slot *slot = &shard->slots[id];

        if (slot->bits & FRAME_UNWRITTEN) {
            if (actions_full(out) || !log_room_idle(shard))
                return;
            /* What cannot be written now is decided about when it leaves RAM. */
            if (!flash_has_room(shard, slot) || !frame_promote(shard, id, false, false, out))
                frame_written(shard, id);
        }
        shard->frame_write_hand = frame_next(shard, shard->frame_write_hand);
    }
}

/* Blocks on their way to flash keep their frames for a while: room is made before it is needed. */
void ram_reserve(struct shard *shard, struct actions *out)
{
    uint32_t quarter = shard->frame_count / 4;

    ram_make_room(shard, quarter < RESERVE_FRAMES ? quarter : RESERVE_FRAMES, out);
}

void ram_make_room(struct shard *shard, uint32_t frames, struct actions *out)
{
    uint32_t looks = 0;

    while (shard->frames_free < frames && looks++ < 2 * REGION_BLOCKS && !actions_full(out)) {
        frame_consider(shard, shard->slot_count + shard->frame_hand, out);
        shard->frame_hand = frame_next(shard, shard->frame_hand);
    }
}
