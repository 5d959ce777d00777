/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of a device: belongs to one core, whose ring carries its commands.
 *
 * Each tag has memory of its own.  The kernel copies the payload of a write into it before we hear of
 * the request, and takes the payload of a read from it when we answer; there is headroom in front,
 * so that a write is logged from where it is (C11).
 *
 *                      open            request                    done
 *      CLOSED ------------> FETCHING ----------> SERVING ------------------+
 *                             ^   |  \                                     |
 *                             +---|---\--------- COMMIT_AND_FETCH ---------+
 *               no more will come |    \ request, while the queue is left
 *                             ENDED     LEFT: for the next server, untouched
 *
 * Ends: the kernel takes the device away, and all tags end; or the queue is left, and the end of the
 * ring hands what is in FETCHING and LEFT back to the kernel, for the next server.
 */
#ifndef FRONTENDS_UBLK_QUEUE_H
#define FRONTENDS_UBLK_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontends/ublk/ublk-uapi.h"
#include "io/core.h"
#include "io/request.h"

struct ublk_tag;
struct volume;

#define UBLK_COUNTERS(X)                       \
    X(requests_read, "READ requests")          \
    X(requests_write, "WRITE requests")        \
    X(requests_flush, "FLUSH requests")        \
    X(requests_trim, "DISCARD requests")       \
    X(requests_zero, "WRITE_ZEROES requests")  \
    X(requests_failed, "requests that failed") \
    X(bytes_read, "bytes of payload read")     \
    X(bytes_written, "bytes of payload written")

enum ublk_counter {
#define X(name, text) UBLK_COUNTER_##name,
    UBLK_COUNTERS(X)
#undef X
    UBLK_COUNTER_COUNT
};

/* What the device is told; on the queue's core, at any time. */
enum ublk_queue_event {
    UBLK_QUEUE_OPENED, /* all FETCH commands are with the kernel, or `error` says why not */
    UBLK_QUEUE_ENDED,  /* no tag is with the kernel or the engine any more */
    UBLK_QUEUE_LEFT,   /* no request is with the engine, and none will be */
};

struct ublk_queue {
    /* Set by ublk_queue_create. */
    struct volume *volume;
    struct core *core;
    int fd; /* the character device's */
    uint16_t index, depth;
    bool encoded;
    bool has_flush; /* the kernel sends FLUSH and FUA */
    void (*told)(struct ublk_queue *queue, enum ublk_queue_event event);
    void *owner; /* for `told` */

    const struct ublk_io_description *descriptions; /* mapped, written by the kernel */
    size_t descriptions_bytes;
    unsigned char *memory; /* of the tags */
    size_t memory_bytes, stride_bytes;
    uint32_t io_bytes;

    /* The core's. */
    unsigned fetching, serving, ended;
    bool opened, leaving;
    int error;
    struct core_message message;

    /* Written by the core, read by anyone. */
    _Atomic uint64_t counters[UBLK_COUNTER_COUNT];

    struct ublk_tag *tags;
};

/* Maps and allocates, from any thread.  `queue` is zeros but for what is set as said above.  Negative
 * errno. */
int ublk_queue_create(struct ublk_queue *queue, uint32_t io_bytes);

/* Its tags have ended, or the cores have.  The queue must not be used by a core any more. */
void ublk_queue_destroy(struct ublk_queue *queue);

/* From any thread; `told` says when it is done. */
void ublk_queue_open(struct ublk_queue *queue);

/* From any thread, once opened: finishes what is with the engine, and takes no more requests. */
void ublk_queue_leave(struct ublk_queue *queue);

#endif
