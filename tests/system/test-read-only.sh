#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume that is made read-only while the flash has dirty data of it: clients cannot write, and the
# dirty data still reach the backing store.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
requires_built blkcached blkcachectl
requires_free_space 100

truncate -s 16M "$tmpdir/file"
format_flash 20M --shards 1 --quick >/dev/null
ram=4M write_config "name = \"v\"; mode = \"write-back\"; backing = \"$tmpdir/file\";"
start_daemon
qemu-io -f raw -c 'write -P 7 0 2M' -c flush "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 || fail "$(cat "$tmpdir/io.log")"
kill_daemon
ram=4M write_config "name = \"v\"; mode = \"write-back\"; read_only = true; backing = \"$tmpdir/file\";"
start_daemon
qemu-io -r -f raw -c 'read -P 7 0 2M' "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 || fail "$(cat "$tmpdir/io.log")"
qemu-io -f raw -c 'write 0 4k' "$(nbd_uri v)" >/dev/null 2>&1 && fail "a client wrote"
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush v --wait >"$tmpdir/out" 2>&1 || fail "$(cat "$tmpdir/out")"
[ "$(volume v state)" = ok ] || fail "state $(volume v state)"
stop_daemon
cmp -n $((2 << 20)) "$tmpdir/file" <(tr '\0' '\007' </dev/zero | head -c 2M) || fail "dirty data did not reach the store"

# With nothing dirty nobody writes to it, and others may read it.
start_daemon
flock --shared --nonblock "$tmpdir/file" true || fail "a store that is only read is locked"
stop_daemon
