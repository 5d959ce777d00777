/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the configuration: the file's text, then its groups against the tables of config-keys.h,
 * then the rules between values (config-rules.c).  Every problem is reported, not only the first.
 */
#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/config-report.h"
#include "daemon/config-rules.h"
#include "daemon/config-text.h"
#include "daemon/config-value.h"
#include "daemon/suggest.h"
#include "engine/shard.h"
#include "frontends/nbd/nbd-server.h"
#include "io/cache.h"

/* ---- the tables ----------------------------------------------------------------------------- */

#define type_text     CONFIG_TEXT
#define type_size     CONFIG_SIZE
#define type_number   CONFIG_NUMBER
#define type_percent  CONFIG_PERCENT
#define type_duration CONFIG_DURATION
#define type_toggle   CONFIG_TOGGLE
#define type_choice   CONFIG_CHOICE
#define type_numbers  CONFIG_NUMBERS
#define type_texts    CONFIG_TEXTS
#define type_ranges   CONFIG_RANGES

#define KEY(group, key, type, low, high, choices, fallback, text) \
    {#key, type_##type, low, high, choices, fallback, text, offsetof(struct config_##group, key)},
#define DAEMON_KEY(...) KEY(daemon, __VA_ARGS__)
#define CACHE_KEY(...)  KEY(cache, __VA_ARGS__)
#define NBD_KEY(...)    KEY(nbd, __VA_ARGS__)
#define TLS_KEY(...)    KEY(tls, __VA_ARGS__)
#define VOLUME_KEY(...) KEY(volume, __VA_ARGS__)

static const struct config_key daemon_keys[] = {CONFIG_DAEMON_KEYS(DAEMON_KEY)};
static const struct config_key cache_keys[] = {CONFIG_CACHE_KEYS(CACHE_KEY)};
static const struct config_key nbd_keys[] = {CONFIG_NBD_KEYS(NBD_KEY)};
static const struct config_key tls_keys[] = {CONFIG_TLS_KEYS(TLS_KEY)};
static const struct config_key volume_keys[] = {CONFIG_VOLUME_KEYS(VOLUME_KEY)};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct config_group config_group_daemon = {"daemon", daemon_keys, COUNT(daemon_keys)};
const struct config_group config_group_cache = {"cache", cache_keys, COUNT(cache_keys)};
const struct config_group config_group_nbd = {"nbd", nbd_keys, COUNT(nbd_keys)};
const struct config_group config_group_tls = {"tls", tls_keys, COUNT(tls_keys)};
const struct config_group config_group_volume = {"", volume_keys, COUNT(volume_keys)};

/* A choice is used as the enumeration it stands for. */
static_assert(LOG_LEVEL_ERROR == 0 && LOG_LEVEL_DEBUG == 4, "order of log_level");
static_assert(NBD_TLS_OFF == 0 && NBD_TLS_ON == 1 && NBD_TLS_REQUIRE == 2, "order of tls.mode");
static_assert(VOLATILE_AUTO == 0 && VOLATILE_YES == 1 && VOLATILE_NO == 2,
              "order of volatile_cache");
static_assert(MODE_WRITE_BACK == 0 && MODE_WRITE_THROUGH == 1 && MODE_WRITE_AROUND == 2 &&
                  MODE_PASS_THROUGH == 3,
              "order of mode");
static_assert(DESTAGE_SORTED == 0 && DESTAGE_ORDERED == 1, "order of destage");

/* ---- groups --------------------------------------------------------------------------------- */

#define GROUP_WORDS_MAX 32

/* "PATH: unknown key", with what it may have meant.  `also` are members that are no plain keys. */
static void report_unknown(const struct config_group *group, const char *const *also,
                           const config_setting_t *member, const char *path,
                           struct config_report *report)
{
    const char *words[GROUP_WORDS_MAX];
    const char *meant;
    unsigned count = 0;

    for (unsigned i = 0; group != NULL && i < group->key_count; i++)
        words[count++] = group->keys[i].name;
    for (; also != NULL && *also != NULL; also++)
        words[count++] = *also;
    assert(count <= GROUP_WORDS_MAX);
    meant = suggest(config_setting_name(member), words, count);
    if (meant != NULL)
        config_report_error(report, member, path, "unknown key; did you mean \"%s\"?", meant);
    else
        config_report_error(report, member, path,
                            "unknown key; take it away, or see blkcached.conf(5) for the keys");
}

static const struct config_key *key_find(const struct config_group *group, const char *name)
{
    for (unsigned i = 0; i < group->key_count; i++) {
        if (strcmp(group->keys[i].name, name) == 0)
            return &group->keys[i];
    }
    return NULL;
}

static bool is_among(const char *const *words, const char *name)
{
    for (; words != NULL && *words != NULL; words++) {
        if (strcmp(*words, name) == 0)
            return true;
    }
    return false;
}

/* Reads the members of `setting` (NULL: the group is not there) into `fields`. */
static void group_read(const struct config_group *group, const char *const *also,
                       config_setting_t *setting, void *fields, const char *prefix,
                       struct config_report *report)
{
    char path[CONFIG_PATH_BYTES];

    if (setting != NULL && config_setting_type(setting) != CONFIG_TYPE_GROUP) {
        config_report_error(report, setting, prefix, "is no group; write { key = value; ... }");
        return;
    }
    for (int i = 0; setting != NULL && i < config_setting_length(setting); i++) {
        config_setting_t *member = config_setting_get_elem(setting, (unsigned)i);
        const struct config_key *key = key_find(group, config_setting_name(member));

        snprintf(path, sizeof(path), "%s.%.100s", prefix, config_setting_name(member));
        if (key != NULL)
            config_value_read(key, member, (char *)fields + key->offset, path, report);
        else if (!is_among(also, config_setting_name(member)))
            report_unknown(group, also, member, path, report);
    }
    for (unsigned i = 0; i < group->key_count; i++) {
        const struct config_key *key = &group->keys[i];

        if (setting != NULL && config_setting_get_member(setting, key->name) != NULL)
            continue;
        snprintf(path, sizeof(path), "%s.%s", prefix, key->name);
        if (key->fallback == NULL)
            config_report_error(report, setting, path, "is missing; give a %s", key->text);
        else
            config_value_fall_back(key, (char *)fields + key->offset);
    }
}

static void group_free(const struct config_group *group, void *fields)
{
    for (unsigned i = 0; i < group->key_count; i++)
        config_value_free(&group->keys[i], (char *)fields + group->keys[i].offset);
}

static void volumes_read(struct config *config, config_setting_t *list,
                         struct config_report *report)
{
    unsigned count;

    if (list == NULL)
        return;
    if (config_setting_type(list) != CONFIG_TYPE_LIST) {
        config_report_error(report, list, "volumes", "is no list; write ( { ... }, { ... } )");
        return;
    }
    count = (unsigned)config_setting_length(list);
    config->volumes = calloc(count ? count : 1, sizeof(*config->volumes));
    assert(config->volumes != NULL);
    for (unsigned i = 0; i < count; i++) {
        struct config_volume *volume = &config->volumes[i];
        char prefix[32];

        snprintf(prefix, sizeof(prefix), "volumes[%u]", i);
        volume->setting = config_setting_get_elem(list, i);
        group_read(&config_group_volume, NULL, volume->setting, volume, prefix, report);
        config->volume_count++;
    }
}

static void top_read(struct config *config, struct config_report *report)
{
    static const char *const top[] = {"daemon", "cache", "nbd", "volumes", NULL};
    static const char *const in_nbd[] = {"tls", NULL};
    config_setting_t *root = config_root_setting(&config->file);

    for (int i = 0; i < config_setting_length(root); i++) {
        config_setting_t *member = config_setting_get_elem(root, (unsigned)i);

        if (!is_among(top, config_setting_name(member)))
            report_unknown(NULL, top, member, config_setting_name(member), report);
    }
    config->daemon.setting = config_setting_get_member(root, "daemon");
    config->cache.setting = config_setting_get_member(root, "cache");
    config->nbd.setting = config_setting_get_member(root, "nbd");
    if (config->nbd.setting != NULL)
        config->nbd.tls.setting = config_setting_get_member(config->nbd.setting, "tls");
    group_read(&config_group_daemon, NULL, config->daemon.setting, &config->daemon, "daemon",
               report);
    group_read(&config_group_cache, NULL, config->cache.setting, &config->cache, "cache", report);
    group_read(&config_group_nbd, in_nbd, config->nbd.setting, &config->nbd, "nbd", report);
    group_read(&config_group_tls, NULL, config->nbd.tls.setting, &config->nbd.tls, "nbd.tls",
               report);
    volumes_read(config, config_setting_get_member(root, "volumes"), report);
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Files that are included are looked for beside the one that names them. */
static void set_include_dir(config_t *file, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir;

    if (slash == NULL)
        return;
    dir = strndup(path, (size_t)(slash - path) + 1);
    if (dir != NULL)
        config_set_include_dir(file, dir);
    free(dir);
}

static void report_unreadable(struct config_report *report, const char *path, int error)
{
    report->errors++;
    if (error == -EFBIG)
        fprintf(report->to, "%s: is longer than 1 MiB; is it the right file?\n", path);
    else if (error == -EILSEQ)
        fprintf(report->to, "%s: is no text; is it the right file?\n", path);
    else
        fprintf(report->to, "%s: cannot be read: %s; name the configuration with -c FILE\n", path,
                strerror(-error));
}

static void report_syntax(struct config_report *report, const config_t *file)
{
    char what[200];

    snprintf(what, sizeof(what), "%s; look for what is missing at the end of the line before, too",
             config_error_text(file));
    config_report_line(report, config_error_file(file), (unsigned)config_error_line(file), what);
}

/* Reads the text and lets libconfig parse it.  Returns 0 or -EINVAL after a report. */
static int file_read(config_t *file, const char *path, struct config_report *report)
{
    char *text, *normal;
    unsigned line;
    int error = config_text_read(path, &text);

    if (error) {
        report_unreadable(report, path, error);
        return -EINVAL;
    }
    error = config_text_normalise(text, strlen(text), &normal, &line);
    free(text);
    if (error) {
        config_report_line(report, path, line, "a number is too large; make it smaller");
        return -EINVAL;
    }
    set_include_dir(file, path);
    if (!config_read_string(file, normal)) {
        report_syntax(report, file);
        error = -EINVAL;
    }
    free(normal);
    return error;
}

int config_load(struct config **config, const char *path, FILE *problems)
{
    struct config_report report = {.to = problems, .file = path};
    struct config *new = calloc(1, sizeof(*new));

    assert(new != NULL);
    config_init(&new->file);
    if (file_read(&new->file, path, &report) == 0) {
        top_read(new, &report);
        /* The rules take values for granted. */
        if (report.errors == 0)
            config_rules_check(new, &report);
    }
    new->warnings = report.warnings;
    if (report.errors > 0) {
        config_free(new);
        return -EINVAL;
    }
    *config = new;
    return 0;
}

bool config_has_ublk(const struct config *config)
{
    for (unsigned i = 0; i < config->volume_count; i++) {
        if (config->volumes[i].ublk >= 0)
            return true;
    }
    return false;
}

const struct config_volume *config_volume_find(const struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->volume_count; i++) {
        if (strcmp(config->volumes[i].name, name) == 0)
            return &config->volumes[i];
    }
    return NULL;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    group_free(&config_group_daemon, &config->daemon);
    group_free(&config_group_nbd, &config->nbd);
    for (unsigned i = 0; i < config->volume_count; i++)
        group_free(&config_group_volume, &config->volumes[i]);
    free(config->volumes);
    config_destroy(&config->file);
    free(config);
}
