/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running service: cache and front ends, as the configuration says, in one start and one stop.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "frontends/nbd/nbd-server.h"
#include "frontends/ublk/ublk-server.h"
#include "io/cache.h"

/* What the command line asks for beyond the configuration, for one start: docs/attachment.md. */
#define SERVICE_FORCED_MAX 220
struct service_force {
    bool without_flash, drain_flash;
    const char *discard_dirty[SERVICE_FORCED_MAX], *trust_flash[SERVICE_FORCED_MAX]; /* volumes */
    unsigned discard_dirty_count, trust_flash_count;
};

/* What people are told. */
enum service_state {
    SERVICE_STARTING,
    SERVICE_RUNNING,
    SERVICE_FLUSHING, /* a shutdown that waits for dirty data to be written back */
    SERVICE_STOPPING,
};

struct changes;
struct history;
struct jobs;
struct settings;
struct transitions;
struct upkeep;
struct web;

struct service {
    const char *config_path;
    const struct config *config;
    unsigned *cores; /* processor numbers */
    unsigned core_count;
    struct cache *cache;
    struct nbd_server *nbd;
    bool sockets_given; /* nbd.listen does not count */
    struct ublk_server *ublk;
    struct history *history;
    struct upkeep *upkeep;
    struct jobs *jobs;
    struct changes *changes;
    struct service_extra *extra; /* volumes that were attached from a later file than `config` */
    struct config *reloaded;     /* NULL: `config` is the caller's still */
    struct settings *settings;
    struct transitions *transitions;
    struct web *web;     /* NULL: off, or it could not listen */
    uint64_t started_ns; /* CLOCK_MONOTONIC */
    atomic_int state;    /* enum service_state */
};

/* Sockets that the process was started with. */
struct service_sockets {
    const int *listening; /* instead of nbd.listen; taken over */
    unsigned listening_count;
    bool single; /* serve this connection and nobody else; taken over */
    int single_fd;
    void (*single_gone)(void *opaque); /* it was closed; called on a core */
    void *opaque;
};

/* What the configuration says of a volume in service.  Valid while the cache is held, or on the thread
 * of changes. */
const struct config_volume *service_volume_config(const struct service *service, const char *name);

/* The volume's configuration is in `config`, which is taken over.  False: no memory. */
bool service_keep(struct service *service, const char *name, struct config *config);

/* From now on all volumes' configuration is in `config`, which is taken over. */
void service_replace(struct service *service, struct config *config);

/* The first volume of the configuration that is exported is the one without a name, if it is in
 * service. */
void service_set_unnamed(struct service *service);

/* What the server is told of limits. */
struct nbd_limits service_nbd_limits(const struct config_nbd *from);
struct nbd_tls_config service_nbd_tls(const struct config_nbd *from); /* its texts are borrowed */

/* What the cache is told of a volume. */
struct service_force;
struct cache_volume_config service_cache_config(const struct config_volume *from,
                                                const struct service_force *force);

const char *service_state_name(enum service_state state);

/* cache_drain() with what the configuration says; nothing runs afterwards. */
int service_drain(const struct config *config, const struct service_force *force, char *why,
                  size_t why_bytes);

/* Opens everything that can be refused, recovers, and serves.  Negative errno and a sentence in
 * `why`; nothing runs then. */
int service_start(struct service *service, const struct config *config, const char *config_path,
                  const struct service_sockets *sockets, const struct service_force *force,
                  char *why, size_t why_bytes);

/* Answers what is under way and stops cleanly.  A negative errno and `why`: not cleanly, which
 * loses nothing and costs a recovery. */
int service_stop(struct service *service, char *why, size_t why_bytes);

#endif
