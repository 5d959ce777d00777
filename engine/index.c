/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: from (volume, block) to the slot or frame that holds it.
 *
 * Chains are singly linked and new elements go to the front.  Among the flash slots of one block
 * the first in the chain was appended last; this order decides what supersedes what.
 */
#include "common/hash.h"
#include "engine/shard-private.h"
#include "engine/share.h"

void index_insert(struct shard *shard, uint32_t id, uint64_t key)
{
    struct slot *slot = &shard->slots[id];
    uint32_t *bucket = index_bucket(shard, key);

    assert(!(slot->bits & SLOT_LINKED));
    slot_key_set(slot, key);
    slot->next = *bucket;
    slot->bits |= SLOT_LINKED;
    *bucket = id;
    shard->index_inserts++;
}

/* Unlinks without accounting. */
void index_remove(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];
    uint32_t *link = index_bucket(shard, slot_key(slot));

    assert(slot->bits & SLOT_LINKED);
    while (*link != id) {
        assert(*link != NONE);
        link = &shard->slots[*link].next;
    }
    *link = slot->next;
    slot->bits &= (uint16_t)~SLOT_LINKED;
}

uint32_t index_lookup(const struct shard *shard, uint64_t key)
{
    struct index_entries entries = index_entries(shard, key);

    return entries_current(shard, &entries);
}

uint32_t index_flash(const struct shard *shard, uint64_t key)
{
    for (uint32_t id = *index_bucket(shard, key); id != NONE; id = shard->slots[id].next) {
        const struct slot *slot = &shard->slots[id];

        if (slot_key(slot) == key && !(slot->bits & SLOT_PENDING) && !is_frame(shard, id))
            return id;
    }
    return NONE;
}

uint32_t index_older(const struct shard *shard, uint32_t slot)
{
    uint64_t key = slot_key(&shard->slots[slot]);
    uint32_t id = shard->slots[slot].next;

    while (id != NONE && (slot_key(&shard->slots[id]) != key || is_frame(shard, id)))
        id = shard->slots[id].next;
    return id;
}

bool index_pending(const struct shard *shard, uint64_t key)
{
    for (uint32_t id = *index_bucket(shard, key); id != NONE; id = shard->slots[id].next)
        if (shard->slots[id].bits & SLOT_PENDING && slot_key(&shard->slots[id]) == key)
            return true;
    return false;
}

uint32_t index_frame(const struct shard *shard, uint64_t key)
{
    for (uint32_t id = *index_bucket(shard, key); id != NONE; id = shard->slots[id].next)
        if (is_frame(shard, id) && slot_key(&shard->slots[id]) == key)
            return id;
    return NONE;
}

uint32_t index_newer_pending(const struct shard *shard, uint32_t slot)
{
    uint64_t key = slot_key(&shard->slots[slot]);
    uint32_t newer = NONE;

    for (uint32_t id = *index_bucket(shard, key); id != slot; id = shard->slots[id].next)
        if (!is_frame(shard, id) && slot_key(&shard->slots[id]) == key &&
            shard->slots[id].bits & SLOT_PENDING)
            newer = id;
    return newer;
}

bool index_superseded(const struct shard *shard, uint32_t slot)
{
    uint64_t key = slot_key(&shard->slots[slot]);

    for (uint32_t id = *index_bucket(shard, key); id != slot; id = shard->slots[id].next)
        if (!is_frame(shard, id) && slot_key(&shard->slots[id]) == key &&
            !(shard->slots[id].bits & SLOT_PENDING))
            return true;
    return false;
}

static void segment_dirty_add(struct shard *shard, struct segment *segment)
{
    if (segment->dirty++ == 0)
        shard->dirty_segments++;
}

static void segment_dirty_take(struct shard *shard, struct segment *segment)
{
    assert(segment->dirty > 0);
    if (--segment->dirty > 0)
        return;
    shard->dirty_segments--;
    if (shard->reclaim.fruitless_rounds > 0)
        reclaim_retry(shard, 0); /* what the hand waits for */
}

/* A dirty block that cannot be read (or, with -1, is not there or not needed any more). */
void slot_lost(struct shard *shard, uint32_t id, int change)
{
    struct shard_volume *volume = shard_volume(shard, key_volume(slot_key(&shard->slots[id])));

    shard->lost_blocks += (uint64_t)(int64_t)change;
    if (volume)
        volume->lost += (uint64_t)(int64_t)change;
}

