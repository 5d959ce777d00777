#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The bare client's whole catalogue, garbage included, against the daemon, with
# a cache that is smaller than the volume; and nothing is left behind.
. "$srcdir/tests/functions.sh"
requires_program python3
requires_built blkcached blkcachectl

truncate -s 64M "$tmpdir/writable.img" "$tmpdir/fixed.img"
format_flash 48M
ram=4M write_config \
    "name = \"writable\"; backing = \"$tmpdir/writable.img\"; mode = \"write-back\";" \
    "name = \"fixed\"; backing = \"$tmpdir/fixed.img\"; read_only = true;" \
    "name = \"through\"; backing = \"$tmpdir/through.img\"; mode = \"write-through\";"
truncate -s 64M "$tmpdir/through.img"
start_daemon
for volume in writable through; do
    PYTHONDONTWRITEBYTECODE=1 GARBAGE_SECONDS=2 python3 "$srcdir/tests/system/nbd-protocol.py" "$nbd_socket" "$volume" fixed "" ||
        fail "$volume"
done
daemon_alive || fail "the daemon has gone"
stop_daemon
if grep -q -i -E "sanitizer|assert" "$daemon_log"; then fail "see the log"; fi
"$builddir/blkcachectl" check "$flash"
