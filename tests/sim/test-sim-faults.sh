#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Simulated machines that crash, with disks that fail, decay, hang, misdirect, go and come back.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --seed 1 --seeds 120 --rounds 12 --faults 1
