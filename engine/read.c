/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: RAM frame, else flash slot, else backing store.  Reads never wait for writes (C5), except
 * for those around the cache (backing-order.c).
 */
#include "engine/pin.h"
#include "engine/shard-private.h"

/* Blocks [first, first + count) of the piece that lie side by side on flash. */
static void read_flash(struct shard *shard, struct piece *piece, uint32_t first, uint32_t count,
                       uint32_t slot, struct actions *out)
{
    struct action *action = action_add(out, ACTION_READ_FLASH);

    action->flags = ACTION_PIECE | ACTION_VERIFY;
    action->volume = piece->volume;
    action->first = (uint16_t)first;
    action->count = (uint16_t)count;
    action->slot = slot;
    action->length = count * BLOCK_BYTES;
    action->offset = slot_offset(shard, slot);
    action->data = piece->data + (size_t)first * BLOCK_BYTES;
    action->owner = piece;
    atomic_fetch_add_explicit(&slot_segment(shard, slot)->users, 1, memory_order_relaxed);
    piece->ios++;
}

static inline bool fill_wanted(const struct shard *shard, const struct piece *piece,
                               const struct shard_volume *volume, uint64_t key,
                               const struct index_entries *entries)
{
    if (piece->flags & PIECE_NO_FILL || volume->policy.mode == MODE_PASS_THROUGH)
        return false;
    if (piece->flags & PIECE_BEYOND && !pin_admits(shard, key))
        return false;
    /* A pending write or a write around the cache would make the fill stale. */
    return !entries->pending && entries->frame == NONE &&
           (!active_overlap(shard, key, 1) || MUTANT(5));
}

/* What is only to be brought into the cache nobody reads: it says nothing of hits and misses. */
static bool is_counted(const struct piece *piece)
{
    return piece->op != PIECE_PREFETCH;
}

static void read_backing(struct shard *shard, struct piece *piece, struct shard_volume *volume,
                         uint32_t first, uint32_t count, struct actions *out)
{
    struct action *action = action_add(out, ACTION_READ_BACKING);

    action->flags = ACTION_PIECE | ACTION_REPORT;
    action->volume = piece->volume;
    action->first = (uint16_t)first;
    action->count = (uint16_t)count;
    action->length = count * BLOCK_BYTES;
    action->offset = (piece->block + first) * BLOCK_BYTES;
    action->data = piece->data + (size_t)first * BLOCK_BYTES;
    action->owner = piece;
    piece->ios++;
    piece->backing_blocks += count;
    backing_read_begin(shard, piece, first, count);
    volume->counters.miss_blocks += is_counted(piece) ? count : 0;
}

enum source {
    SOURCE_NONE,
    SOURCE_FLASH,
    SOURCE_MISS
};

static enum source read_missed(const struct shard *shard, struct piece *piece,
                               const struct shard_volume *volume, uint32_t i, uint64_t key,
                               const struct index_entries *entries)
{
    uint64_t bit = UINT64_C(1) << i;

    if (fill_wanted(shard, piece, volume, key, entries))
        piece->fill_mask |= bit;
    if (entries->flash == NONE)
        piece->unknown_mask |= bit;
    return SOURCE_MISS;
}

/* Where block i comes from.  What needs no I/O is settled here. */
static enum source read_block(struct shard *shard, struct piece *piece, struct shard_volume *volume,
                              uint32_t i, uint32_t *slot)
{
    uint64_t key = key_of(piece->volume, piece->block + i);
    struct index_entries entries = index_entries(shard, key);
    uint32_t id = entries_current(shard, &entries);
    struct slot *s;
    /* What would not enter the cache earns nothing a place there. */
    bool counts = !(piece->flags & (PIECE_NO_FILL | PIECE_BEYOND));

    shard->accesses++;
    if (id == NONE)
        return read_missed(shard, piece, volume, i, key, &entries);
    s = &shard->slots[id];
    if (is_frame(shard, id)) {
        atomic_fetch_add_explicit(&shard->frames[id - shard->slot_count].pins, 1,
                                  memory_order_relaxed);
        if (counts)
            ram_hit(shard, id);
        piece->frame[i] = id;
        piece->ram_mask |= UINT64_C(1) << i;
        volume->counters.ram_hit_blocks += is_counted(piece);
        return SOURCE_NONE;
    }
    if (loss_bypasses(shard, s))
        return read_missed(shard, piece, volume, i, key, &entries);
    if (s->bits & SLOT_BAD) {
        if (!(s->bits & SLOT_DIRTY))
            return read_missed(shard, piece, volume, i, key, &entries);
        piece->error = -EIO;
        return SOURCE_NONE;
    }
    if (counts)
        heat_hit(shard, s);
    if (s->bits & SLOT_ZERO) {
        piece->zero_mask |= UINT64_C(1) << i;
        volume->counters.zero_hit_blocks += is_counted(piece);
        return SOURCE_NONE;
    }
    piece->flash_blocks++;
    volume->counters.flash_hit_blocks += is_counted(piece);
    *slot = id;
    return SOURCE_FLASH;
}

