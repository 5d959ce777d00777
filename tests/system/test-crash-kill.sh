#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL at random times under write load, 50 rounds (ROUNDS=): after each restart every write that
# was acknowledged before the last acknowledged flush is there, and no block is torn or foreign. The
# cache is much smaller than what is written, so that reclaim and destaging are always under way.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
requires_built blkcached blkcachectl tests/system/crash-client
requires_program jq
requires_free_space 400

rounds=${ROUNDS:-50}
client=$builddir/tests/system/crash-client
bytes=$((64 * 1024 * 1024))

# Not while it connects: it could not tell that from a server that does not work.
client_writes() {
    [ "$(volume v written_bytes)" -gt 0 ]
}

truncate -s $bytes "$tmpdir/backing"
format_flash 40M
ram=8M write_config "name = \"v\"; backing = \"$tmpdir/backing\"; mode = \"write-back\";"
start_daemon
writes=0 began=$SECONDS
for ((round = 1; round <= rounds; round++)); do
    "$client" write "$(nbd_uri v)" "$tmpdir/record" 0 $bytes 20 $round >"$tmpdir/client.log" 2>&1 &
    client_pid=$!
    cleanup_fn end_process $client_pid
    wait_until 60 client_writes
    sleep "0.$((RANDOM % 6 + 1))"
    kill_daemon
    wait $client_pid || fail "round $round: $(cat "$tmpdir/client.log")"
    writes=$((writes + $(sed -n 's/.*\bwrites=\([0-9]*\).*/\1/p' "$tmpdir/client.log" | head -n 1)))
    start_daemon
    "$client" verify "$(nbd_uri v)" "$tmpdir/record" >"$tmpdir/verify.log" 2>&1 ||
        fail "round $round: $(cat "$tmpdir/verify.log")"
done
[ "$writes" -gt 1000 ] || fail "only $writes writes: the rounds did not test much"

# What the backing store holds after a full flush is what a reader saw.
blkcachectl flush --wait
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
stop_daemon
cmp "$tmpdir/seen" "$tmpdir/backing" || fail "the backing store differs after a flush"
"$builddir/blkcachectl" check "$flash" || fail "check finds fault with the flash"
echo "$rounds kills, $writes writes, $((SECONDS - began)) seconds"
