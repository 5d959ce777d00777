/* SPDX-License-Identifier: Apache-2.0 */
/* Finds planted bugs: see engine/mutants.h. */
#ifndef TESTS_SIM_MUTANTS_H
#define TESTS_SIM_MUTANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim-world.h"

struct sim_mutant_hunt {
    const char *which; /* "all", "known" (by the file), or numbers with commas */
    const char *known; /* file of seeds that found them once, or NULL */
    uint64_t seed;     /* where others begin */
    uint64_t seconds;  /* for each mutant, besides the known seeds */
    unsigned jobs;
};

/* Prints a line for each and `found N of M`.  False unless all were found. */
bool sim_mutants_hunt(const struct sim_mutant_hunt *hunt);

#endif
