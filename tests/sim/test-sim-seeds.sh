#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Simulated machines that crash: fixed seeds, each run twice with equal decisions.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --seed 1 --seeds 150 --rounds 12 --faults 0

# Destaging and a write-through write brought the same record to the store; the first one's flush
# called it clean while the second was under way (I4).
"$builddir/tests/sim/blkcache-sim" --seed 1000801 --rounds 20

# A batch with a rotten header was replayed from each echo of it, until the segment seemed to have
# more entries than fit, and its last one, an absent record, was left out.
"$builddir/tests/sim/blkcache-sim" --seed 3002563 --rounds 20 --once

# A failed write waited for room, room for destaging, and that for the end of the write's epoch.
"$builddir/tests/sim/blkcache-sim" --seed 4002310 --rounds 20 --once

# A write-through write was in two batches: the first pinned the oldest segment, which nothing could be
# reclaimed before, and the second, which failed, waited for room.
"$builddir/tests/sim/blkcache-sim" --seed 7039152 --rounds 20 --once

# A failed write that had landed all the same was taken for clean after a restart, as the watermark was
# past it.
"$builddir/tests/sim/blkcache-sim" --seed 7014063 --rounds 20 --once

# Both copies of a segment's header were lost, and later the footer with the verdicts on its records.
"$builddir/tests/sim/blkcache-sim" --seed 7046081 --rounds 20 --once

# The same with a segment that was kept in between.
"$builddir/tests/sim/blkcache-sim" --seed 8034868 --rounds 20 --once

# A write that was rerouted to the backing store undid a later one of its block.
"$builddir/tests/sim/blkcache-sim" --seed 8003659 --rounds 20 --once

# A copy of the superblock rotted, and a power cut tore the other one while it was written.
"$builddir/tests/sim/blkcache-sim" --seed 9040832 --rounds 20 --once

# Lost blocks pinned every segment that was left.
"$builddir/tests/sim/blkcache-sim" --seed 9048992 --rounds 20 --once

# What the checks did not allow and had to: a write of a block in doubt that a kill let land behind a flush;
# blocks given up twice, because giving them up was interrupted; unreadable blocks while shards recover;
# headers that rot before the disk has them; an I/O that was stuck for hours before faults ceased.
for seed in 13044838 13041850 12005041 11001716 15005482; do
    "$builddir/tests/sim/blkcache-sim" --seed $seed --rounds 20 --once
done
