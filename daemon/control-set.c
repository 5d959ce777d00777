/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests "set", "pin" and "unpin": a volume's policy at run time. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "daemon/config-value.h"
#include "daemon/control-change.h"
#include "daemon/settings.h"
#include "daemon/suggest.h"
#include "daemon/transition.h"

#define WHY_BYTES 800

/* The volume's keys as they are in use. */
static struct config_volume in_use(const struct service *service, const struct config_volume *file,
                                   const struct volume *volume)
{
    struct config_volume now = *file;

    now.mode = volume->mode;
    now.dirty_max = volume->dirty_max_percent;
    now.sequential_cutoff = volume->sequential_cutoff_bytes;
    cache_volume_pins(service->cache, volume, &now.pin);
    return now;
}

static const struct config_key *key_of(const struct service *service, const char *name,
                                       const char *volume, char *why)
{
    const char *words[32], *meant;
    unsigned count = 0;

    for (unsigned i = 0; i < config_group_volume.key_count; i++) {
        const struct config_key *key = &config_group_volume.keys[i];

        words[count++] = key->name;
        if (strcmp(key->name, name) != 0)
            continue;
        if (settings_may_change(key))
            return key;
        if (strncmp(name, "share_", 6) == 0) {
            snprintf(why, WHY_BYTES,
                     "%s depends on the other volumes' shares; change it in %s, then: blkcachectl "
                     "reload",
                     name, service->config_path);
            return NULL;
        }
        snprintf(why, WHY_BYTES,
                 "%s cannot change while the volume is in use; change it in %s, then: blkcachectl "
                 "detach %s, and blkcachectl attach %s",
                 name, service->config_path, volume, volume);
        return NULL;
    }
    meant = suggest(name, words, count);
    snprintf(why, WHY_BYTES, "\"%.80s\" is no key of a volume; %s%s%s", name,
             meant != NULL ? "did you mean \""
                           : "those that can be set are mode, dirty_max, "
                             "sequential_cutoff and pin",
             meant != NULL ? meant : "", meant != NULL ? "\"?" : "");
    return NULL;
}

/* What must hold between keys; the rest is checked with each value. */
static bool fits(const struct config_volume *wanted, char *why)
{
    if (wanted->destage != DESTAGE_ORDERED || wanted->mode == MODE_WRITE_BACK)
        return true;
    snprintf(why, WHY_BYTES,
             "its destaging is ordered, which needs write-back; make destage \"sorted\" in the "
             "configuration first, and restart");
    return false;
}

static json_t *keys_json(const struct service *service, const struct config_volume *file,
                         const struct volume *volume)
{
    struct config_volume now = in_use(service, file, volume);
    json_t *keys = json_object();

    for (unsigned i = 0; i < config_group_volume.key_count; i++) {
        const struct config_key *key = &config_group_volume.keys[i];
        char value[CONFIG_VALUE_BYTES], configured[CONFIG_VALUE_BYTES];

        if (!settings_may_change(key))
            continue;
        config_value_print(key, (char *)&now + key->offset, value);
        config_value_print(key, (const char *)file + key->offset, configured);
        json_object_set_new(keys, key->name,
                            json_pack("{s:s, s:s}", "value", value, "configured", configured));
    }
    return keys;
}

static json_t *answer(struct service *service, const struct config_volume *file,
                      const struct volume *volume)
{
    return control_success(json_pack("{s:s, s:o, s:o}", "volume", volume->name, "keys",
                                     keys_json(service, file, volume), "transition",
                                     transition_json(service->transitions, volume)));
}

static void put_in_force(struct service *service, struct volume *volume,
                         const struct config_volume *wanted, const char *key, const char *value)
{
    struct volume_settings settings = {.mode = (uint8_t)wanted->mode,
                                       .dirty_max_percent = wanted->dirty_max,
                                       .share_min_percent = wanted->share_min,
                                       .share_max_percent = wanted->share_max,
                                       .pins = wanted->pin,
                                       .sequential_cutoff_bytes = wanted->sequential_cutoff};
    uint8_t from = volume->mode;

    log_notice("a volume's policy is changed", LOG_STR("volume", volume->name), LOG_STR("key", key),
               LOG_STR("value", value));
    cache_volume_set(service->cache, volume, &settings);
    if (from != volume->mode)
        transition_begin(service->transitions, volume, from);
}

