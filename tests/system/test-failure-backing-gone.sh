#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The backing store, an NBD server with a volatile write cache, is killed again
# and again under load, and comes back: clients of a write-back volume see no
# error; misses get theirs after backing_timeout; status tells; what the server
# lost with its cache is written again; the other volume notices nothing.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy
. "$srcdir/tests/system/failures.sh"

truncate -s 64M "$tmpdir/store" "$tmpdir/other"
start_store store --volatile
format_flash 64M >/dev/null
write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\"; backing_timeout = \"2s\";" \
    "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-back\";"
start_daemon

# ---- gone under load, four times

for round in 1 2 3 4; do
    crash_client write "$(nbd_uri v)" "$tmpdir/record" 0 $((32 << 20)) 3 $round &
    writer=$!
    crash_client write "$(nbd_uri w)" "$tmpdir/record.w" 0 $((32 << 20)) 3 $round &
    neighbour=$!
    blkcachectl flush v >/dev/null
    sleep "0.$((RANDOM % 8 + 1))"
    kill_store store
    sleep "0.$((RANDOM % 8 + 1))"
    start_store store --volatile
    wait $writer || fail "round $round: a client of the volume"
    wait $neighbour || fail "round $round: a client of the other volume"
done
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush --wait >/dev/null || fail "flush"
wait_until 20 eval '[ "$(grep -c "notice: the NBD server is back" "$daemon_log")" = 4 ]'
expect "state" "$(volume v state)" ok
# Killed once more: only what it was told to flush is there.
kill_store store
crash_client verify "$(nbd_uri w)" "$tmpdir/record.w"
start_store store --volatile
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
nbdcopy "$(store_uri store)" "$tmpdir/held"
cmp "$tmpdir/seen" "$tmpdir/held" || fail "the backing store lost what was called clean"
crash_client verify "$(nbd_uri v)" "$tmpdir/record"

# ---- gone for longer

client v 'write -P 1 40M 1M' flush 'read -P 1 40M 1M'
kill_store store
client v 'read -P 1 40M 1M' 'write -P 2 41M 1M' flush 'read -P 2 41M 1M'
began=$SECONDS
client_fails v 'read 60M 4k' 'Input/output error'
[ $((SECONDS - began)) -le 8 ] || fail "a miss took $((SECONDS - began)) s to fail"
[ $((SECONDS - began)) -ge 1 ] || fail "a miss did not wait for a reconnect"
expect "state while it is gone" "$(volume v state)" backing-down
volume v backing_state | grep -q '^reconnecting for' || fail "backing_state is $(volume v backing_state)"
blkcachectl status | grep -q '^v .*backing-down.*reconnecting' || fail "$(blkcachectl status)"
expect "the other volume's state" "$(volume w state)" ok
client w 'write -P 5 50M 1M' flush 'read -P 5 50M 1M'
timeout 20 "$builddir/blkcachectl" -s "$control_socket" flush w --wait >/dev/null || fail "flush of the other volume"
# A wait for clean goes on until it is back.
"$builddir/blkcachectl" -s "$control_socket" flush v --wait >"$tmpdir/flush.log" 2>&1 &
flusher=$!
sleep 3
kill -0 $flusher 2>/dev/null || fail "flush --wait ended: $(cat "$tmpdir/flush.log")"
start_store store --volatile
wait $flusher || fail "flush --wait: $(cat "$tmpdir/flush.log")"
client v 'read -P 0 60M 4k' 'read -P 1 40M 1M' 'read -P 2 41M 1M'
expect "state after" "$(volume v state)" ok

# ---- stopping while it is gone is quick and clean, dirty data stays on flash

client v 'write -P 3 42M 1M' flush
blkcachectl flush v >/dev/null
# Writes are on their way when it goes, and nobody will ever say what became of them.
rules store 'hold w'
client v 'write -P 4 43M 1M' flush
blkcachectl flush v >/dev/null
sleep 1.5
kill_store store
began=$SECONDS
stop_daemon
[ $((SECONDS - began)) -le 20 ] || fail "the stop took $((SECONDS - began)) s"
"$builddir/blkcachectl" check "$flash" >/dev/null || fail "check after the stop"
rules store
start_store store --volatile
start_daemon
expect "clean stop" "$(status .recovery.stopped_cleanly)" true
client v 'read -P 3 42M 1M' 'read -P 4 43M 1M'
timeout 60 "$builddir/blkcachectl" -s "$control_socket" shutdown --flush >/dev/null || fail "shutdown --flush"
wait "$daemon_pid" || fail "the daemon ended with $?"
daemon_pid=
kill_store store
cmp -n $((1 << 20)) -i $((43 << 20)):0 "$tmpdir/store" <(head -c 1M /dev/zero | tr '\0' '\4') ||
    fail "shutdown --flush left something out"
