/* SPDX-License-Identifier: Apache-2.0 */
/* Writes what a crash left on the simulated flash to a file, for blkcachectl check and dump. */
#ifndef TESTS_SIM_SAVE_H
#define TESTS_SIM_SAVE_H

#include <stdint.h>

#include "tests/sim/sim-disk.h"

/* DIRECTORY/NUMBER.img, sparse.  Ends the process when that cannot be written. */
void sim_save(const struct disk *flash, const char *directory, uint64_t number);

#endif
