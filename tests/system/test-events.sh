#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The event log: what happened is told in order, also after a crash and a
# restart; it can be followed; its files are bounded and a torn line harms
# nothing.
. "$srcdir/tests/functions.sh"
requires_program jq
requires_built blkcached blkcachectl

truncate -s 16M "$tmpdir/a"
format_flash 64M >/dev/null
log_level=error
write_config "name = \"a\"; backing = \"$tmpdir/a\";"
start_daemon
blkcachectl events >"$tmpdir/events"
grep -q 'notice  blkcached serves version=' "$tmpdir/events" || fail "$(cat "$tmpdir/events")"
! grep -q 'blkcached serves' "$daemon_log" || fail "a notice was logged although errors only were wanted"
blkcachectl --json events | jq -es 'length > 0 and .[-1].number == length and all(.time | endswith("Z"))' >/dev/null ||
    fail "json: $(blkcachectl --json events)"

# ---- following

"$builddir/blkcachectl" -s "$control_socket" events --follow >"$tmpdir/followed" &
follower=$!
cleanup_fn end_process $follower
wait_until 30 grep -q 'blkcached serves' "$tmpdir/followed"
kill -USR1 "$daemon_pid"
wait_until 30 grep -q 'status volume=a' "$tmpdir/followed"
end_process $follower

# ---- a crash, and a line that it tore

wait_until 30 grep -q 'status volume=a' "$tmpdir/state/events"
kill_daemon
before=$(wc -l <"$tmpdir/state/events")
printf '{"number":%d,"time":"2026' $((before + 1)) >>"$tmpdir/state/events"
start_daemon
blkcachectl events >"$tmpdir/events"
[ "$(grep -c 'blkcached serves' "$tmpdir/events")" = 2 ] || fail "$(cat "$tmpdir/events")"
stop_daemon
start_daemon
blkcachectl events | grep -q 'notice  stopped' || fail "the stop was forgotten"
numbers=$(blkcachectl --json events | jq -s 'map(.number) == (map(.number) | unique)')
[ "$numbers" = true ] || fail "numbers are not rising"
stop_daemon

# ---- the files are bounded

line='{"number":%d,"time":"2026-01-01T00:00:00.000Z","level":"notice","text":"padding"}\n'
for ((i = 1000; i < 15000; i++)); do
    # shellcheck disable=SC2059 # a format
    printf "$line" $i
done >>"$tmpdir/state/events"
start_daemon
[ -e "$tmpdir/state/events.old" ] || wait_until 30 test -e "$tmpdir/state/events.old"
[ "$(stat -c %s "$tmpdir/state/events")" -lt 10000 ] || fail "events did not begin anew"
[ "$(blkcachectl --json events | wc -l)" = 1000 ] || fail "$(blkcachectl --json events | wc -l) events"
stop_daemon
