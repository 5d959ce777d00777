/* SPDX-License-Identifier: Apache-2.0 */
/* Count-min sketch of TinyLFU (Einziger, Friedman, Manes, ACM TOS 2017). */
#include "replay/sketch.h"

#include <stdlib.h>

#include "common/hash.h"

#define ROWS               4u
#define COUNTERS_PER_BLOCK 4u  /* in each row */
#define PERIOD             10u /* halved after so many accesses per block */

bool sketch_init(struct sketch *sketch, uint64_t blocks)
{
    sketch->bits = 6;
    while (UINT64_C(1) << sketch->bits < blocks * COUNTERS_PER_BLOCK)
        sketch->bits++;
    sketch->adds = 0;
    sketch->period = PERIOD * (blocks ? blocks : 1);
    sketch->counter = calloc(ROWS, UINT64_C(1) << sketch->bits);
    return sketch->counter != NULL;
}

void sketch_free(struct sketch *sketch)
{
    free(sketch->counter);
}

static uint8_t *counter_of(const struct sketch *sketch, uint64_t block, unsigned row)
{
    uint64_t hash = hash_pair64(block, row) >> (64 - sketch->bits);

    return &sketch->counter[((uint64_t)row << sketch->bits) + hash];
}

unsigned sketch_estimate(const struct sketch *sketch, uint64_t block)
{
    unsigned least = 15;

    for (unsigned row = 0; row < ROWS; row++)
        if (*counter_of(sketch, block, row) < least)
            least = *counter_of(sketch, block, row);
    return least;
}

void sketch_add(struct sketch *sketch, uint64_t block)
{
    unsigned least = sketch_estimate(sketch, block);

    for (unsigned row = 0; row < ROWS && least < 15; row++)
        if (*counter_of(sketch, block, row) == least)
            ++*counter_of(sketch, block, row);
    if (++sketch->adds < sketch->period)
        return;
    sketch->adds /= 2;
    for (uint64_t i = 0; i < (uint64_t)ROWS << sketch->bits; i++)
        sketch->counter[i] /= 2;
}
