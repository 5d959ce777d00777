/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered destaging: which epoch of its volume each dirty slot belongs to, and how much is left of
 * each.  docs/ordered-destage.md says what for.
 *
 *   ring:   first (oldest) ... last = the epoch that new records get, once there is one
 *   tags[]: slot -> sequence number of its epoch in the ring
 *
 * A slot counts from its append until it is clean, lost, or gone.
 */
#include "engine/shard-private.h"

#define UNREADABLE_NS UINT64_C(10000000000)
#define AGE_TARGET_NS UINT64_C(30000000000) /* writers are slowed so that it is kept, roughly */

static struct epoch *epoch_at(const struct shard *shard, const struct epochs *epochs,
                              uint16_t sequence)
{
    return &epochs->ring[sequence & (shard->config.epochs_max - 1)];
}

static struct epoch *epoch_last(const struct shard *shard, const struct epochs *epochs)
{
    return epochs->count == 0
               ? NULL
               : epoch_at(shard, epochs, (uint16_t)(epochs->first + epochs->count - 1));
}

/* The oldest epoch that has something; NULL: none has. */
static struct epoch *epoch_head(const struct shard *shard, const struct epochs *epochs)
{
    return epochs->count == 0 ? NULL : epoch_at(shard, epochs, epochs->first);
}

static struct shard_volume *slot_volume(const struct shard *shard, uint32_t id)
{
    return shard->tags ? shard_volume(shard, key_volume(slot_key(&shard->slots[id]))) : NULL;
}

static struct epochs *slot_epochs(const struct shard *shard, uint32_t id)
{
    const struct shard_volume *volume = slot_volume(shard, id);

    return volume ? volume->epochs : NULL;
}

void epochs_attach(struct shard *shard, struct shard_volume *volume)
{
    uint32_t place = 0;

    if (volume->policy.destage != DESTAGE_ORDERED)
        return;
    assert(shard->epochs_used < shard->config.ordered_volumes);
    while (shard->epochs[place].ring)
        place++;
    volume->epochs = &shard->epochs[place];
    volume->epochs->ring = &shard->epoch_pool[(size_t)place * shard->config.epochs_max];
    shard->epochs_used++;
}

void epochs_detach(struct shard *shard, struct shard_volume *volume)
{
    struct epochs *epochs = volume->epochs;

    if (!epochs)
        return;
    assert(volume->dirty == 0 && epochs->count == 0 && epochs->written == 0);
    *epochs = (struct epochs){.ring = NULL};
    volume->epochs = NULL;
    shard->epochs_used--;
}

/* ---- counting --------------------------------------------------------------------------- */

static void count_in(struct shard *shard, struct epochs *epochs, uint32_t id, uint64_t number)
{
    struct epoch *last = epoch_last(shard, epochs);

    if (!last || last->number != number) {
        assert(epochs->count < shard->config.epochs_max && (!last || last->number < number));
        epochs->count++;
        last = epoch_last(shard, epochs);
        *last = (struct epoch){.number = number};
    }
    last->count++;
    shard->tags[id] = (uint16_t)(epochs->first + epochs->count - 1);
}

/* Slot `id` is about to get this record.  Returns the epoch that the record is in. */
uint64_t epoch_append(struct shard *shard, uint32_t id, const struct append *append)
{
    struct epochs *epochs = slot_epochs(shard, id);
    struct epoch *epoch;

    if (!epochs)
        return append->epoch;
    if (!entry_kind_destaged(append->kind, append->flags)) {
        if (append->flags & ENTRY_POISON) /* not counted; older versions are told from it */
            shard->tags[id] = shard->tags[append->from];
        return append->epoch;
    }
    if (append->lsn) { /* what moves keeps its place in the history (I16) */
        shard->tags[id] = shard->tags[append->from];
        epoch = epoch_at(shard, epochs, shard->tags[id]);
        epoch->count++;
        return append->epoch;
    }
    if (append->epoch > epochs->now)
        shard_epoch_begin(shard, key_volume(append->key), append->epoch, shard->now_ns);
    count_in(shard, epochs, id, epochs->now);
    return epochs->now;
}

void epoch_recovered(struct shard *shard, uint32_t id)
{
    struct epochs *epochs = slot_epochs(shard, id);

    if (epochs && !(shard->slots[id].bits & SLOT_BAD))
        count_in(shard, epochs, id, 0);
}

void epoch_remove(struct shard *shard, uint32_t id)
{
    struct epochs *epochs = slot_epochs(shard, id);
    struct epoch *epoch;

    if (!epochs)
        return;
    epoch = epoch_at(shard, epochs, shard->tags[id]);
    assert(epoch->count > 0);
    if (--epoch->count > 0)
        return;
    while (epochs->count > 0 && epoch_head(shard, epochs)->count == 0) {
        epochs->first++;
        epochs->count--;
    }
    epochs->changed = shard->epochs_changed = true;
}

