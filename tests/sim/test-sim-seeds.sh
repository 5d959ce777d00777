#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Simulated machines that crash: fixed seeds, each run twice with equal decisions.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --seed 1 --seeds 150 --rounds 12 --faults 0
