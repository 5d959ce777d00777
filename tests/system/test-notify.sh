#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a service manager is told: ready, alive, reloading, stopping; and what the
# sandbox of the unit leaves open is no more than it says.
. "$srcdir/tests/functions.sh"
requires_program python3

truncate -s 16M "$tmpdir/a"
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\";"

# Each datagram is a line of $tmpdir/told.
python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(s.recv(4096).decode().replace("\n", " "), flush=True)' "$tmpdir/notify" >"$tmpdir/told" &
listener=$!
cleanup_fn end_process $listener
wait_until 30 grep -q listening "$tmpdir/told"

export NOTIFY_SOCKET=$tmpdir/notify WATCHDOG_USEC=400000
start_daemon
wait_until 30 grep -qx READY=1 "$tmpdir/told"
wait_until 20 eval '[ "$(grep -cx WATCHDOG=1 "$tmpdir/told")" -ge 5 ]'
kill -HUP "$daemon_pid"
wait_until 30 grep -qE '^RELOADING=1 MONOTONIC_USEC=[0-9]+$' "$tmpdir/told"
wait_until 30 eval '[ "$(grep -cx READY=1 "$tmpdir/told")" = 2 ]'
echo nonsense >>"$config" # refused, and ready all the same
kill -HUP "$daemon_pid"
wait_until 30 eval '[ "$(grep -cx READY=1 "$tmpdir/told")" = 3 ]'
# While all stands still nobody says that all is well.
kill -STOP "$daemon_pid"
sleep 1 # for what is on its way to the file
before=$(grep -cx WATCHDOG=1 "$tmpdir/told")
sleep 1.5
[ "$(grep -cx WATCHDOG=1 "$tmpdir/told")" = "$before" ] || fail "a stopped process says that it is well"
kill -CONT "$daemon_pid"
wait_until 30 eval '[ "$(grep -cx WATCHDOG=1 "$tmpdir/told")" -gt "$before" ]'
stop_daemon
wait_until 20 grep -qx STOPPING=1 "$tmpdir/told" # and with it all that was told before

# Another process's watchdog is not ours.
export WATCHDOG_PID=1
count=$(grep -cx WATCHDOG=1 "$tmpdir/told")
write_config "name = \"a\"; backing = \"$tmpdir/a\";"
start_daemon
sleep 1
[ "$(grep -cx WATCHDOG=1 "$tmpdir/told")" = "$count" ] || fail "it feeds another process's watchdog"
stop_daemon

# ---- the unit

command -v systemd-analyze >/dev/null || exit 0
sed -e 's|@sbindir@|/usr/sbin|g' -e 's|@sysconfdir@|/etc|g' "$srcdir/systemd/blkcached.service.in" >"$tmpdir/blkcached.service"
systemd-analyze security --offline=yes --threshold=45 "$tmpdir/blkcached.service" >"$tmpdir/security" 2>&1 ||
    fail "$(tail -n 1 "$tmpdir/security")"
# The documents' figure is that of Debian 12; other versions of systemd weigh other things.
if systemd-analyze --version | grep -q '^systemd 252 '; then
    figure=$(sed -n 's/.*exposure level for [^:]*: \([0-9.]*\) .*/\1/p' "$tmpdir/security")
    grep -q "systemd-analyze security blkcached. gives it $figure " "$srcdir/docs/operations.md" ||
        fail "docs/operations.md has another figure than $figure"
fi
