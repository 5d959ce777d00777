/* SPDX-License-Identifier: Apache-2.0 */
/* What was explored, in numbers. */
#ifndef TESTS_SIM_REPORT_H
#define TESTS_SIM_REPORT_H

#include "tests/sim/sim-world.h"

void sim_totals_add(struct sim_totals *sum, const struct sim_totals *more);
void sim_report(const struct sim_totals *totals, double seconds);

#endif
