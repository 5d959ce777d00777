/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: what the file says, checked, with the fallbacks filled in.
 *
 * Problems are written one a line, as  FILE:LINE: KEY: what is wrong; what to do  and warnings as
 * FILE:LINE: KEY: warning: ...  A KEY within a group is named from the top: volumes[1].mode
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <libconfig.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/ranges.h"
#include "daemon/config-keys.h"

/* ---- types of values, by the names that config-keys.h uses --------------------------------- */

struct config_numbers {
    unsigned count;
    unsigned *list;
};

struct config_texts {
    unsigned count;
    const char **list;
};

typedef const char *config_text; /* borrowed from the file */
typedef uint64_t config_size;    /* bytes */
typedef int64_t config_number;   /* -1: not given */
typedef uint32_t config_percent;
typedef uint64_t config_duration; /* ns */
typedef bool config_toggle;
typedef unsigned config_choice; /* index into the choices */
typedef struct config_numbers config_numbers;
typedef struct config_texts config_texts;
typedef struct ranges config_ranges; /* bytes, multiples of 4096 */

#define CONFIG_FIELD(key, type, low, high, choices, fallback, text) config_##type key;

/* `setting` is the group in the file, for the line of a problem; NULL when it is not there. */
struct config_daemon {
    CONFIG_DAEMON_KEYS(CONFIG_FIELD)
    config_setting_t *setting;
};

struct config_cache {
    CONFIG_CACHE_KEYS(CONFIG_FIELD)
    config_setting_t *setting;
};

struct config_tls {
    CONFIG_TLS_KEYS(CONFIG_FIELD)
    config_setting_t *setting;
};

struct config_nbd {
    CONFIG_NBD_KEYS(CONFIG_FIELD)
    struct config_tls tls;
    config_setting_t *setting;
};

struct config_volume {
    CONFIG_VOLUME_KEYS(CONFIG_FIELD)
    config_setting_t *setting;
};

enum config_tls_mode {
    CONFIG_TLS_OFF,
    CONFIG_TLS_ON,
    CONFIG_TLS_REQUIRE
};

struct config {
    struct config_daemon daemon;
    struct config_cache cache;
    struct config_nbd nbd;
    struct config_volume *volumes;
    unsigned volume_count;
    unsigned warnings;
    config_t file;
};

/* Reads and checks the file at `path`; what the file names is not looked at.  Returns 0 and a
 * configuration for config_free, or -EINVAL after writing at least one problem to `problems`. */
int config_load(struct config **config, const char *path, FILE *problems);
void config_free(struct config *config);

/* Whether a volume has a ublk device. */
bool config_has_ublk(const struct config *config);

/* The volume of this name, or NULL. */
const struct config_volume *config_volume_find(const struct config *config, const char *name);

/* ---- the keys ------------------------------------------------------------------------------- */

enum config_type {
    CONFIG_TEXT,
    CONFIG_SIZE,
    CONFIG_NUMBER,
    CONFIG_PERCENT,
    CONFIG_DURATION,
    CONFIG_TOGGLE,
    CONFIG_CHOICE,
    CONFIG_NUMBERS,
    CONFIG_TEXTS,
    CONFIG_RANGES,
};

struct config_key {
    const char *name;
    enum config_type type;
    int64_t low, high;
    const char *choices, *fallback, *text;
    size_t offset; /* of the field in its group's structure */
};

struct config_group {
    const char *name; /* "" when it is an element of a list */
    const struct config_key *keys;
    unsigned key_count;
};

extern const struct config_group config_group_daemon, config_group_cache, config_group_nbd,
    config_group_tls, config_group_volume;

#endif
