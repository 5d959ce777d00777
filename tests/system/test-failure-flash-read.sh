#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A flash that cannot read a block, or returns it changed: a clean block comes
# from the backing store and is counted; a dirty one is an I/O error, for that
# block only, until it can be read or is written again, the volume is degraded,
# and a wait for clean says so. Never wrong data; the other volume is not touched.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy python3
. "$srcdir/tests/system/failures.sh"

truncate -s 32M "$tmpdir/store" "$tmpdir/other"
start_store store
flash_with_faults 48M
ram=0 write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\"; backing_timeout = \"3s\";" \
    "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-back\";"
start_daemon

bad_block() { # OFFSET: the rule that it cannot be read
    echo "error r 5 $1 $(($1 + 4096))"
}

# ---- clean

client v 'write -P 161 0 4k' 'write -P 162 4k 4k' 'write -P 163 8k 4k' flush
client w 'write -P 7 0 4M' flush
blkcachectl flush --wait >/dev/null
at=$(flash_offset 162)
rules flash.img "$(bad_block "$at")"
client v 'read -P 161 0 4k' 'read -P 162 4k 4k' 'read -P 163 8k 4k' 'read 0 12k'
expect "healed blocks after a read error" "$(counter v healed_blocks)" 1
rules flash.img
flip_flash $(($(flash_offset 163) + 77))
client v 'read -P 161 0 4k' 'read -P 162 4k 4k' 'read -P 163 8k 4k'
expect "healed blocks after rot" "$(counter v healed_blocks)" 2
expect "notices" "$(status .notices.NOTICE_CLEAN_HEALED)" 2
expect "state" "$(volume v state)" ok
grep -q 'a clean block failed its checksum.* volume=v' "$daemon_log" || fail "nothing in the log"

# ---- dirty, and the device fails to read

rules store 'error w 5'
client v 'write -P 171 1M 4k' 'write -P 172 1028k 4k' 'write -P 173 1032k 4k' flush
at=$(flash_offset 172)
rules flash.img "$(bad_block "$at")"
client_fails v 'read 1028k 4k' 'Input/output error'
client_fails v 'read 1M 12k' 'Input/output error'
client v 'read -P 171 1M 4k' 'read -P 173 1032k 4k' 'read -P 161 0 4k'
client_fails v 'write -P 9 1029k 1k' 'Input/output error' # to be merged with it
expect "state" "$(volume v state)" degraded
expect "unreadable blocks" "$(volume v unreadable_blocks)" 1
[ "$(status .notices.NOTICE_DIRTY_UNREADABLE)" -ge 1 ] || fail "no notice"
grep -q 'failed to read a dirty block.* volume=v offset=1052672' "$daemon_log" || fail "the log does not name the block"
expect "the other volume's state" "$(volume w state)" ok
client w 'read -P 7 0 4M'
# The others reach the store; the wait for clean says what does not.
rules store
code=0
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >"$tmpdir/flush.out" 2>&1 || code=$?
expect "status of flush --wait" $code 1
grep -q '4.0 KiB of dirty data cannot be read from flash' "$tmpdir/flush.out" || fail "$(cat "$tmpdir/flush.out")"
expect "dirty bytes" "$(volume v dirty_bytes)" 4096
expect "backing's state" "$(volume v backing_state | cut -c 1-2)" up
# A device may come to its senses.
rules flash.img
timeout 30 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >/dev/null || fail "flush of what can be read again"
client v 'read -P 172 1028k 4k'
expect "state when it can be read again" "$(volume v state)" ok

# ---- dirty, and rotten

rules store 'error w 5'
client v 'write -P 181 2M 4k' 'write -P 182 2052k 4k' 'write -P 183 2056k 4k' flush
wait_until 60 flash_is_marked "$tmpdir/flash.img" # or rot cannot be told from a tear
flip_flash $(($(flash_offset 182) + 1234))
client_fails v 'read 2052k 4k' 'Input/output error'
client v 'read -P 181 2M 4k' 'read -P 183 2056k 4k'
expect "state" "$(volume v state)" degraded
expect "lost blocks" "$(volume v lost_blocks)" 1
expect "counted" "$(counter v lost_blocks)" 1
expect "notices" "$(status .notices.NOTICE_DIRTY_LOST)" 1
blkcachectl status | grep -q '^v .* degraded ' || fail "$(blkcachectl status)"
blkcachectl events | grep -q 'a dirty block failed its checksum.* volume=v offset=2101248' || fail "no event: $(blkcachectl events)"
# A restart does not forget it, nor does it bring an older version.
kill_daemon
start_daemon
client_fails v 'read 2052k 4k' 'Input/output error'
client v 'read -P 181 2M 4k' 'read -P 183 2056k 4k'
expect "state after a crash" "$(volume v state)" degraded
rules store
code=0
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >"$tmpdir/flush.out" 2>&1 || code=$?
expect "status of flush --wait" $code 1
expect "the other volume's state" "$(volume w state)" ok
# Written again, it is whole.
client v 'write -P 184 2052k 4k' flush 'read -P 184 2052k 4k'
expect "state when it was written again" "$(volume v state)" ok
timeout 30 "$builddir/blkcachectl" -s "$control_socket" flush --wait >/dev/null || fail "flush"
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
cmp "$tmpdir/seen" "$tmpdir/store" || fail "the backing store differs"
nbdcopy "$(nbd_uri w)" "$tmpdir/seen"
cmp "$tmpdir/seen" "$tmpdir/other" || fail "the other backing store differs"

# ---- what a start has to read: it is refused, and nothing is lost by that

# Before the flash says that it is durable: from then on a start need not read it.
killed_unmarked() {
    client v 'write -P 185 3M 4k' flush
    kill_daemon
    if flash_is_marked "$tmpdir/flash.img"; then
        start_daemon
        return 1
    fi
}
wait_until 60 killed_unmarked
rules flash.img "error r 5 $(flash_offset 185) $(($(flash_offset 185) + 4096))"
if "$builddir/blkcached" --foreground -c "$config" >"$tmpdir/refused" 2>&1; then fail "it starts"; fi
grep -q 'recovery failed: Input/output error: .*ddrescue' "$tmpdir/refused" || fail "$(cat "$tmpdir/refused")"
rules flash.img
start_daemon
client v 'read -P 185 3M 4k' 'read -P 184 2052k 4k'
stop_daemon
# shellcheck disable=SC2034 # for tests/functions.sh
flash_is_damaged="rotten blocks stay where they are until their segment is used again"
