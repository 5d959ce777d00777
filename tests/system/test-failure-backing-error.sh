#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The backing store answers, with errors: cached reads and write-back writes go
# on, misses are I/O errors, destaging repeats with growing pauses, status and
# counters tell, another volume notices nothing, and nothing is lost.
# KIND=file: the same for a file (test-failure-backing-file.sh).
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy
. "$srcdir/tests/system/failures.sh"

kind=${KIND:-nbd}
store_of() {
    if [ "$kind" = file ]; then echo "$tmpdir/$1.mounted"; else store_uri "$1"; fi
}

truncate -s 64M "$tmpdir/store" "$tmpdir/other"
start_store store
if [ "$kind" = file ]; then mount_file store; fi
format_flash 64M >/dev/null
write_config \
    "name = \"v\"; backing = \"$(store_of store)\"; mode = \"write-back\"; backing_timeout = \"3s\";" \
    "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-back\";"
start_daemon
client v 'write -P 1 0 4M' flush
blkcachectl flush v --wait >/dev/null
client v 'read -P 1 0 4M'
expect "state before" "$(volume v state)" ok

rules store 'error rwzf 5'

# What is cached is read, and what is written is taken.
client v 'read -P 1 0 4M' 'write -P 2 2M 4M' flush 'write -z 6M 64k' 'discard 7M 64k' flush \
    'read -P 1 0 2M' 'read -P 2 2M 4M' 'read -P 0 6M 64k'
client_fails v 'read 32M 4k' 'Input/output error'
client_fails v 'write -P 9 32769k 1k' 'Input/output error' # to be merged with what cannot be read
client v 'write -P 3 40M 1M' 'read -P 3 40M 1M'

# The neighbour.
client w 'read -P 0 8M 1M' 'write -P 7 8M 4M' flush
timeout 20 "$builddir/blkcachectl" -s "$control_socket" flush w --wait >/dev/null || fail "flush of the other volume"
cmp -n $((4 << 20)) -i $((8 << 20)):0 "$tmpdir/other" <(head -c 4M /dev/zero | tr '\0' '\7') ||
    fail "the other volume was not destaged"

# It is tried again and again, but not all the time.
blkcachectl flush v >/dev/null
failed_more() { [ "$(counter v destage_errors)" -gt "$1" ]; }
wait_until 20 failed_more 2
wait_until 20 failed_more "$(counter v destage_errors)"
before=$(counter v destage_errors)
sleep 3
[ $(($(counter v destage_errors) - before)) -lt 100 ] || fail "destaging does not pause"
[ "$(volume v dirty_bytes)" -gt $((5 << 20)) ] || fail "what failed is not dirty any more"
expect "state with errors" "$(volume v state)" backing-down
volume v backing_state | grep -q 'Input/output error' || fail "backing_state is $(volume v backing_state)"
[ "$(volume v destage_lag_seconds | cut -d. -f1)" -ge 2 ] || fail "it lags $(volume v destage_lag_seconds) s"
in_step() { [ "$(volume w destage_lag_seconds | cut -d. -f1)" = 0 ]; }
wait_until 30 in_step
expect "the other volume's state" "$(volume w state)" ok
[ "$(status .notices.NOTICE_BACKING_ERROR)" -ge 1 ] || fail "no notice"
grep -q 'warning: the backing store failed a destage write.* volume=v' "$daemon_log" || fail "nothing in the log"

# Who waits for it is told at last, and why.
blkcachectl set v mode write-through >/dev/null
waiters=()
for waiter in "flush v --wait" "shutdown --flush" "set v --wait"; do
    # shellcheck disable=SC2086
    timeout 60 "$builddir/blkcachectl" -s "$control_socket" $waiter >/dev/null 2>"$tmpdir/${waiter%% *}.err" &
    waiters+=($!)
done
for waiter in "${waiters[@]}"; do
    code=0
    wait "$waiter" || code=$?
    expect "status of who waits" $code 1
done
grep -q '^blkcachectl: flush: .* are not written back: the backing store takes no data: .*Input/output error' \
    "$tmpdir/flush.err" || fail "$(cat "$tmpdir/flush.err")"
grep -q '^blkcachectl: shutdown: .* volume "v": the backing store takes no data' "$tmpdir/shutdown.err" ||
    fail "$(cat "$tmpdir/shutdown.err")"
grep -q '^blkcachectl: set v: write-through is not in force yet: the backing store takes no data' "$tmpdir/set.err" ||
    fail "$(cat "$tmpdir/set.err")"
expect "state after a shutdown that failed" "$(status .state)" running
blkcachectl set v mode write-back >/dev/null

# A restart in the middle costs nothing.
kill_daemon
start_daemon
client v 'read -P 1 1M 1M' 'read -P 2 2M 4M' 'read -P 0 6M 64k' 'read -P 3 40M 1M'

rules store
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >/dev/null || fail "flush after the errors"
expect "state after" "$(volume v state)" ok
expect "dirty bytes after" "$(volume v dirty_bytes)" 0
client v 'read -P 0 32M 4k'
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
stop_daemon
cmp "$tmpdir/seen" "$tmpdir/store" || fail "the backing store differs"
