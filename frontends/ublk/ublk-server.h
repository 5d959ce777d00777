/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ublk front end: a device for each volume that has a number.
 *
 *   ublk_server_create   looks at what there is; nothing is changed yet
 *   ublk_server_start    the cores run: adds devices, or adopts those left behind
 *   ublk_server_stop     takes away what nobody uses, leaves the rest for the next start
 *   ublk_server_destroy  after the cores ended
 *
 * All of these from one thread that is no core.
 */
#ifndef FRONTENDS_UBLK_SERVER_H
#define FRONTENDS_UBLK_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontends/ublk/ublk-queue.h"

struct cache;
struct ublk_server;

struct ublk_status {
    unsigned number; /* /dev/ublkbN */
    const char *state;
    bool adopted;
    unsigned queues, depth;
    uint64_t counters[UBLK_COUNTER_COUNT];
};

/* Negative errno, and `why` a sentence: the kernel cannot, or may not, serve ublk devices. */
int ublk_server_create(struct ublk_server **server, struct cache *cache, char *why,
                       size_t why_bytes);

/* Waits for the devices, but not for ever: one whose backing store is slow may still be starting.
 * Negative errno and a sentence: one could not be started; stop and destroy follow. */
int ublk_server_start(struct ublk_server *server, char *why, size_t why_bytes);
void ublk_server_stop(struct ublk_server *server);

/* While it runs: a device for a volume that came, or the end of that of one that leaves.  Negative
 * errno and a sentence: there is no device; it is in use, and serves on. */
int ublk_server_attach(struct ublk_server *server, struct volume *volume, char *why,
                       size_t why_bytes);
int ublk_server_detach(struct ublk_server *server, const struct volume *volume, char *why,
                       size_t why_bytes);
void ublk_server_destroy(struct ublk_server *server);

/* Of the volume's device, from any thread; false: it has none. */
bool ublk_server_status(struct ublk_server *server, const struct volume *volume,
                        struct ublk_status *status);

/* For a check before the start: can this process serve ublk devices? */
int ublk_server_check(char *why, size_t why_bytes);

#endif
