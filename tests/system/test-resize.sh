#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A backing store that grows: the volume has its new size after detach and attach,
# or a restart, with all of its data; one that shrinks is refused, with the reason.
. "$srcdir/tests/functions.sh"
requires_program qemu-io nbdinfo jq
requires_free_space 200

truncate -s 16M "$tmpdir/a"
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
start_daemon
qemu-io -f raw -c "write -P 1 0 16M" -c flush "$(nbd_uri a)" >/dev/null

size() { nbdinfo --size "$(nbd_uri a)"; }
# has PATTERN OFFSET LENGTH
has() {
    qemu-io -f raw -c "read -P $1 $2 $3" "$(nbd_uri a)" >"$tmpdir/io.log" || fail "read"
    grep -q "verification failed" "$tmpdir/io.log" && fail "$1 $2 $3: $(cat "$tmpdir/io.log")"
    :
}

# ---- detach, attach

wait_for_clients 0
blkcachectl detach a --flush >/dev/null
truncate -s 24M "$tmpdir/a"
blkcachectl attach a >/dev/null
[ "$(size)" = $((24 << 20)) ] || fail "attached: $(size)"
has 1 0 16M
has 0 16M 8M
qemu-io -f raw -c "write -P 2 20M 4M" -c flush "$(nbd_uri a)" >/dev/null

# ---- a restart, with dirty data

stop_daemon
truncate -s 33M "$tmpdir/a"
start_daemon
[ "$(size)" = $((33 << 20)) ] || fail "after a restart: $(size)"
has 1 0 16M
has 2 20M 4M
has 0 24M 9M
qemu-io -f raw -c "write -P 3 32M 1M" -c flush "$(nbd_uri a)" >/dev/null
has 3 32M 1M

# ---- smaller

stop_daemon
truncate -s 32M "$tmpdir/a"
"$builddir/blkcached" --foreground -c "$config" >"$tmpdir/small.log" 2>&1 && fail "a store that shrank is taken"
grep -q 'its backing store shrank from 34603008 to 33554432 bytes' "$tmpdir/small.log" || fail "$(cat "$tmpdir/small.log")"
truncate -s 33M "$tmpdir/a"
start_daemon
has 3 32M 1M
blkcachectl flush a --wait
stop_daemon
cmp -n $((1 << 20)) -i $((32 << 20)):0 "$tmpdir/a" <(tr '\0' '\003' </dev/zero | head -c 1M) || fail "the backing store"