/* The present epoch, or the last that the ring has room for. */
static uint64_t epoch_deferred(const struct shard *shard, const struct epochs *epochs)
{
    return epochs->count == shard->config.epochs_max ? epoch_last(shard, epochs)->number
                                                     : epochs->now;
}

/* Moves slot `id` to that epoch of its volume.  Returns it. */
uint64_t epoch_defer(struct shard *shard, uint32_t id)
{
    struct epochs *epochs = slot_epochs(shard, id);
    uint64_t number;

    if (!epochs)
        return 0;
    number = epoch_deferred(shard, epochs);
    epoch_remove(shard, id);
    count_in(shard, epochs, id, number);
    return number;
}

bool epoch_full(const struct shard *shard, const struct shard_volume *volume, uint64_t epoch)
{
    const struct epochs *epochs = volume->epochs;

    return epochs && epochs->count == shard->config.epochs_max &&
           epoch_last(shard, epochs)->number < (epoch > epochs->now ? epoch : epochs->now);
}

/* What was lost is found again: its epoch may be over. */
void epoch_found(struct shard *shard, uint32_t id)
{
    struct epochs *epochs = slot_epochs(shard, id);

    if (!epochs)
        return;
    epochs->broken = epochs->now;
    count_in(shard, epochs, id, epoch_deferred(shard, epochs));
}

/* ---- versions --------------------------------------------------------------------------- */

bool epoch_retains(const struct shard *shard, uint32_t older, uint32_t newer)
{
    const struct slot *slot = &shard->slots[older];

    return slot_epochs(shard, older) && !MUTANT(18) &&
           (slot->bits & (SLOT_DIRTY | SLOT_BAD)) == SLOT_DIRTY &&
           shard->slots[newer].bits & SLOT_DIRTY && shard->tags[older] != shard->tags[newer];
}

bool epoch_outdated(const struct shard *shard, uint32_t id)
{
    return slot_epochs(shard, id) && index_superseded(shard, id);
}

/* ---- what to destage -------------------------------------------------------------------- */

bool epoch_may_destage(const struct shard *shard, const struct shard_volume *volume, uint32_t id)
{
    const struct epochs *epochs = volume->epochs;

    /* What was recovered waits until all shards serve: a start that is refused changes nothing.  What
     * a flash that came back is to bring must be destaged before. */
    return !epochs || shard->draining || MUTANT(118) ||
           (epochs->now > 0 && epoch_at(shard, epochs, shard->tags[id])->number <= epochs->oldest);
}

bool epoch_urgent(const struct shard *shard, const struct shard_volume *volume, uint32_t id)
{
    const struct epochs *epochs = volume->epochs;

    return epochs && epoch_at(shard, epochs, shard->tags[id])->number < epochs->now;
}

/* The head, if it may be destaged and is over: all of it, as fast as possible. */
static const struct epoch *urgent_head(const struct shard *shard, const struct epochs *epochs)
{
    const struct epoch *head = epochs ? epoch_head(shard, epochs) : NULL;

    return head && head->number <= epochs->oldest && head->number < epochs->now ? head : NULL;
}

bool epoch_due(const struct shard *shard)
{
    for (uint32_t i = 0; shard->epochs_used > 0 && i < shard->volume_count; i++) {
        const struct shard_volume *volume = &shard->volumes[i];
        const struct epoch *head = urgent_head(shard, volume->epochs);

        if (head && head->count > volume->epochs->written &&
            shard->now_ns >= volume->backoff_until_ns)
            return true;
    }
    return false;
}

bool epoch_wants_flush(const struct shard_volume *volume, const struct shard *shard)
{
    const struct epochs *epochs = volume->epochs;
    const struct epoch *head;

    if (!epochs || epochs->now <= epochs->oldest)
        return false;
    head = urgent_head(shard, epochs);
    if (head)
        return head->count <= epochs->written;
    return volume->around_writes != volume->around_flushed;
}

bool volume_failing(const struct shard_volume *volume)
{
    return volume->failing || (volume->epochs && volume->epochs->failing_elsewhere);
}

uint64_t epoch_late_permille(const struct shard *shard, const struct shard_volume *volume)
{
    const struct epoch *head = volume->epochs ? epoch_head(shard, volume->epochs) : NULL;

    if (!head || head->ended_ns == 0 || head->ended_ns >= shard->now_ns)
        return 0;
    return (shard->now_ns - head->ended_ns) / (AGE_TARGET_NS / 1000);
}

