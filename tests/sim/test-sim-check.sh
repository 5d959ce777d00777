#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What simulated crashes leave on flash, of power and of the process, with and
# without a write cache: "blkcachectl check", which knows the format and not the
# engine, finds nothing, and "dump" prints it.
. "$srcdir/tests/functions.sh"
requires_built blkcachectl tests/sim/blkcache-sim

images=0
for ((seed = 1; seed <= 24; seed++)); do
    mkdir "$tmpdir/images"
    "$builddir/tests/sim/blkcache-sim" --seed $seed --rounds 6 --faults 0 --once --quiet \
        --images "$tmpdir/images" >"$tmpdir/sim.log" || fail "seed $seed: $(cat "$tmpdir/sim.log")"
    for image in "$tmpdir"/images/*.img; do
        [ -e "$image" ] || continue
        "$builddir/blkcachectl" check "$image" >"$tmpdir/check.log" 2>&1 ||
            fail "seed $seed, ${image##*/}: $(cat "$tmpdir/check.log")"
        "$builddir/blkcachectl" dump "$image" >"$tmpdir/dump" || fail "seed $seed, ${image##*/}: dump"
        images=$((images + 1))
    done
    rm -r "$tmpdir/images"
done
[ $images -ge 80 ] || fail "only $images images"
echo "$images images"
