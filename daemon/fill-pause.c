/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses of filling. */
#include "daemon/fill-pause.h"

#include "common/clock.h"
#include "common/log.h"

void fill_pause_begin(struct volume *volume, uint64_t seconds)
{
    char text[CLOCK_TEXT_BYTES];

    atomic_store(&volume->fill_paused_until_ns, clock_ns() + seconds * NS_PER_S);
    log_notice("what is read does not enter the cache for a time", LOG_STR("volume", volume->name),
               LOG_UINT("seconds", seconds),
               LOG_STR("until", clock_print_in(text, seconds * NS_PER_S)));
}

bool fill_pause_end(struct volume *volume)
{
    uint64_t until_ns = atomic_exchange(&volume->fill_paused_until_ns, 0);

    if (until_ns != 0)
        log_notice("what is read enters the cache again", LOG_STR("volume", volume->name),
                   LOG_STR("reason", "resume-fill"));
    return until_ns > clock_ns();
}

uint64_t fill_pause_expire(struct cache *cache, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    struct volume *volume;

    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++) {
        uint64_t until_ns = atomic_load(&volume->fill_paused_until_ns);

        if (until_ns == 0)
            continue;
        if (until_ns > now_ns)
            next_ns = until_ns < next_ns ? until_ns : next_ns;
        /* Unless it was given another end meanwhile, which comes with a kick. */
        else if (atomic_compare_exchange_strong(&volume->fill_paused_until_ns, &until_ns, 0))
            log_notice("what is read enters the cache again", LOG_STR("volume", volume->name),
                       LOG_STR("reason", "the pause is over"));
    }
    return next_ns;
}

void fill_pause_json(const struct volume *volume, json_t *object)
{
    uint64_t until_ns = atomic_load(&volume->fill_paused_until_ns), now_ns = clock_ns();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    char text[CLOCK_TEXT_BYTES];

    json_object_set_new(object, "fill_paused_until",
                        left_ns > 0 ? json_string(clock_print_in(text, left_ns)) : json_null());
    json_object_set_new(object, "fill_paused_seconds",
                        json_integer((json_int_t)((left_ns + NS_PER_S - 1) / NS_PER_S)));
}
