#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A backing store whose last block was no whole one grows, with that block dirty on
# flash and after a crash: what was written stays, and behind it the block goes on.
. "$srcdir/tests/functions.sh"
requires_program qemu-io nbdinfo jq

io() { # COMMAND...
    local arguments=()
    for command; do arguments+=(-c "$command"); done
    qemu-io -f raw "${arguments[@]}" "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 || fail "$*: $(cat "$tmpdir/io.log")"
    ! grep -q 'verification failed' "$tmpdir/io.log" || fail "$*: $(cat "$tmpdir/io.log")"
}
size() { nbdinfo --size "$(nbd_uri v)"; }

bytes=$(((8 << 20) + 512))
truncate -s $bytes "$tmpdir/v"
format_flash 64M >/dev/null
write_config "name = \"v\"; backing = \"$tmpdir/v\"; mode = \"write-back\";"
start_daemon
[ "$(size)" = $bytes ] || fail "size $(size)"
io "write -P 1 0 1M" "write -P 2 8M 512" flush
truncate -s 12M "$tmpdir/v"
[ "$(size)" = $bytes ] || fail "it grew under its clients"

# A crash, with dirty data on flash, and a start.
kill_daemon
start_daemon
[ "$(size)" = $((12 << 20)) ] || fail "size $(size) after a start"
io "read -P 1 0 1M" "read -P 2 8M 512" "read -P 0 $bytes $(((12 << 20) - bytes))"
io "write -P 3 $bytes 3584" "write -P 4 $(((12 << 20) - 4096)) 4k" flush

blkcachectl flush v --wait >/dev/null
stop_daemon
cmp -n 512 -i $((8 << 20)):0 "$tmpdir/v" <(head -c 512 /dev/zero | tr '\0' '\2') || fail "not destaged"
