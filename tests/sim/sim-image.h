/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a simulated disk: what reads see, what a power cut leaves, and between the two the
 * records of completed writes that nothing has made durable yet.
 */
#ifndef TESTS_SIM_IMAGE_H
#define TESTS_SIM_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim-random.h"
#include "tests/sim/sim-trace.h"

enum image_fate {
    FATE_LANDS,
    FATE_VANISHES,
    FATE_TORN,
    FATE_GARBAGE,
    FATES
};

struct image;

struct image *image_create(uint64_t bytes);
void image_destroy(struct image *image);

/* All zeros again; costs what was touched since the last time. */
void image_reset(struct image *image, bool write_cache);

const unsigned char *image_current(const struct image *image);
const unsigned char *image_durable(const struct image *image);

/* A write completes: readers see it; durable at once with `durable` or without a cache.  `data`
 * NULL: zeros.  Offsets and lengths are multiples of 512. */
void image_write(struct image *image, uint64_t offset, const unsigned char *data, uint64_t length,
                 bool durable);

/* Records made so far; a flush that was submitted then makes these durable when it completes. */
uint64_t image_mark(const struct image *image);
void image_flush(struct image *image, uint64_t mark);

/* A cache drops what it could not write: each record before the mark with this chance, except
 * durable ones.  Returns how many. */
uint64_t image_drop(struct image *image, uint64_t mark, uint32_t percent,
                    struct sim_random *random);

/* Bytes change on the medium itself. */
void image_damage(struct image *image, uint64_t offset, uint64_t length, struct sim_random *random);

/* The power cut.  begin() takes current back to durable; then each record, and after it each write
 * that was in flight, is settled by its fate. */
uint64_t image_power_cut_begin(struct image *image);
/* The n-th record of those that begin() counted, oldest first; false: it was durable already (and
 * is applied). */
bool image_power_cut_record(struct image *image, uint64_t n, uint64_t *offset, uint64_t *length);
void image_power_cut_settle_record(struct image *image, uint64_t n, enum image_fate fate,
                                   struct sim_random *random);
void image_power_cut_end(struct image *image);
/* To both images. */
void image_settle(struct image *image, uint64_t offset, const unsigned char *data, uint64_t length,
                  enum image_fate fate, struct sim_random *random);

#endif
