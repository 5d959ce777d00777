/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume's ublk device, from its number to its end.  docs/ublk.md draws the states.
 *
 * All that waits for the kernel happens on threads that are no core: the device's own, while it
 * starts, and the caller's of ublk_device_stop.  The cores serve the queues meanwhile.
 */
#ifndef FRONTENDS_UBLK_DEVICE_H
#define FRONTENDS_UBLK_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "frontends/ublk/ublk-control.h"
#include "frontends/ublk/ublk-queue.h"

struct volume;

enum ublk_device_state {
    UBLK_DEVICE_STARTING,
    UBLK_DEVICE_SERVING,
    UBLK_DEVICE_FAILED, /* it did not start */
    UBLK_DEVICE_GONE,   /* stopped, and deleted */
    UBLK_DEVICE_LEFT,   /* stopped, and left to the kernel for the next start */
};

struct ublk_device {
    struct volume *volume;
    unsigned number;
    atomic_int state; /* enum ublk_device_state */

    pthread_t thread; /* that starts it */
    bool thread_runs;
    struct ublk_control control;
    struct ublk_info info;
    bool exists;  /* in the kernel, and ours */
    bool adopted; /* found, left behind by another daemon */
    int fd;       /* /dev/ublkcN */
    unsigned queue_count;
    struct ublk_queue *queues;

    /* What the queues told. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned queues_opened, queues_ended, queues_left;
    int queue_error;

    int error; /* FAILED: why */
    char why[512];
};

/* Starts to start it; nothing is waited for. */
void ublk_device_start(struct ublk_device *device, struct volume *volume);

/* Waits until `due_ns` (CLOCK_MONOTONIC) for it to serve or to fail; false: it still starts. */
bool ublk_device_wait(struct ublk_device *device, uint64_t due_ns);

/* Ends it: GONE when nobody uses it, else LEFT, which the next start of a daemon adopts.  Waits for
 * what is under way. */
void ublk_device_stop(struct ublk_device *device);

/* Ends it and makes it GONE, unless somebody uses it: false, and a sentence. */
bool ublk_device_take_away(struct ublk_device *device, char *why, size_t why_bytes);

/* After the cores ended.  What is LEFT is now the kernel's. */
void ublk_device_destroy(struct ublk_device *device);

/* The mark of a volume's devices, in ublk_info.server_flags. */
uint64_t ublk_device_mark(struct volume *volume);

/* Deletes a device that an earlier daemon left behind under a number that no volume has now.  False
 * and `why`: it is in use. */
bool ublk_device_clear(struct ublk_control *control, unsigned number, char *why, size_t why_bytes);

#endif