static void read_blocks(struct shard *shard, struct piece *piece, struct shard_volume *volume,
                        uint32_t first, uint32_t count, struct actions *out)
{
    enum source run = SOURCE_NONE;
    uint32_t run_first = 0, run_slot = NONE;

    for (uint32_t i = first; i <= first + count; i++) {
        uint32_t slot = NONE;
        enum source source = SOURCE_NONE;

        if (i < first + count)
            source = read_block(shard, piece, volume, i, &slot);
        if (source == run && (source != SOURCE_FLASH || slot == run_slot + (i - run_first)))
            continue;
        if (run == SOURCE_FLASH)
            read_flash(shard, piece, run_first, i - run_first, run_slot, out);
        else if (run == SOURCE_MISS)
            read_backing(shard, piece, volume, run_first, i - run_first, out);
        run = source;
        run_first = i;
        run_slot = slot;
    }
}

void read_request(struct shard *shard, struct piece *piece, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    piece->ram_mask = piece->fill_mask = piece->zero_mask = piece->unknown_mask = 0;
    piece->index_inserts = shard->index_inserts;
    piece->flash_blocks = piece->backing_blocks = 0;
    piece->error = 0;
    piece->ios = 0;
    piece->backing_mask = 0;
    if (backing_read_waits(shard, piece)) {
        piece_list_push(&shard->blocked, piece);
        return;
    }
    piece->generation = *ram_generation(shard, key_of(piece->volume, piece->block));
    if (!volume) {
        action_reply(out, piece, -ENXIO);
        return;
    }
    if (is_counted(piece)) {
        volume->counters.read_pieces++;
        volume->counters.read_blocks += piece->count;
        mrc_note(volume, piece);
    }
    shard->heat.clock += piece->flags & (PIECE_NO_FILL | PIECE_BEYOND) ? 0 : piece->count;
    read_blocks(shard, piece, volume, 0, piece->count, out);
    if (piece->ios == 0)
        action_reply(out, piece, piece->error);
}

/* A flash read of this slot went wrong.  True: the slot was current, clean, and now counts as
 * missed (or it is not current any more): look again.  False: the block cannot be read. */
bool read_slot_bad(struct shard *shard, uint32_t id, uint64_t key, bool mismatch,
                   struct actions *out)
{
    struct slot *slot = &shard->slots[id];
    struct shard_volume *volume = shard_volume(shard, key_volume(key));

    if (!(slot->bits & SLOT_LINKED) || slot->bits & SLOT_PENDING || slot_key(slot) != key)
        return true;
    if (slot->bits & SLOT_DIRTY) {
        bool outdated = epoch_outdated(shard, id);

        if (slot->bits & SLOT_BAD) /* another read, under way with this one, has found that */
            return outdated;
        if (!mismatch) {
            if (!(slot->bits & SLOT_UNREADABLE))
                action_notice(out, NOTICE_DIRTY_UNREADABLE, key_volume(key),
                              key_block(key) * BLOCK_BYTES);
            slot_unreadable(shard, id, true);
        } else {
            slot_unreadable(shard, id, false);
            slot->bits |= SLOT_BAD;
            slot_lost(shard, id, 1);
            epoch_remove(shard, id);
            if (volume)
                volume->counters.lost_blocks++;
            action_notice(out, NOTICE_DIRTY_LOST, key_volume(key), key_block(key) * BLOCK_BYTES);
            if (outdated) /* the newer version is unharmed */
                index_drop(shard, id);
        }
        return outdated;
    }
    if (MUTANT(214)) {
        index_drop(shard, id);
    } else if (!(slot->bits & SLOT_BAD)) {
        /* It stays linked, so that a later write around the cache still finds it on flash (I14). */
        slot->bits |= SLOT_BAD;
        if (volume)
            volume->counters.healed_blocks++;
        action_notice(out, NOTICE_CLEAN_HEALED, key_volume(key), key_block(key) * BLOCK_BYTES);
    }
    return true;
}