/* Makes durable and puts in force what `wanted` has of `key`. */
static json_t *change(struct service *service, const struct config_volume *file,
                      struct volume *volume, const struct config_key *key,
                      const struct config_volume *wanted, const char *what)
{
    char value[CONFIG_VALUE_BYTES], why[WHY_BYTES];

    config_value_print(key, (const char *)wanted + key->offset, value);
    if (settings_put(service->settings, file, key, value, why, sizeof(why)) != 0)
        return control_refusal(what, why);
    put_in_force(service, volume, wanted, key->name, value);
    return answer(service, file, volume);
}

/* The volume that a request must name; NULL: *refusal is the reply. */
static struct volume *volume_of(struct control_verbs *verbs, const json_t *request,
                                const char *verb, const struct config_volume **file,
                                json_t **refusal)
{
    struct volume *volume;

    if (!control_volume_of(verbs, request, verb, &volume, refusal))
        return NULL;
    *file = volume != NULL ? service_volume_config(verbs->service, volume->name) : NULL;
    if (*file == NULL)
        *refusal = control_refusal(verb, "it names no volume");
    return *file != NULL ? volume : NULL;
}

json_t *control_set(struct control_verbs *verbs, const json_t *request)
{
    struct service *service = verbs->service;
    const char *name = json_string_value(json_object_get(request, "key"));
    const char *text = json_string_value(json_object_get(request, "value"));
    const struct config_volume *file;
    struct config_volume wanted;
    const struct config_key *key;
    json_t *refusal = NULL;
    struct volume *volume = volume_of(verbs, request, "set", &file, &refusal);
    char what[160], why[WHY_BYTES];

    if (volume == NULL)
        return refusal;
    if (name == NULL)
        return answer(service, file, volume);
    snprintf(what, sizeof(what), "set %.128s", volume->name);
    if (text == NULL)
        return control_refusal(what, "it has no value");
    key = key_of(service, name, volume->name, why);
    if (key == NULL)
        return control_refusal(what, why);
    snprintf(what, sizeof(what), "set %.100s %s", volume->name, name);
    wanted = in_use(service, file, volume);
    if (config_value_parse(key, text, (char *)&wanted + key->offset, why, sizeof(why)) != 0 ||
        !fits(&wanted, why))
        return control_refusal(what, why);
    return change(service, file, volume, key, &wanted, what);
}

/* ---- pin and unpin ------------------------------------------------------------------------ */

static json_t *change_pins(struct control_verbs *verbs, const json_t *request, const char *verb)
{
    struct service *service = verbs->service;
    const struct config_volume *file;
    struct config_volume wanted;
    json_t *refusal = NULL;
    struct volume *volume = volume_of(verbs, request, verb, &file, &refusal);
    uint64_t offset, length, end;
    const char *wrong;
    char what[160], why[WHY_BYTES];
    int error;

    if (volume == NULL)
        return refusal;
    snprintf(what, sizeof(what), "%s %.128s", verb, volume->name);
    wrong = control_range_of(request, volume->bytes, &offset, &length);
    if (wrong != NULL)
        return control_refusal(what, wrong);
    wanted = in_use(service, file, volume);
    /* Up to the end of a volume means wherever that will be. */
    end = offset + length == volume->bytes
              ? UINT64_MAX
              : (offset + length + BLOCK_BYTES - 1) & -(uint64_t)BLOCK_BYTES;
    offset &= -(uint64_t)BLOCK_BYTES;
    error = strcmp(verb, "pin") == 0 ? ranges_add(&wanted.pin, offset, end)
                                     : ranges_remove(&wanted.pin, offset, end);
    if (error) {
        snprintf(why, sizeof(why), "these would be more than %u ranges; pin fewer and larger ones",
                 RANGES_MAX);
        return control_refusal(what, why);
    }
    return change(service, file, volume, key_of(service, "pin", volume->name, why), &wanted, what);
}

json_t *control_pin(struct control_verbs *verbs, const json_t *request)
{
    return change_pins(verbs, request, "pin");
}

json_t *control_unpin(struct control_verbs *verbs, const json_t *request)
{
    return change_pins(verbs, request, "unpin");
}
