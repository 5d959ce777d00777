#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl top: what happens in a second, as a table, as JSON, and on a
# terminal, which it leaves as it was.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq script fio

truncate -s 32M "$tmpdir/a" "$tmpdir/b"
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";" "name = \"b\"; backing = \"$tmpdir/b\";"
start_daemon
fio --name=load --ioengine=nbd --uri="$(nbd_uri a)" --rw=randrw --bs=4k --iodepth=1 --size=8M --io_size=1G \
    --time_based --runtime=200 --rate_iops=500 >"$tmpdir/fio.log" 2>&1 &
fio_pid=$!
cleanup_fn end_process $fio_pid
wait_until 30 eval '[ "$(blkcachectl --json volumes | jq ".volumes[0].written_bytes")" -gt 0 ]'

blkcachectl top --count 2 >"$tmpdir/out"
[ "$(grep -c '^VOLUME' "$tmpdir/out")" = 2 ] || fail "$(cat "$tmpdir/out")"
grep -q '^a .*ok .*iB/s .* [mu]s ' "$tmpdir/out" || fail "$(cat "$tmpdir/out")"
grep -q '^b .*ok .*0 B/s .* clean$' "$tmpdir/out" || fail "$(cat "$tmpdir/out")"

# What a machine that stands still for a while does in a second may be little.
busy() {
    blkcachectl --json top --count 1 >"$tmpdir/out"
    jq -e '.seconds > .5 and (.volumes[0] | .name == "a" and .written_bytes_per_second > 40960 and .read_bytes_per_second > 40960)
        and .volumes[1].read_bytes_per_second == 0' "$tmpdir/out" >/dev/null
}
wait_until 60 busy

# On a terminal, until q.
shows() { wait_until 60 grep -q 'q: quit' "$tmpdir/screen"; }
(shows; printf q) | TERM=xterm timeout 100 script -qec "$builddir/blkcachectl -s $control_socket top" "$tmpdir/screen" >/dev/null ||
    fail "q does not end it"
grep -q 'q: quit' "$tmpdir/screen" || fail "no screen"
tail -c 200 "$tmpdir/screen" | grep -q "$(printf '\033')\[?1049l" || fail "the screen is not given back"

# The daemon goes away.
kill_daemon
status=0
blkcachectl top --count 1 2>/dev/null || status=$?
[ $status -eq 3 ] || fail "status $status"
