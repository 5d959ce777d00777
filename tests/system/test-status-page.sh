#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The status page in a real browser: it loads nothing from elsewhere, its
# script runs under its own content security policy, and it shows what is so.
. "$srcdir/tests/functions.sh"
requires_program chromium python3 qemu-io
requires_built blkcached blkcachectl
requires_free_space 200

truncate -s 64M "$tmpdir/a"
format_flash 64M >/dev/null
port=$(free_port)
metrics=127.0.0.1:$port
write_config "name = \"database\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
start_daemon
qemu-io -f raw "$(nbd_uri database)" -c 'write -P 1 0 1M' -c 'read 0 512k' -c 'read 8M 512k' >"$tmpdir/qemu-io.log"
sleep 2.5 # samples for the charts

HOME=$tmpdir timeout 200 chromium --headless=new --no-sandbox --disable-gpu --window-size=1240,960 \
    --user-data-dir="$tmpdir/chromium" --virtual-time-budget=5000 --enable-logging=stderr \
    --screenshot="$tmpdir/page.png" --dump-dom "http://$metrics/" >"$tmpdir/dom" 2>"$tmpdir/chromium.log" ||
    fail "chromium: $(tail -n 5 "$tmpdir/chromium.log")"
grep -q '>all is well<' "$tmpdir/dom" || fail "the state: $(grep 'id="state"' "$tmpdir/dom")"
grep -q '<td>database</td>' "$tmpdir/dom" || fail "the volume is not shown"
grep -q '50.0 %' "$tmpdir/dom" || fail "the hit ratio is not shown"
if grep -E 'CONSOLE.*(Error|Refused|Uncaught)' "$tmpdir/chromium.log"; then
    fail "errors on the console"
fi
[ "$(stat -c %s "$tmpdir/page.png")" -gt 20000 ] || fail "the screenshot is empty"
stop_daemon
