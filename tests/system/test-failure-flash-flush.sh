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

rules store "error w 5"
client v "write -P 1 0 1M" "write -P 2 8M 64k" flush
expect "the flash" "$(status .flash.state)" ok

# One flush fails, and no other.
rules flash.img "error f 5"
client v "write -P 3 8M 4k" flush &
writer=$!
for ((i = 0; i < 400; i++)); do
    [ "$(status .flash.state)" = ok ] || break
    sleep 0.05
done
rules flash.img
rules store
wait $writer || fail "a flush with the flash lost"
expect "the flash" "$(status .flash.state)" failed
expect "the volume" "$(volume v state)" failed
grep -q 'the flash device failed a flush' "$daemon_log" || fail "nothing in the log"
expect "what the state directory knows" "$(sed -n 's/^state //p' "$tmpdir/state/v.epoch")" detached

# What only the flash has can be read there; what is written elsewhere, and flushed, is on the backing store.
client v "read -P 1 0 1M" "read -P 3 8M 4k" "read -P 2 8196k 60k" "write -P 4 16M 1M" flush
cmp <(dd if="$tmpdir/store" bs=1M skip=16 count=1 status=none) \
    <(head -c 1M /dev/zero | tr '\0' '\4') || fail "a flushed write is not on the backing store"
client_fails v "write -P 5 8M 4k" "Input/output error" # only the flash has its newest version
kill_daemon
start_daemon
expect "the flash" "$(status .flash.state)" ok
expect "the volume" "$(volume v state)" ok
client v "read -P 1 0 1M" "read -P 3 8M 4k" "read -P 2 8196k 60k" "read -P 4 16M 1M" "write -P 6 8M 4k" flush
blkcachectl flush --wait >/dev/null || fail "not everything can be destaged"
stop_daemon
