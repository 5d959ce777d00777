#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two sequential passes in the middle of other reads, as large as what these touch, make hardly any
# more of these miss, and are not written to flash. With the sequential cutoff and without one.
. "$srcdir/tests/functions.sh"
requires_program jq python3

blocks=30000 reads=150000
generate() {
    python3 "$srcdir/tests/system/generate-trace" "$1" $reads $blocks
}
generate shift >"$tmpdir/alone.csv"
generate scan >"$tmpdir/scan.csv"
more=$(($(wc -l <"$tmpdir/scan.csv") - reads))
[ $more -eq $((2 * blocks / 16 + 2 * (blocks % 16 > 0))) ] || fail "$more requests of the passes"
head -n $((reads / 2 + 1)) "$tmpdir/alone.csv" >"$tmpdir/half.csv"
head -n $((reads / 2 + 1 + more / 2)) "$tmpdir/scan.csv" >"$tmpdir/pass.csv"
head -n $((reads / 2 + 1 + more)) "$tmpdir/scan.csv" >"$tmpdir/passes.csv"

for cutoff in 4M 0; do
    for which in alone scan half pass passes; do
        "$builddir/blkcache-replay" --json --flash 24M --ram 3M --sequential-cutoff $cutoff \
            "$tmpdir/$which.csv" >"$tmpdir/$which.json"
    done
    # The passes' own blocks are all missed. Others may gain: time passes for what they have forgotten.
    jq -e -s '(.[1].read_blocks - .[0].read_blocks) as $passes
        | (.[1].miss_blocks - $passes - .[0].miss_blocks) / .[0].read_blocks
        | . <= 0.003 and . >= -0.01' "$tmpdir/alone.json" "$tmpdir/scan.json" >/dev/null ||
        fail "cutoff $cutoff: the passes change the misses of others:" \
            "$(jq -c .miss_blocks "$tmpdir/alone.json" "$tmpdir/scan.json")"
    # The first pass pushes out of RAM, and so to flash, what others have earned; the second
    # shows that its own blocks do not go there, but for its first 64 KiB, before it is a run, and
    # mistaken fingerprints (0.2 % at most).
    jq -e -s '(.[1].flash_blocks_written - .[0].flash_blocks_written <= .[0].ram_blocks) and
        (.[2].flash_blocks_written - .[1].flash_blocks_written <= 50)' \
        "$tmpdir/half.json" "$tmpdir/pass.json" "$tmpdir/passes.json" >/dev/null ||
        fail "cutoff $cutoff: the passes are written to flash:" \
            "$(jq -c .flash_blocks_written "$tmpdir"/{half,pass,passes}.json)"
    jq -e '.flash_blocks_filled < .flash_blocks and .flash_blocks_promoted > 1000' \
        "$tmpdir/half.json" >/dev/null || fail "the flash was not full before the passes"
done
