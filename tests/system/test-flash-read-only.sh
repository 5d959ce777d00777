#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A flash that wears out and can only be read: what only it has is brought to the backing stores, after the daemon
# noticed and after it was killed; then nothing of it is needed any more. What cannot be read is named, and no more.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
. "$srcdir/tests/system/failures.sh"

# io COMMAND...: on volume v; fails like the first of them. qemu-io's exit code tells.
io() {
    local arguments=() command
    for command; do arguments+=(-c "$command"); done
    qemu-io -f raw "${arguments[@]}" "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 &&
        ! grep -q -e "failed" -e "Pattern verification" "$tmpdir/io.log"
}
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
io "write -P 1 0 1M" "write -P 2 8M 64k" "write -z 9M 64k" flush || fail "the first writes"
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
io "read -P 1 0 1M" "read -P 2 8M 64k" "read -P 0 9M 64k" "write -P 3 512k 4k" flush || fail "without the flash"
stop_daemon

# It can be written again, and the daemon finds out at run time what the start found out before.
rules flash.img
start_daemon
expect "the flash" "$(status .flash.state)" ok
rules store "error w 5"
io "read -P 3 512k 4k" "read -P 1 516k 4k" "write -P 4 16M 256k" "write -P 5 20M 4k" flush || fail "with the flash"
rules flash.img "error wzf 30"
io "write -P 6 24M 64k" flush & # waits until it is known what only the flash has
client=$!
for ((i = 0; i < 1200; i++)); do
    [ "$(attachment state)" = detached ] && break
    sleep 0.05
done
expect "the flash" "$(status .flash.state)" failed
rules store
wait $client || : # it may have found the backing store failing
io "read -P 4 16M 256k" "write -P 6 24M 64k" flush || fail "after the loss"
expect "listed" "$(attachment dirty)" 65
kill_daemon

drain
expect "listed" "$(attachment state) $(attachment dirty)" "detached 0"
start_daemon --without-flash
io "read -P 4 16M 256k" "read -P 5 20M 4k" "read -P 6 24M 64k" "read -P 3 512k 4k" || fail "drained after the loss"
stop_daemon

# One of its blocks cannot be read either.
rules flash.img
start_daemon
rules store "error w 5"
io "write -P 7 0 64k" "write -P 8 30M 4k" flush || fail "with the flash again"
stop_daemon
place=$(grep -obUa -P '\x08{4096}' "$image" | tail -n 1 | cut -d : -f 1)
rules flash.img "error r 5 $place $((place + 4096))" "error wzf 30"
rules store
daemon_fails
expect "a start that is refused leaves" "$(attachment state) $(attachment dirty)" "stopped 17"
if "$builddir/blkcached" -c "$config" --drain-flash >"$tmpdir/said" 2>&1; then fail "it claims to have all"; fi
grep -q "1 block" "$tmpdir/said" || fail "what is missing is not named: $(cat "$tmpdir/said")"
expect "listed" "$(attachment state) $(attachment dirty)" "detached 1"
start_daemon --without-flash
io "read -P 7 0 64k" || fail "what could be read"
io "read 30M 4k" && fail "read what could not be"
stop_daemon
rules flash.img "error wzf 30"
drain
expect "listed" "$(attachment state) $(attachment dirty)" "detached 0"
start_daemon --without-flash
io "read -P 7 0 64k" "read -P 8 30M 4k" || fail "at the end"
stop_daemon
