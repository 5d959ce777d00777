/* SPDX-License-Identifier: Apache-2.0 */
/* Plays scripts with every mishap of a kind. */
#ifndef TESTS_SIM_DRIVE_H
#define TESTS_SIM_DRIVE_H

#include "tests/sim/sim-script.h"

struct sim_drive {
    uint64_t seed;
    uint32_t variants;        /* fates of writes that each crash point is tried with */
    uint32_t stride;          /* where not every step is tried, each stride-th */
    uint32_t worker, workers; /* this process does each workers-th mishap */
    bool print;
    struct sim_mishap only; /* with any field set: just this one */
};

/* A power cut, and in other runs the death of the process, after each step. */
void sim_drive_crashes(struct sim_world *world, const struct sim_script *script,
                       const struct sim_drive *drive);

/* A power cut after some steps of the story, and another after some steps of the recovery
 * from it. */
void sim_drive_double(struct sim_world *world, const struct sim_script *script,
                      const struct sim_drive *drive);

/* An error at each I/O, on each device. */
void sim_drive_errors(struct sim_world *world, const struct sim_script *script,
                      const struct sim_drive *drive);

/* Just drive->only. */
void sim_drive_one(struct sim_world *world, const struct sim_script *script,
                   const struct sim_drive *drive);

#endif