/* A dirty block could not be read just now, or could. */
void slot_unreadable(struct shard *shard, uint32_t id, bool unreadable)
{
    struct slot *slot = &shard->slots[id];
    struct shard_volume *volume = shard_volume(shard, key_volume(slot_key(slot)));

    if (!(slot->bits & SLOT_UNREADABLE) == !unreadable)
        return;
    if (unreadable && !destage_has_unreadable(shard))
        shard->destage.unreadable_since_ns = shard->now_ns;
    slot->bits ^= SLOT_UNREADABLE;
    if (volume)
        volume->unreadable += unreadable ? 1 : (uint64_t)-1;
}

void slot_dirty(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];
    struct shard_volume *volume = shard_volume(shard, key_volume(slot_key(slot)));

    assert(!(slot->bits & SLOT_DIRTY));
    slot->bits |= SLOT_DIRTY;
    segment_dirty_add(shard, slot_segment(shard, id));
    shard->dirty_blocks++;
    if (volume)
        volume->dirty++;
    if (slot->bits & SLOT_BAD)
        slot_lost(shard, id, 1);
}

void slot_clean(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];
    struct shard_volume *volume = shard_volume(shard, key_volume(slot_key(slot)));

    assert(slot->bits & SLOT_DIRTY);
    if (slot->bits & SLOT_BAD)
        slot_lost(shard, id, -1);
    else
        epoch_remove(shard, id);
    if (slot->bits & SLOT_WRITTEN && volume && volume->epochs)
        volume->epochs->written--;
    slot_unreadable(shard, id, false);
    slot->bits &= (uint16_t) ~(SLOT_DIRTY | SLOT_WRITTEN);
    segment_dirty_take(shard, slot_segment(shard, id));
    assert(shard->dirty_blocks > 0);
    shard->dirty_blocks--;
    if (volume)
        volume->dirty--;
}

void index_drop(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];
    struct segment *segment = slot_segment(shard, id);

    assert(!is_frame(shard, id) && !(slot->bits & SLOT_PENDING));
    if (slot->bits & SLOT_DIRTY && slot->bits & SLOT_BAD)
        epoch_broken(shard, id);
    if (slot->bits & SLOT_DIRTY)
        slot_clean(shard, id);
    index_remove(shard, id);
    share_take(shard, id);
    slot->bits &= SLOT_DESTAGING; /* the run that has it will see that it is not linked any more */
    assert(segment->live > 0);
    segment->live--;
    shard->live_blocks--;
}

/* The batch with `id` is on flash: readers may see it, older records of the block are superseded.
 * When a newer one was published first, this one is garbage at once.  Ordered destaging keeps the
 * last version of each epoch until that is on the backing store (hazard 18). */
void index_publish(struct shard *shard, uint32_t id)
{
    struct slot *slot = &shard->slots[id];
    uint64_t key = slot_key(slot);
    uint32_t next;
    bool newer = true;

    slot->bits &= (uint16_t)~SLOT_PENDING;
    slot_segment(shard, id)->live++;
    shard->live_blocks++;
    share_add(shard, id);
    for (uint32_t other = *index_bucket(shard, key); other != NONE; other = next) {
        const struct slot *o = &shard->slots[other];

        next = o->next;
        if (other == id) {
            newer = false;
            continue;
        }
        if (slot_key(o) != key || o->bits & SLOT_PENDING || is_frame(shard, other))
            continue;
        if (newer && !MUTANT(1)) {
            if (epoch_retains(shard, id, other))
                continue;
            index_drop(shard, id);
            return;
        }
        if (!epoch_retains(shard, other, id))
            index_drop(shard, other);
    }
}

void index_drop_before(struct shard *shard, uint64_t key, uint64_t ring, uint32_t position)
{
    uint32_t next;

    for (uint32_t id = *index_bucket(shard, key); id != NONE; id = next) {
        const struct slot *slot = &shard->slots[id];
        const struct segment *segment;

        next = slot->next;
        if (slot_key(slot) != key || is_frame(shard, id) || slot->bits & SLOT_PENDING)
            continue;
        segment = slot_segment(shard, id);
        if (segment->ring_sequence < ring ||
            (segment->ring_sequence == ring && slot_in_segment(shard, id) < position))
            index_drop(shard, id);
    }
}
