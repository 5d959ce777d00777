/* SPDX-License-Identifier: Apache-2.0 */
/* A FLUSH: of the flash, and of the backing store where that is needed; waits while the flash is being lost. */
#include <errno.h>

#include "io/cache-private.h"
#include "io/core-private.h"
#include "io/request-private.h"

#define FLASH_LOST_LOOK_NS UINT64_C(10000000)

/* The flash still is what keeps the volume's promises. */
static bool flash_in_use(const struct cache *cache)
{
    return atomic_load(&cache->flash_state) == CACHE_FLASH_OK;
}

static void flush_later(struct request *request);

static void flush_again(struct core *core, struct core_timer *timer)
{
    struct request *request = container_of(timer, struct request, flush_timer);

    (void)core;
    request->flash_failed = false;
    request_flush_start(request);
}

/* The flash failed, or that is being found out, and the volume is not in pass-through yet: what is
 * durable where is about to be decided. */
static void flush_later(struct request *request)
{
    struct core *core = request->core;

    if (core->now_ns - request->received_ns > request->volume->backing_timeout_ns) {
        request->error = -EIO;
        request_finish(request);
        return;
    }
    request->flush_timer.expired = flush_again;
    core_timer_arm(core, &request->flush_timer, core->now_ns + FLASH_LOST_LOOK_NS);
}

static void flush_part_done(struct request *request)
{
    if (--request->pieces_open > 0)
        return;
    if (request->flash_failed && request->error == 0)
        flush_later(request);
    else
        request_finish(request);
}

static void flash_flushed(struct core *core, struct flush_waiter *waiter, int result)
{
    struct request *request = container_of(waiter, struct request, flush_flash);

    (void)core;
    if (result != 0)
        request->flash_failed = true;
    flush_part_done(request);
}

static void backing_flushed(struct core *core, struct flush_waiter *waiter, int result)
{
    struct request *request = container_of(waiter, struct request, flush_backing);

    (void)core;
    if (result != 0)
        request->error = -EIO;
    flush_part_done(request);
}

/* To the backing store only for what went there and no log record covers (DESIGN 6). */
void request_flush_start(struct request *request)
{
    struct cache_volume *volume = cache_volume_of(request->volume);
    struct core *core = request->core;

    if (!flash_in_use(volume->cache) && !atomic_load(&request->volume->detached)) {
        flush_later(request);
        return;
    }
    request->pieces_open = 1;
    if (volume->cache->flash_volatile && !atomic_load(&request->volume->detached)) {
        request->pieces_open++;
        request->flush_flash.done = flash_flushed;
        request->flush_flash.party = &volume->clients_flash;
        flush_join(core, &volume->cache->flush, &request->flush_flash);
    }
    if (atomic_load(&request->volume->backing_writes) !=
        atomic_load(&request->volume->backing_flushed)) {
        request->pieces_open++;
        request->tier = TIER_BACKING;
        request->flush_backing.done = backing_flushed;
        request->flush_backing.party = &volume->clients;
        flush_join(core, &volume->flush, &request->flush_backing);
    }
    flush_part_done(request);
}
