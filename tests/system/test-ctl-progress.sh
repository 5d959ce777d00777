#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Long work says on a terminal how far it is, how fast, and how long it will take; in a pipe it is quiet.
. "$srcdir/tests/functions.sh"
requires_program script qemu-io jq
. "$srcdir/tests/system/failures.sh"

for name in a b; do
    truncate -s 16M "$tmpdir/$name"
    start_store $name
done
format_flash 64M --shards 1 >/dev/null
write_config "name = \"a\"; backing = \"$(store_uri a)\"; mode = \"write-back\";" \
    "name = \"b\"; backing = \"$(store_uri b)\"; mode = \"write-back\";"
start_daemon

# Destaging flushes the store after each 2 MiB of a shard.
slow() { rules "$1" 'delay rf 300'; }
dirty() {
    rules "$1" 'hold w' # else it may be clean before it is asked for
    qemu-io -f raw -c 'write -P 1 0 12M' -c flush "$(nbd_uri "$1")" >/dev/null
    slow "$1"
    wait_until 20 eval '[ "$(blkcachectl --json status | jq .nbd.connections)" = 0 ]' # or it is not detached
}

# shown WHAT ARGUMENT...: on a terminal.
shown() {
    local what=$1
    shift
    timeout 100 script -qec "$builddir/blkcachectl -s $control_socket $*" "$tmpdir/screen" >/dev/null || fail "$*: $(cat "$tmpdir/screen")"
    tr '\r' '\n' <"$tmpdir/screen" >"$tmpdir/lines"
    grep -qE "^$what: [0-9.]+ ([KM]i)?B of [0-9.]+ ([KM]i)?B, [0-9.]+ ([KM]i)?B/s, [0-9]+ s left" "$tmpdir/lines" ||
        fail "$*: no progress: $(cat "$tmpdir/lines")"
    # Nothing of it is left.
    tail -n 1 "$tmpdir/lines" | grep -q ' left' && fail "$*: the last line stays: $(cat "$tmpdir/lines")"
    return 0
}

# quiet ARGUMENT...: in a pipe, one line on standard output and nothing else.
quiet() {
    timeout 100 "$builddir/blkcachectl" -s "$control_socket" "$@" >"$tmpdir/out" 2>"$tmpdir/err" || fail "$*: $(cat "$tmpdir/err")"
    [ ! -s "$tmpdir/err" ] || fail "$*: said $(cat "$tmpdir/err")"
    [ "$(wc -l <"$tmpdir/out")" = 1 ] && ! grep -q "$(printf '[\r\033]')" "$tmpdir/out" || fail "$*: printed $(cat "$tmpdir/out")"
}

dirty a
shown 'writing back' flush a --wait
dirty a
quiet flush a --wait
dirty a
shown 'writing back' set a mode write-through --wait
shown prefetching prefetch a 8M 8M --wait
rules b
dirty b
shown 'writing back' detach b --flush
rules a
stop_daemon

# ---- a flash that is slow to read

mv "$flash" "$tmpdir/flash-store"
start_store flash-store
mount_file flash-store
rules flash-store 'delay r 10'
timeout 100 script -qec "$builddir/blkcachectl check $tmpdir/flash-store.mounted" "$tmpdir/screen" >/dev/null || fail "$(cat "$tmpdir/screen")"
tr '\r' '\n' <"$tmpdir/screen" | grep -qE '^checking: .* s left' || fail "check: no progress: $(cat "$tmpdir/screen")"
mv "$tmpdir/flash-store" "$flash"