/* ---- what cannot be read ---------------------------------------------------------------- */

void epoch_broken(struct shard *shard, uint32_t id)
{
    struct epochs *epochs = slot_epochs(shard, id);

    if (epochs)
        epochs->broken = epochs->now;
}

/* To the present epoch with it; or away, when there is a newer version. */
static void postpone(struct shard *shard, struct epochs *epochs, uint32_t id)
{
    /* One on its way, in an epoch before the present one, would become the older version. */
    if (index_pending(shard, slot_key(&shard->slots[id])))
        return;
    epochs->broken = epochs->now;
    if (index_superseded(shard, id))
        index_drop(shard, id);
    else
        epoch_defer(shard, id);
}

static void postpone_all(struct shard *shard, const struct shard_volume *volume)
{
    for (uint32_t id = 0; id < shard->slot_count; id++)
        if (shard->slots[id].bits & SLOT_UNREADABLE && slot_volume(shard, id) == volume &&
            !(shard->slots[id].bits & (SLOT_DESTAGING | SLOT_WRITTEN)))
            postpone(shard, volume->epochs, id);
}

void epoch_unstick(struct shard *shard)
{
    for (uint32_t i = 0; shard->epochs_used > 0 && i < shard->volume_count; i++) {
        const struct shard_volume *volume = &shard->volumes[i];
        struct epochs *epochs = volume->epochs;
        const struct epoch *head = urgent_head(shard, epochs);

        if (!head || volume->unreadable == 0 || head->count > epochs->written + volume->unreadable)
            continue;
        if (shard->now_ns < epochs->opened_ns + UNREADABLE_NS) {
            tick_want(shard, epochs->opened_ns + UNREADABLE_NS);
            continue;
        }
        epochs->opened_ns = shard->now_ns;
        postpone_all(shard, volume);
    }
}

/* ---- the coordinator -------------------------------------------------------------------- */

/* The oldest epoch of which something is not on the flushed backing store. */
static uint64_t epoch_held(const struct shard *shard, const struct shard_volume *volume)
{
    const struct epochs *epochs = volume->epochs;
    const struct epoch *head = epoch_head(shard, epochs);
    uint64_t held = head ? head->number : UINT64_MAX;

    if (MUTANT(218) && head && head->count == epochs->written) /* not flushed yet */
        held++;
    if (volume->around_writes != volume->around_flushed && epochs->oldest < held)
        held = epochs->oldest;
    return held;
}

uint64_t shard_epoch_begin(struct shard *shard, uint16_t id, uint64_t epoch, uint64_t now_ns)
{
    struct shard_volume *volume = shard_volume(shard, id);
    struct epochs *epochs = volume ? volume->epochs : NULL;
    struct epoch *last;

    if (!epochs)
        return UINT64_MAX;
    if (epoch > epochs->now) {
        last = epoch_last(shard, epochs);
        if (last && last->ended_ns == 0)
            last->ended_ns = now_ns;
        epochs->now = epoch;
        tick_want(shard, now_ns);
    }
    return epoch_held(shard, volume);
}

void shard_epoch_open(struct shard *shard, uint16_t id, uint64_t oldest, bool failing,
                      uint64_t now_ns)
{
    struct shard_volume *volume = shard_volume(shard, id);
    struct epochs *epochs = volume ? volume->epochs : NULL;

    if (!epochs)
        return;
    assert(oldest >= epochs->oldest && oldest <= epochs->now);
    if (oldest > epochs->oldest)
        epochs->opened_ns = now_ns;
    epochs->oldest = oldest;
    if (failing && !volume_failing(volume))
        volume->failing_since_ns = now_ns;
    epochs->failing_elsewhere = failing;
    tick_want(shard, now_ns);
}

uint64_t shard_epoch_broken(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume && volume->epochs ? volume->epochs->broken : 0;
}

uint64_t shard_epoch_ended_ns(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);
    const struct epoch *head = volume && volume->epochs ? epoch_head(shard, volume->epochs) : NULL;

    return head && head->ended_ns != 0 ? head->ended_ns : UINT64_MAX;
}

void epoch_report(struct shard *shard, struct actions *out)
{
    shard->epochs_changed = false;
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];
        struct epochs *epochs = volume->epochs;

        if (!epochs || !epochs->changed)
            continue;
        if (actions_full(out)) {
            shard->epochs_changed = out->again = true;
            return;
        }
        epochs->changed = false;
        if (epochs->told_failing != volume->failing ||
            (epochs->now > epochs->oldest && epoch_held(shard, volume) > epochs->oldest))
            action_add(out, ACTION_EPOCH)->volume = volume->id;
        epochs->told_failing = volume->failing;
    }
}
