/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Could the backing store of a volume with ordered destaging, alone, be what a disk with a volatile
 * write cache left when it lost power at some moment of the volume's history?
 *
 * Knows nothing of epochs or of the engine, only of what clients asked and when they were answered.
 * A sector may hold write w if the power was lost at a time in [lo, hi): lo is when w began; hi is
 * when a later write of the sector (one that began after w was answered) was made durable: by the
 * answer to a flush that was sent after the write was answered, or, with FUA, by its own answer.
 * The image is legal if there is one time that is in the intervals of all sectors.
 *
 *      write a  |---|                     sector holds a:  [=========)
 *      write b        |---|               sector holds b:        [==============
 *      flush                  |----|                               ^ hi of a
 */
#ifndef TESTS_SIM_ALONE_H
#define TESTS_SIM_ALONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim-content.h"

struct alone;

/* How far behind the volume it is, at least: the youngest legal moment. */
struct alone_age {
    uint64_t ns, boundaries; /* flushes sent and FUA writes answered since */
};

struct alone *alone_create(void);
void alone_destroy(struct alone *alone);

/* A volume of so many bytes (a multiple of 512), all zeros. */
void alone_reset(struct alone *alone, uint64_t bytes);

/* Whole sectors.  Returns a number for alone_write_end. */
uint32_t alone_write_begin(struct alone *alone, uint64_t now_ns, uint64_t offset, uint64_t length,
                           uint32_t id, bool fua);
void alone_write_end(struct alone *alone, uint64_t now_ns, uint32_t write, int error);
uint64_t alone_flush_begin(struct alone *alone, uint64_t now_ns);
void alone_flush_end(struct alone *alone, uint64_t now_ns, uint64_t begun, int error);

/* Requests in flight are gone; what was not durable may have been lost. */
void alone_crash(struct alone *alone, uint64_t now_ns);

/* False: illegal, and `why` says it.  With `garbage`, sectors that hold nothing known are legal. */
bool alone_check(struct alone *alone, struct content *content, uint16_t volume,
                 const unsigned char *image, bool garbage, uint64_t now_ns, struct alone_age *age,
                 char *why, size_t why_bytes);

#endif
