/* SPDX-License-Identifier: Apache-2.0 */
/* Which epoch of a volume may be destaged. */
#include "io/epoch.h"

#include "io/cache-private.h"

static void coordinate(struct core *core, struct cache_volume *volume)
{
    struct cache *cache = volume->cache;
    struct epoch_coordinator *coordinator = &volume->epochs;
    uint64_t now = atomic_load(&volume->volume.epoch), smallest = now, held;
    bool failing = false;

    /* Each shard is told the present epoch before it answers, so that what it says of older ones
     * can only become less while the others are asked. */
    for (unsigned i = 0; i < cache->shard_count; i++) {
        held = shard_runner_epoch_begin(&cache->runners[i], volume->volume.id, now, core_now(core),
                                        &failing);
        smallest = held < smallest ? held : smallest;
    }
    if (smallest == atomic_load(&coordinator->oldest) && failing == coordinator->failing)
        return;
    coordinator->failing = failing;
    atomic_store(&coordinator->oldest, smallest);
    for (unsigned i = 0; i < cache->shard_count; i++)
        shard_runner_epoch_open(&cache->runners[i], volume->volume.id, smallest, failing,
                                core_now(core));
}

/* One round; another one, if somebody asked for it meanwhile, in the core's next turn. */
static void run(struct core *core, struct core_message *message)
{
    struct epoch_coordinator *coordinator =
        container_of(message, struct epoch_coordinator, message);
    struct cache_volume *volume = container_of(coordinator, struct cache_volume, epochs);
    bool again;

    coordinate(core, volume);
    pthread_mutex_lock(&coordinator->lock);
    again = coordinator->again;
    coordinator->again = false;
    coordinator->busy = again;
    pthread_mutex_unlock(&coordinator->lock);
    if (again)
        core_message_send(core, message);
}

static bool take(struct epoch_coordinator *coordinator)
{
    bool taken;

    pthread_mutex_lock(&coordinator->lock);
    taken = !coordinator->busy;
    coordinator->busy = true;
    coordinator->again |= !taken;
    pthread_mutex_unlock(&coordinator->lock);
    return taken;
}

void epoch_advance(struct core *core, struct cache_volume *volume)
{
    if (volume->volume.destage == DESTAGE_ORDERED && take(&volume->epochs))
        run(core, &volume->epochs.message);
}

void epoch_begin(struct cache_volume *volume)
{
    if (volume->volume.destage == DESTAGE_ORDERED && take(&volume->epochs))
        core_message_send(core_at(0), &volume->epochs.message);
}

void epoch_init(struct epoch_coordinator *coordinator)
{
    pthread_mutex_init(&coordinator->lock, NULL);
    coordinator->busy = coordinator->again = coordinator->failing = false;
    coordinator->message.handle = run;
    atomic_init(&coordinator->oldest, 0);
}

void epoch_destroy(struct epoch_coordinator *coordinator)
{
    pthread_mutex_destroy(&coordinator->lock);
}
