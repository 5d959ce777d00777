#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A flash that cannot write to some places: the segments there are given up, the
# batches go elsewhere, and clients see success; nothing is lost, over a crash,
# too, and the next start leaves these segments alone.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy
. "$srcdir/tests/system/failures.sh"

truncate -s 64M "$tmpdir/store" "$tmpdir/other"
start_store store
flash_with_faults 64M --shards 1
ram=8M write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\";" \
    "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-through\";"
start_daemon
segment=$(status .flash.segment_bytes)
data=$(blkcachectl --json status | jq -r '.flash.bytes')
[ "$data" -ge $((40 << 20)) ] || fail "the flash has $data bytes"

# Three places, of a batch each; and one whole segment.
rules flash.img "error w 5 $((1048576 + 2 * segment + segment / 2)) $((1048576 + 2 * segment + segment / 2 + 4096))" \
    "error w 5 $((1048576 + 5 * segment + 16384)) $((1048576 + 5 * segment + 20480))" \
    "error w 28 $((1048576 + 9 * segment)) $((1048576 + 10 * segment))"

# Three rounds, and more of them where the log does not get to these places so soon.
retired=0
for ((round = 1; round <= 3 || (retired < 2 && round <= 15); round++)); do
    crash_client write "$(nbd_uri v)" "$tmpdir/record" 0 $((32 << 20)) 3 $round &
    writer=$!
    crash_client write "$(nbd_uri w)" "$tmpdir/record.w" 0 $((16 << 20)) 3 $((round + 10)) &
    neighbour=$!
    wait $writer || fail "round $round: a client of the write-back volume"
    wait $neighbour || fail "round $round: a client of the write-through volume"
    crash_client verify "$(nbd_uri v)" "$tmpdir/record"
    crash_client verify "$(nbd_uri w)" "$tmpdir/record.w"
    retired=$(status .flash.segments.retired)
    if [ $round -lt 3 ]; then
        kill_daemon
        start_daemon
        crash_client verify "$(nbd_uri v)" "$tmpdir/record"
        crash_client verify "$(nbd_uri w)" "$tmpdir/record.w"
        [ "$(status .flash.segments.retired)" -ge "$retired" ] || fail "a restart takes segments back that were given up"
    fi
done

echo "$((round - 1)) rounds, $retired segments given up"
[ "$retired" -ge 2 ] && [ "$retired" -le 3 ] || fail "$retired segments were given up"
grep -q 'a flash write failed: its segment will be retired' "$daemon_log" || fail "nothing in the log"
blkcachectl status | grep -q "$retired of .* segments given up after write errors" || fail "$(blkcachectl status)"
expect "the flash" "$(status .flash.state)" ok
expect "state" "$(volume v state)" ok
expect "state" "$(volume w state)" ok

blkcachectl flush --wait >/dev/null
for pair in v:store w:other; do
    nbdcopy "$(nbd_uri ${pair%:*})" "$tmpdir/seen"
    cmp "$tmpdir/seen" "$tmpdir/${pair#*:}" || fail "the backing store of ${pair%:*} differs"
done
# Reclaim may have come upon the third one meanwhile.
retired=$(status .flash.segments.retired)
stop_daemon
start_daemon
after=$(status .flash.segments.retired)
[ "$after" -ge "$retired" ] && [ "$after" -le 3 ] || fail "$after segments are given up after a clean stop, $retired before"
crash_client verify "$(nbd_uri v)" "$tmpdir/record"
stop_daemon
