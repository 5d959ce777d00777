#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A flash that wears out and can only be read: what only it has is brought to the backing stores, after the daemon
# noticed and after it was killed; then nothing of it is needed any more. What cannot be read is named, and no more.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
. "$srcdir/tests/system/failures.sh"

attachment() { sed -n "s/^$1 //p" "$tmpdir/state/v.epoch"; }
daemon_fails() { # OPTION...: what it says is in $tmpdir/said
    if "$builddir/blkcached" --foreground -c "$config" "$@" >"$tmpdir/said" 2>&1; then fail "it succeeds: $*"; fi
}
drain() { "$builddir/blkcached" -c "$config" --drain-flash >"$tmpdir/said" 2>&1 || fail "$(cat "$tmpdir/said")"; }

truncate -s 64M "$tmpdir/store"
start_store store
flash_with_faults 64M --shards 2
ram=8M volatile_cache=yes write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\";"
image=$tmpdir/flash.img

start_daemon
rules store "error w 5"
client v "write -P 1 0 1M" "write -P 2 8M 64k" "write -z 9M 64k" flush
if "$builddir/blkcached" -c "$config" --drain-flash >"$tmpdir/said" 2>&1; then fail "drained under a daemon"; fi
kill_daemon
rules flash.img "error wzf 30"
cp "$image" "$tmpdir/before"

daemon_fails
grep -q -e "--drain-flash" "$tmpdir/said" || fail "no way out is named: $(cat "$tmpdir/said")"
daemon_fails --without-flash # nobody knows what is dirty there
rules store
drain
cmp <(head -c 1M "$tmpdir/store") <(head -c 1M /dev/zero | tr '\0' '\1') || fail "not on the backing store"
expect "written to the flash" "$(cmp "$image" "$tmpdir/before" && echo nothing)" nothing
expect "the state directory" "$(attachment state) $(attachment dirty)" "detached 0"
drain # there is nothing left to do

start_daemon --without-flash
expect "the flash" "$(status .flash.state)" missing
expect "the volume" "$(volume v state)" no-flash
client v "read -P 1 0 1M" "read -P 2 8M 64k" "read -P 0 9M 64k" "write -P 3 512k 4k" flush
stop_daemon

# It can be written again, and the daemon finds out at run time what the start found out before.
rules flash.img
start_daemon
expect "the flash" "$(status .flash.state)" ok
rules store "error w 5"
client v "read -P 3 512k 4k" "read -P 1 516k 4k" "write -P 4 16M 256k" "write -P 5 20M 4k" flush
rules flash.img "error wzf 30"
# Waits until it is known what only the flash has.
qemu-io -f raw -c "write -P 6 24M 64k" -c flush "$(nbd_uri v)" >"$tmpdir/writer.log" 2>&1 &
writer=$!
for ((i = 0; i < 1200; i++)); do
    [ "$(attachment state)" = detached ] && break
    sleep 0.05
done
expect "the flash" "$(status .flash.state)" failed
rules store
wait $writer || : # it may have found the backing store failing
client v "read -P 4 16M 256k" "write -P 6 24M 64k" flush
expect "listed" "$(attachment dirty)" 65
kill_daemon

drain
expect "listed" "$(attachment state) $(attachment dirty)" "detached 0"
start_daemon --without-flash
client v "read -P 4 16M 256k" "read -P 5 20M 4k" "read -P 6 24M 64k" "read -P 3 512k 4k"
stop_daemon

# One of its blocks cannot be read either.
rules flash.img
start_daemon
rules store "error w 5"
client v "write -P 7 0 64k" "write -P 8 30M 4k" flush
stop_daemon
place=$(flash_offset 8)
rules flash.img "error r 5 $place $((place + 4096))" "error wzf 30"
rules store
daemon_fails
expect "a start that is refused leaves" "$(attachment state) $(attachment dirty)" "stopped 17"
if "$builddir/blkcached" -c "$config" --drain-flash >"$tmpdir/said" 2>&1; then fail "it claims to have all"; fi
grep -q "1 block" "$tmpdir/said" || fail "what is missing is not named: $(cat "$tmpdir/said")"
expect "listed" "$(attachment state) $(attachment dirty)" "detached 1"
start_daemon --without-flash
client v "read -P 7 0 64k"
client_fails v "read 30M 4k" "Input/output error"
stop_daemon
rules flash.img "error wzf 30"
drain
expect "listed" "$(attachment state) $(attachment dirty)" "detached 0"
start_daemon --without-flash
client v "read -P 7 0 64k" "read -P 8 30M 4k"
stop_daemon
