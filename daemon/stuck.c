/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/stuck.h"

#include <stdio.h>
#include <string.h>

#include "io/backing.h"

#define PATIENCE_SECONDS 10

json_t *stuck_json(struct cache *cache, const struct volume *volume)
{
    uint64_t unreadable = cache_lost_blocks(cache, volume->id);
    char backing[256] = "", text[400];

    unreadable += cache_unreadable_blocks(cache, volume->id);
    backing_state(volume->backing, backing, sizeof(backing));
    if (cache_backing_fails(cache, volume->id) || strncmp(backing, "up", 2) != 0)
        snprintf(text, sizeof(text), "the backing store takes no data: %s", backing);
    else if (unreadable > 0)
        snprintf(text, sizeof(text), "the flash fails to read %llu dirty blocks",
                 (unsigned long long)unreadable);
    else
        return json_null();
    return json_string(text);
}

double stuck_patience(const struct volume *volume)
{
    return (double)volume->backing_timeout_ns / 1e9 + PATIENCE_SECONDS;
}

json_t *stuck_any_json(struct cache *cache, double *patience)
{
    const struct volume *volume;

    *patience = 0;
    for (unsigned i = 0; (volume = volume_at(cache, i)) != NULL; i++) {
        json_t *reason =
            cache_dirty_blocks(cache, volume->id) > 0 ? stuck_json(cache, volume) : NULL;
        char text[VOLUME_NAME_BYTES + 420];

        if (!json_is_string(reason)) {
            json_decref(reason);
            continue;
        }
        snprintf(text, sizeof(text), "volume \"%s\": %s", volume->name, json_string_value(reason));
        json_decref(reason);
        *patience = stuck_patience(volume);
        return json_string(text);
    }
    return json_null();
}
