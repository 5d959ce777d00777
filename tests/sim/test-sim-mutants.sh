#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Planted bugs: the simulator finds each of them, with seeds that pass without the bug. Where a seed
# does not find its bug any more, others are tried for a while; "make check-mutants" prints new ones.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim-mutants" --mutants all --known "$srcdir/tests/sim/mutants.txt" \
    --seed 1 --seconds 20 --jobs 2
