/* SPDX-License-Identifier: Apache-2.0 */
/* What "blkcachectl set" changed: {"VOLUME": {"KEY": {"value": "..", "configured": ".."}}} */
#include "daemon/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sync.h"
#include "daemon/config-value.h"
#include "daemon/patient-lock.h"

#define PATH_BYTES 4200

struct settings {
    char state_dir[PATH_BYTES], path[PATH_BYTES + 16], new_path[PATH_BYTES + 20];
    int dir_fd; /* holds the lock on the directory; -1: there is none */
    pthread_mutex_t lock;
    json_t *volumes;
};

bool settings_may_change(const struct config_key *key)
{
    static const char *const keys[] = {"mode", "dirty_max", "sequential_cutoff", "pin"};

    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i], key->name) == 0)
            return true;
    }
    return false;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int save(struct settings *settings, char *why, size_t why_bytes)
{
    int error = 0;

    if (mkdir(settings->state_dir, 0700) != 0 && errno != EEXIST)
        error = -errno;
    if (!error && json_dump_file(settings->volumes, settings->new_path, JSON_INDENT(2)) != 0)
        error = errno != 0 ? -errno : -EIO;
    if (!error)
        error = sync_path(settings->new_path);
    if (!error && rename(settings->new_path, settings->path) != 0)
        error = -errno;
    if (!error)
        error = sync_path(settings->state_dir);
    if (error)
        snprintf(why, why_bytes, "%s: cannot be written: %s", settings->path, strerror(-error));
    return error;
}

static int load(struct settings *settings, char *why, size_t why_bytes)
{
    json_error_t problem;

    settings->volumes = json_load_file(settings->path, JSON_REJECT_DUPLICATES, &problem);
    if (settings->volumes == NULL && access(settings->path, F_OK) != 0)
        settings->volumes = json_object();
    if (json_is_object(settings->volumes))
        return 0;
    snprintf(why, why_bytes,
             "%s: is damaged (%s): it held what \"blkcachectl set\" changed; remove it, and set "
             "that again",
             settings->path, settings->volumes == NULL ? problem.text : "not an object");
    return -EBADMSG;
}

