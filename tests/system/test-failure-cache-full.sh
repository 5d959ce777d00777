#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Dirty data fills the cache: writers are slowed while the backing store is
# slow; when it is gone they wait, then get ENOSPC; another volume goes on;
# nothing acknowledged is lost, over a crash too; when the store comes back
# everything goes on.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy
. "$srcdir/tests/system/failures.sh"

truncate -s 128M "$tmpdir/store" "$tmpdir/other"
start_store store --volatile
format_flash 48M >/dev/null
# Without flushes of the flash it is quicker; a process that is killed loses none.
volatile_cache=no write_config \
    "name = \"v\"; backing = \"$(store_uri store)\"; mode = \"write-back\"; backing_timeout = \"1500ms\"; dirty_max = 50;" \
    "name = \"w\"; backing = \"$tmpdir/other\"; mode = \"write-back\";"
start_daemon

# ---- slow: a client that writes more than the cache holds is slowed to the
# store's pace, and sees no error

rules store 'delay w 20'
crash_client write "$(nbd_uri v)" "$tmpdir/record" 0 $((64 << 20)) 3 1
grep -q ended=in-time "$tmpdir/record.out" || fail "$(cat "$tmpdir/record.out")"
[ "$(volume v dirty_bytes)" -le $((26 << 20)) ] || fail "more than dirty_max is dirty: $(volume v dirty_bytes)"
crash_client verify "$(nbd_uri v)" "$tmpdir/record"
rules store
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >/dev/null || fail "flush"

# ---- gone, and full

kill_store store
full=0
for ((i = 0; i < 64 && full == 0; i++)); do
    began=$SECONDS
    if timeout 60 qemu-io -f raw -c "write -P $((i + 1)) $((64 + i))M 1M" -c flush "$(nbd_uri v)" \
        >"$tmpdir/qemu-io.out" 2>&1; then
        written=$((i + 1))
    else
        full=1
        grep -q 'write failed: No space left on device' "$tmpdir/qemu-io.out" || fail "$(cat "$tmpdir/qemu-io.out")"
        [ $((SECONDS - began)) -ge 1 ] || fail "a writer did not wait for space"
        [ $((SECONDS - began)) -le 10 ] || fail "a writer waited $((SECONDS - began)) s for space"
    fi
done
[ $full -eq 1 ] || fail "a cache of 48 MiB took 64 MiB of dirty data"
[ "$written" -ge 18 ] || fail "only $written MiB fit"
expect "state" "$(volume v state)" backing-down
[ "$(counter v stalled_pieces)" -ge 1 ] || fail "nobody waited"

# Everything that was acknowledged can be read, and the neighbour has room.
readable() {
    local commands=() i
    for ((i = 0; i < written; i++)); do commands+=("read -P $((i + 1)) $((64 + i))M 1M"); done
    client v "${commands[@]}"
}
readable
for i in 1 2 3; do client w "write -P $i 0 8M" flush "read -P $i 0 8M"; done
timeout 30 "$builddir/blkcachectl" -s "$control_socket" flush w --wait >/dev/null || fail "flush of the other volume"
expect "the other volume's state" "$(volume w state)" ok
kill_daemon
start_store store --volatile
start_daemon
kill_store store
readable

# ---- it comes back while a writer waits

timeout 60 qemu-io -f raw -c "write -P 77 120M 4M" -c flush "$(nbd_uri v)" >"$tmpdir/qemu-io.out" 2>&1 &
writer=$!
sleep 0.5
start_store store --volatile
wait $writer || :
client v 'write -P 77 120M 4M' 'write -P 78 100M 8M' flush
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >/dev/null || fail "flush after it came back"
expect "state" "$(volume v state)" ok
readable
client v 'read -P 77 120M 4M' 'read -P 78 100M 8M'
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
kill_store store
cmp "$tmpdir/seen" "$tmpdir/store" || fail "the backing store differs"
