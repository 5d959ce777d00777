#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Simulated machines that crash, with disks that fail, decay, hang, misdirect, go and come back.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --seed 1 --seeds 120 --rounds 12 --faults 1
# The flash wears out; a record of write-through is destaged, too; a doubt ends before a power cut.
for seed in 256 264 283; do
    "$builddir/tests/sim/blkcache-sim" --seed $seed --rounds 20 --faults 1
done
