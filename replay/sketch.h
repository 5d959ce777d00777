/* SPDX-License-Identifier: Apache-2.0 */
/* A count-min sketch with 4-bit counters, halved now and then, as TinyLFU has it. */
#ifndef REPLAY_SKETCH_H
#define REPLAY_SKETCH_H

#include <stdbool.h>
#include <stdint.h>

struct sketch {
    uint8_t *counter; /* one counter a byte, up to 15: this is a model, not a product */
    unsigned bits;
    uint64_t adds, period;
};

bool sketch_init(struct sketch *sketch, uint64_t blocks);
void sketch_free(struct sketch *sketch);
void sketch_add(struct sketch *sketch, uint64_t block);
unsigned sketch_estimate(const struct sketch *sketch, uint64_t block);

#endif
