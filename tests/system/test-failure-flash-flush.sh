#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A flash that fails a flush may have dropped what was written since the last one, and the next flush succeeds: it
# is not used any more, what clients flush is safe without it, and at the next start it is as it was.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
. "$srcdir/tests/system/failures.sh"

truncate -s 64M "$tmpdir/store"
start_store store
flash_with_faults 64M --shards 1
ram=8M volatile_cache=yes write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\"; backing_timeout = \"20s\";"
start_daemon

# io COMMAND...: on volume v; fails like the first of them. qemu-io's exit code tells.
io() {
    local arguments=() command
    for command; do arguments+=(-c "$command"); done
    qemu-io -f raw "${arguments[@]}" "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 &&
        ! grep -q -e "failed" -e "Pattern verification" "$tmpdir/io.log"
}

rules store "error w 5"
io "write -P 1 0 1M" "write -P 2 8M 64k" flush || fail "the first writes"
expect "the flash" "$(status .flash.state)" ok

# One flush fails, and no other.
rules flash.img "error f 5"
io "write -P 3 8M 4k" flush &
client=$!
for ((i = 0; i < 400; i++)); do
    [ "$(status .flash.state)" = ok ] || break
    sleep 0.05
done
rules flash.img
rules store
wait $client || fail "a flush with the flash lost: $(cat "$tmpdir/io.log")"
expect "the flash" "$(status .flash.state)" failed
expect "the volume" "$(volume v state)" failed
grep -q 'the flash device failed a flush' "$daemon_log" || fail "nothing in the log"
expect "what the state directory knows" "$(sed -n 's/^state //p' "$tmpdir/state/v.epoch")" detached

# What only the flash has can be read there; what is written elsewhere, and flushed, is on the backing store.
io "read -P 1 0 1M" "read -P 3 8M 4k" "read -P 2 8196k 60k" "write -P 4 16M 1M" flush || fail "without the flash"
cmp <(dd if="$tmpdir/store" bs=1M skip=16 count=1 status=none) \
    <(head -c 1M /dev/zero | tr '\0' '\4') || fail "a flushed write is not on the backing store"
io "write -P 5 8M 4k" && fail "wrote a block whose newest version only the flash has"
kill_daemon
start_daemon
expect "the flash" "$(status .flash.state)" ok
expect "the volume" "$(volume v state)" ok
io "read -P 1 0 1M" "read -P 3 8M 4k" "read -P 2 8196k 60k" "read -P 4 16M 1M" "write -P 6 8M 4k" flush ||
    fail "after the restart"
blkcachectl flush --wait >/dev/null || fail "not everything can be destaged"
stop_daemon