/* Two daemons would overwrite what each other set and noted, for as long as they live. */
static int take_dir(struct settings *settings, char *why, size_t why_bytes)
{
    int error;

    if (mkdir(settings->state_dir, 0700) != 0 && errno != EEXIST)
        error = -errno;
    else {
        settings->dir_fd = open(settings->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        error = settings->dir_fd < 0 ? -errno : patient_lock(settings->dir_fd, LOCK_EX);
    }
    if (error == -EWOULDBLOCK) {
        snprintf(
            why, why_bytes,
            "state directory %s: another blkcached uses it; stop that, or give this one another "
            "daemon.state_dir",
            settings->state_dir);
        return -EBUSY;
    }
    if (settings->dir_fd >= 0) /* the file system may know no locks */
        return 0;
    snprintf(why, why_bytes,
             "state directory %s: cannot be used: %s; create it, or give another "
             "daemon.state_dir",
             settings->state_dir, strerror(-error));
    return error;
}

int settings_begin(struct settings **begun, const char *state_dir, char *why, size_t why_bytes)
{
    struct settings *settings = calloc(1, sizeof(*settings));
    int error;

    if (settings == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    settings->dir_fd = -1;
    pthread_mutex_init(&settings->lock, NULL);
    snprintf(settings->state_dir, sizeof(settings->state_dir), "%s", state_dir);
    snprintf(settings->path, sizeof(settings->path), "%s/settings.json", state_dir);
    snprintf(settings->new_path, sizeof(settings->new_path), "%s.new", settings->path);
    error = take_dir(settings, why, why_bytes);
    if (!error)
        error = load(settings, why, why_bytes);
    if (error) {
        settings_end(settings);
        return error;
    }
    *begun = settings;
    return 0;
}

void settings_end(struct settings *settings)
{
    if (settings == NULL)
        return;
    json_decref(settings->volumes);
    if (settings->dir_fd >= 0)
        close(settings->dir_fd);
    pthread_mutex_destroy(&settings->lock);
    free(settings);
}

/* ---- what is set ---------------------------------------------------------------------------- */

/* Under the lock.  NULL: nothing of this name was set. */
static const char *set_value(const json_t *of_volume, const char *key, const char **configured)
{
    const json_t *entry = json_object_get(of_volume, key);

    *configured = json_string_value(json_object_get(entry, "configured"));
    return *configured != NULL ? json_string_value(json_object_get(entry, "value")) : NULL;
}

/* Under the lock.  False: it is overtaken, or was never right. */
static bool apply_key(const json_t *of_volume, const struct config_key *key,
                      struct config_volume *volume)
{
    void *field = (char *)volume + key->offset;
    const char *configured, *value = set_value(of_volume, key->name, &configured);
    char now[CONFIG_VALUE_BYTES], why[600];

    if (value == NULL)
        return true;
    if (strcmp(config_value_print(key, field, now), configured) != 0) {
        log_notice("the configuration was changed after \"blkcachectl set\", and counts",
                   LOG_STR("volume", volume->name), LOG_STR("key", key->name),
                   LOG_STR("value", now), LOG_STR("was_set_to", value));
        return false;
    }
    if (config_value_parse(key, value, field, why, sizeof(why)) != 0)
        return false;
    /* Made ordered since then. */
    if (volume->destage == DESTAGE_ORDERED && volume->mode != MODE_WRITE_BACK) {
        volume->mode = MODE_WRITE_BACK;
        return false;
    }
    log_notice("as set with \"blkcachectl set\", not as configured",
               LOG_STR("volume", volume->name), LOG_STR("key", key->name), LOG_STR("value", value),
               LOG_STR("configured", now));
    return true;
}

void settings_apply(struct settings *settings, struct config_volume *volume)
{
    json_t *of_volume;
    bool overtaken = false;
    char why[PATH_BYTES + 200];

    if (settings == NULL)
        return;
    pthread_mutex_lock(&settings->lock);
    of_volume = json_object_get(settings->volumes, volume->name);
    for (unsigned i = 0; i < config_group_volume.key_count && of_volume != NULL; i++) {
        const struct config_key *key = &config_group_volume.keys[i];

        if (settings_may_change(key) && !apply_key(of_volume, key, volume)) {
            json_object_del(of_volume, key->name);
            overtaken = true;
        }
    }
    /* When it is not saved it is found again, and dropped again. */
    if (overtaken && save(settings, why, sizeof(why)) != 0)
        log_warning("what was set cannot be saved", LOG_STR("reason", why));
    pthread_mutex_unlock(&settings->lock);
}

int settings_put(struct settings *settings, const struct config_volume *file,
                 const struct config_key *key, const char *value, char *why, size_t why_bytes)
{
    char configured[CONFIG_VALUE_BYTES];
    json_t *of_volume, *before;
    int error;

    config_value_print(key, (const char *)file + key->offset, configured);
    pthread_mutex_lock(&settings->lock);
    before = json_deep_copy(settings->volumes);
    of_volume = json_object_get(settings->volumes, file->name);
    if (of_volume == NULL) {
        of_volume = json_object();
        json_object_set_new(settings->volumes, file->name, of_volume);
    }
    if (strcmp(value, configured) == 0)
        json_object_del(of_volume, key->name);
    else
        json_object_set_new(of_volume, key->name,
                            json_pack("{s:s, s:s}", "value", value, "configured", configured));
    if (json_object_size(of_volume) == 0)
        json_object_del(settings->volumes, file->name);
    error = save(settings, why, why_bytes);
    if (error) {
        json_decref(settings->volumes);
        settings->volumes = before;
    } else {
        json_decref(before);
    }
    pthread_mutex_unlock(&settings->lock);
    return error;
}
