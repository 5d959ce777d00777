#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A backing store that takes requests and does not answer: backing_timeout
# bounds what a client waits, in every mode; the rest goes on; when it answers
# again nothing is lost; and a stop does not wait for it.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy
. "$srcdir/tests/system/failures.sh"

modes="write-back write-through write-around pass-through"
volumes=()
for mode in $modes; do
    truncate -s 32M "$tmpdir/$mode"
    start_store "$mode" --volatile
    volumes+=("name = \"$mode\"; backing = \"$(store_uri "$mode")\"; mode = \"$mode\"; backing_timeout = \"1500ms\";")
done
truncate -s 32M "$tmpdir/other"
format_flash 64M >/dev/null
write_config "${volumes[@]}" "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-back\";"
start_daemon

# ends_late VOLUME COMMAND: with an error, when the timeout is over and not long after.
ends_late() {
    local began=$SECONDS
    client_fails "$1" "$2" 'Input/output error'
    [ $((SECONDS - began)) -ge 1 ] || fail "$1: $2 did not wait"
    [ $((SECONDS - began)) -le 7 ] || fail "$1: $2 took $((SECONDS - began)) s"
}

# The same in the background, several at once.
late_pids=()
late() {
    ends_late "$@" &
    late_pids+=($!)
}
all_end_late() {
    for pid in "${late_pids[@]}"; do wait "$pid" || fail "see above"; done
    late_pids=()
}

for mode in $modes; do
    client "$mode" 'write -P 1 0 1M' flush 'read -P 1 0 1M' 'read -P 0 8M 64k'
done
for mode in $modes; do
    rules "$mode" 'hold rwzf'
done

# A miss.
for mode in $modes; do late "$mode" 'read 16M 4k'; done
all_end_late
# What does not need the store.
client write-back 'read -P 1 0 1M' 'write -P 2 1M 1M' flush 'read -P 2 1M 1M'
client write-through 'read -P 1 0 1M'
client w 'write -P 7 0 1M' flush 'read -P 7 0 1M'
timeout 20 "$builddir/blkcachectl" -s "$control_socket" flush w --wait >/dev/null || fail "flush of the other volume"
expect "the other volume's state" "$(volume w state)" ok
# Writes that do.
late write-through 'write -P 3 2M 64k'
late write-around 'write -P 3 2M 64k'
late pass-through 'write -P 3 2M 64k'
late write-through 'write -z 3M 64k'
all_end_late
expect "state of write-through" "$(volume write-through state)" backing-down
expect "state of write-around" "$(volume write-around state)" backing-down
volume write-around backing_state | grep -q 'did not answer in time' || fail "$(volume write-around backing_state)"

# It answers again.
for mode in $modes; do rules "$mode"; done
answers() { timeout 20 qemu-io -f raw -c 'read 24M 4k' "$(nbd_uri "$1")"; }
for mode in $modes; do
    wait_until 30 answers "$mode"
    # The first flush may tell of writes that were lost; what failed is written again.
    client "$mode" 'write -P 4 2M 64k' 'write -P 4 3M 64k' 'read -P 0 16M 4k'
    timeout 20 qemu-io -f raw -c flush "$(nbd_uri "$mode")" >/dev/null 2>&1 || :
    client "$mode" 'write -P 4 2M 64k' 'write -P 4 3M 64k' flush 'read -P 1 0 1M' 'read -P 4 2M 64k'
done
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush --wait >/dev/null || fail "flush"
state_is_ok() { [ "$(volume "$1" state)" = ok ]; }
for mode in $modes; do
    wait_until 20 state_is_ok "$mode" # each shard asks the store again, after its pause
    nbdcopy "$(nbd_uri "$mode")" "$tmpdir/seen"
    nbdcopy "$(store_uri "$mode")" "$tmpdir/held"
    cmp "$tmpdir/seen" "$tmpdir/held" || fail "$mode: the backing store differs"
done

# A server that is stopped, as by a host that hangs.
kill -STOP "${store_pid[write-back]}"
ends_late write-back 'read 20M 4k'
kill -CONT "${store_pid[write-back]}"
wait_until 30 answers write-back
client write-back 'read -P 0 20M 4k'

# A stop does not wait for stores that do not answer.
client write-back 'write -P 5 5M 4M' flush
for mode in $modes; do rules "$mode" 'hold rwzf'; done
blkcachectl flush >/dev/null
sleep 1
began=$SECONDS
stop_daemon
[ $((SECONDS - began)) -le 20 ] || fail "the stop took $((SECONDS - began)) s"
for mode in $modes; do rules "$mode"; done
start_daemon
client write-back 'read -P 5 5M 4M'
