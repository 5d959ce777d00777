#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kept inputs of every fuzz target, once, among them those that found a bug.
. "$srcdir/tests/functions.sh"
requires_free_space 200

export TMPDIR=$tmpdir
targets=0
for directory in "$srcdir"/tests/fuzz/corpus/*/; do
    target=$(basename "$directory")
    requires_built "tests/fuzz/fuzz-$target"
    "$builddir/tests/fuzz/fuzz-$target" -runs=0 "$directory" >"$tmpdir/$target.log" 2>&1 ||
        fail "target $target: status $?; the last input that it names is the one"
    tail -n 1 "$tmpdir/$target.log"
    targets=$((targets + 1))
done
[ $targets -ge 7 ] || fail "only $targets targets have kept inputs"