void read_flash_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct piece *piece = action->owner;
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    for (uint32_t i = 0; i < action->count; i++) {
        uint64_t key = key_of(piece->volume, piece->block + action->first + i);
        bool mismatch = event->bad_mask >> i & 1;

        if (event->result >= 0 && !mismatch)
            continue;
        /* Which of several the device cannot read shows when each is read alone. */
        if (event->result < 0 && action->count > 1)
            read_flash(shard, piece, action->first + i, 1, action->slot + i, out);
        else if (!read_slot_bad(shard, action->slot + i, key, event->result >= 0, out))
            piece->error = -EIO;
        else
            read_blocks(shard, piece, volume, action->first + i, 1, out);
    }
    shard_flash_read_end(shard, action->slot);
    shard->unblock = true;
    if (--piece->ios == 0)
        action_reply(out, piece, piece->error);
}

/* Reserves frames for the blocks of a miss that may enter the cache.  Only now: a slow backing
 * store does not hold the RAM tier's frames. */
static uint64_t fill_reserve(struct shard *shard, struct piece *piece, uint32_t first,
                             uint32_t count, struct actions *out)
{
    struct shard_volume *volume = shard_volume(shard, piece->volume);
    uint64_t range = piece_range(first, count), filled = 0;
    bool fresh = piece->generation == *ram_generation(shard, key_of(piece->volume, piece->block));

    fresh |= MUTANT(105);
    if (volume && fresh && piece->fill_mask & range)
        ram_make_room(shard, count, out);
    if (shard->index_inserts != piece->index_inserts)
        piece->unknown_mask = 0;
    for (uint32_t i = first; volume && fresh && i < first + count; i++) {
        uint64_t key = key_of(piece->volume, piece->block + i);
        struct index_entries entries = {.flash = NONE, .frame = NONE};

        if (!(piece->fill_mask >> i & 1))
            continue;
        if (!(piece->unknown_mask >> i & 1))
            entries = index_entries(shard, key);
        if (!fill_wanted(shard, piece, volume, key, &entries))
            continue;
        if (entries.flash != NONE && !(shard->slots[entries.flash].bits & SLOT_BAD) &&
            !loss_bypasses(shard, &shard->slots[entries.flash]))
            continue;
        piece->frame[i] = ram_take(shard, volume, key, piece->flags & PIECE_SEQUENTIAL);
        if (piece->frame[i] == NONE)
            volume->counters.overrun_blocks++;
        else
            filled |= UINT64_C(1) << i;
    }
    piece->fill_mask = (piece->fill_mask & ~range) | filled;
    return filled;
}

void read_backing_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct piece *piece = action->owner;

    piece->ios--;
    backing_read_end(shard, piece, action->first, action->count);
    if (event->result < 0) {
        piece->error = event->result;
    } else if (fill_reserve(shard, piece, action->first, action->count, out)) {
        struct action *fill = action_add(out, ACTION_FILL);

        fill->flags = ACTION_PIECE | ACTION_REPORT;
        fill->volume = piece->volume;
        fill->first = action->first;
        fill->count = action->count;
        fill->owner = piece;
        piece->ios++;
    }
    if (piece->ios == 0)
        action_reply(out, piece, piece->error);
}

void read_fill_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;
    struct piece *piece = action->owner;
    struct shard_volume *volume = shard_volume(shard, piece->volume);

    for (uint32_t i = action->first; i < (uint32_t)action->first + action->count; i++) {
        if (!(piece->fill_mask >> i & 1))
            continue;
        ram_filled(shard, piece->frame[i], piece->crc[i]);
        piece->fill_mask &= ~(UINT64_C(1) << i);
        if (volume)
            volume->counters.fill_blocks++;
    }
    ram_write(shard, out);
    ram_reserve(shard, out);
    heat_age(shard);
    if (--piece->ios == 0)
        action_reply(out, piece, piece->error);
}
