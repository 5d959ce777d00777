#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl check and dump on images with damage: what the log says was
# durable must be there; what a crash cut off is no problem; nothing crashes.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
requires_built blkcached blkcachectl
requires_free_space 300

ctl() { "$builddir/blkcachectl" "$@"; }

truncate -s 32M "$tmpdir/backing"
format_flash 32M --shards 1 >/dev/null
write_config "name = \"v\"; backing = \"$tmpdir/backing\"; mode = \"write-back\";"
start_daemon
qemu-io -f raw -c 'write -P 1 0 2M' -c flush -c 'write -z 64k 64k' -c 'write -P 2 5M 4k' \
    -c 'discard 1M 64k' -c flush "$(nbd_uri v)" >/dev/null
kill_daemon
cp "$flash" "$tmpdir/crashed"
start_daemon
stop_daemon
clean=$tmpdir/clean crashed=$tmpdir/crashed work=$tmpdir/work
cp "$flash" "$clean"

ctl check "$clean" >"$tmpdir/out" || fail "a clean image has problems: $(cat "$tmpdir/out")"
ctl check "$crashed" >"$tmpdir/out" || fail "a crashed image has problems: $(cat "$tmpdir/out")"
[ "$(ctl check --json "$clean" | jq '.stopped_cleanly, .problem_count' | xargs)" = "true 0" ] ||
    fail "--json of a clean image"
[ "$(ctl check --json "$crashed" | jq '.stopped_cleanly, .problem_count' | xargs)" = "false 0" ] ||
    fail "--json of a crashed image"
[ "$(ctl check --json "$clean" | jq '.data_blocks >= 512')" = true ] || fail "nothing was verified"
ctl dump "$clean" >"$tmpdir/dump" || fail "dump"
ctl dump "$crashed" >"$tmpdir/dump.crashed" || fail "dump of a crashed image"
grep -q '^volume 1 "v"' "$tmpdir/dump" || fail "dump does not show the volume"

# Where the first segment that holds something begins, and where its first
# batch and its footer are.
segment=$(awk '/^segment/ { at = $5 } /batch at slot/ { sub(":", "", at); print at; exit }' "$tmpdir/dump")
batch=$((segment + 4096 * $(sed -n 's/.*batch at slot \([0-9]*\):.*/\1/p' "$tmpdir/dump" | head -n 1)))
footer=$((segment + 4096 * $(sed -n 's/.*footer at slot \([0-9]*\):.*/\1/p' "$tmpdir/dump" | head -n 1)))

# flip IMAGE OFFSET: a copy of the image with one byte changed.
flip() {
    local byte
    cp --reflink=auto "$1" "$work"
    byte=$(od -An -tu1 -j "$2" -N 1 "$work")
    printf '%b' "\\$(printf '%o' $((byte ^ 32)))" | dd of="$work" bs=1 seek="$2" conv=notrunc status=none
}

# found OFFSET WHAT: the change is found in the image that was stopped cleanly.
found() {
    local status=0
    flip "$clean" "$1"
    ctl check --json "$work" >"$tmpdir/out" || status=$?
    [ $status -eq 1 ] || fail "byte $1, $2: status $status"
    [ "$(jq '.problem_count >= 1 and (.problems | length) >= 1' "$tmpdir/out")" = true ] ||
        fail "byte $1, $2: no problem listed"
    ctl dump "$work" >/dev/null || fail "byte $1, $2: dump failed"
}

# Every field, and some bytes between.
end=$((32 << 20))
for at in 0 15 16 20 24 40 48 56 64 72 76 80 84 88 92 200 512 520 2600 6656 6800 65535; do
    found "$at" "superblock"
    found $((end - 65536 + at)) "second superblock"
done
for at in 0 8 24 32 40 48 56 60 62 64 300 512 4095; do
    found $((segment + at)) "segment header"
    found $((segment + 4096 + at)) "second segment header"
done
for at in 0 8 24 32 40 48 56 64 72 76 78 80 82 84 88 92 100 128 140 2100 4095; do
    found $((batch + at)) "batch header"
done
for at in 0 8 24 32 40 48 56 64 68 72 76 90 128 140; do
    found $((footer + at)) "footer"
done
for at in 0 1000 4095; do
    found $((batch + 4096 + at)) "data"
done

# In an image of a crash, damage below the durable mark is found, too.
for at in 0 72 128; do
    flip "$crashed" $((batch + at))
    if ctl check "$work" >"$tmpdir/out"; then fail "a damaged batch of a crashed image"; fi
done
flip "$crashed" $((batch + 4096))
if ctl check "$work" >"$tmpdir/out"; then fail "damaged data of a crashed image"; fi
grep -q "segment .*, slot .* at byte $((batch + 4096)): a data block does not match" "$tmpdir/out" ||
    fail "the place is not told: $(cat "$tmpdir/out")"

# Both superblocks gone, or something else altogether.
cp "$clean" "$work"
dd if=/dev/zero of="$work" bs=4096 count=1 conv=notrunc status=none
ctl check "$work" >/dev/null && fail "one superblock gone: no problem"
dd if=/dev/zero of="$work" bs=4096 seek=$(((end - 65536) / 4096)) count=1 conv=notrunc status=none
status=0
ctl check "$work" 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] || fail "no superblock: status $status"
grep -q "^blkcachectl: check $work: it is not a blkcached cache" "$tmpdir/err" || fail "$(cat "$tmpdir/err")"
ctl dump "$work" >/dev/null 2>&1 && fail "dump of no cache succeeds"

# Large damage: nothing worse than problems.
for ((round = 0; round < 30; round++)); do
    cp "$clean" "$work"
    for ((i = 0; i < 40; i++)); do
        dd if=/dev/urandom of="$work" bs=1 count=$((RANDOM % 200 + 1)) conv=notrunc status=none \
            seek=$(((1 << 20) + (RANDOM * 32768 + RANDOM) % (4 << 20)))
    done
    status=0
    ctl check "$work" >/dev/null || status=$?
    [ $status -le 1 ] || fail "round $round: check ended with $status"
    ctl dump "$work" >/dev/null || fail "round $round: dump"
done
