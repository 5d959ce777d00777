#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Start, status, flush and stop of the daemon, in every way that there is.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
requires_built blkcached blkcachectl
requires_free_space 200

truncate -s 64M "$tmpdir/a" "$tmpdir/b"
format_flash 64M >/dev/null
mode='mode = "write-back";'
write_config "name = \"a\"; backing = \"$tmpdir/a\"; $mode" "name = \"b\"; backing = \"$tmpdir/b\"; $mode"

# say COMMAND...: to a volume of ours.
say() {
    local name=$1
    shift
    qemu-io -f raw "$@" "$(nbd_uri "$name")" >>"$tmpdir/qemu-io.log"
}

# field PATH: of the status.
field() {
    blkcachectl --json status | jq -r "$1"
}

# ---- what it tells

start_daemon
[ "$(stat -c %a "$control_socket")" = 600 ] || fail "the control socket is open to others"
[ "$(field .state)" = running ] || fail "state $(field .state)"
[ "$(field .pid)" = "$daemon_pid" ] || fail "pid $(field .pid)"
[ "$(field '.volumes | map(.name) | join(" ")')" = "a b" ] || fail "the volumes"
[ "$(field .recovery.stopped_cleanly)" = true ] || fail "a new cache was not stopped cleanly"
blkcachectl status | grep -q '^a  *64.0 MiB  write-back  ok' || fail "$(blkcachectl status)"
blkcachectl volumes | grep -q '^b  *64.0 MiB  write-back  ok' || fail "$(blkcachectl volumes)"

say a -c 'write -P 1 0 1M' -c 'read -P 1 0 512k' -c flush
[ "$(blkcachectl --json stats a | jq '.volumes[0].counters.write_blocks')" = 256 ] || fail "written"
[ "$(blkcachectl --json stats a | jq '.volumes[0].counters.read_blocks')" = 128 ] || fail "read"
[ "$(blkcachectl --json stats | jq '.volumes | length')" = 2 ] || fail "all volumes"
blkcachectl stats a --reset >"$tmpdir/stats"
grep -q '100.0 % of the blocks read were cached' "$tmpdir/stats" || fail "$(cat "$tmpdir/stats")"
[ "$(blkcachectl --json stats a | jq '.volumes[0].counters.write_blocks')" = 0 ] || fail "reset"

status=0
blkcachectl flush none 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] || fail "flush of no volume: status $status"
[ "$(cat "$tmpdir/err")" = "blkcachectl: flush none: there is no such volume" ] ||
    fail "$(cat "$tmpdir/err")"

# ---- flush

say b -c 'write -P 2 0 8M'
blkcachectl flush b --wait >/dev/null
[ "$(field '.volumes[1].dirty_bytes')" = 0 ] || fail "b is dirty after a flush"
cmp -n $((8 << 20)) "$tmpdir/b" <(head -c 8M /dev/zero | tr '\0' '\2') || fail "what was written back"
blkcachectl flush --wait | grep -q 'nothing is dirty' || fail "a flush of all"

# ---- signals

kill -USR1 "$daemon_pid"
wait_until 30 grep -q 'notice: status state=running' "$daemon_log"
kill -HUP "$daemon_pid"
wait_until 30 grep -q 'configuration was read again' "$daemon_log"
daemon_alive || fail "SIGHUP ended it"

# ---- alone

status=0
"$builddir/blkcached" --foreground -c "$config" 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] || fail "a second daemon: status $status"
grep -q 'another blkcached uses it' "$tmpdir/err" || fail "$(cat "$tmpdir/err")"
[ "$(field .pid)" = "$daemon_pid" ] || fail "the first lost its socket"
# With flash and sockets of its own, but the first one's state directory, whose files it would overwrite.
truncate -s 8M "$tmpdir/theirs"
"$builddir/blkcachectl" format --size 20M --quick "$tmpdir/other.flash" >/dev/null
cat >"$tmpdir/other.conf" <<END
daemon = { control = "$tmpdir/other.sock"; state_dir = "$tmpdir/state"; metrics = ""; };
cache = { flash = "$tmpdir/other.flash"; ram = "4M"; };
nbd = { listen = (); };
volumes = ( { name = "theirs"; backing = "$tmpdir/theirs"; } );
END
status=0
timeout 60 "$builddir/blkcached" --foreground -c "$tmpdir/other.conf" 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] || fail "a second daemon with the same state directory: status $status"
grep -q "state directory $tmpdir/state: another blkcached uses it; .*daemon.state_dir" "$tmpdir/err" || fail "$(cat "$tmpdir/err")"
status=0
"$builddir/blkcachectl" check "$flash" 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] && grep -q 'it is in use' "$tmpdir/err" || fail "check of a flash in use"
status=0
"$builddir/blkcachectl" format --force "$flash" 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] && grep -q 'it is in use' "$tmpdir/err" || fail "format of a flash in use"

# ---- stops

say a -c 'write -P 3 2M 1M' -c flush
stop_daemon
[ ! -e "$control_socket" ] || fail "the control socket was left behind"
[ ! -e "$nbd_socket" ] || fail "the NBD socket was left behind"
"$builddir/blkcachectl" check "$flash" >/dev/null || fail "check after SIGTERM"

start_daemon
[ "$(field .recovery.stopped_cleanly)" = true ] || fail "SIGTERM was no clean stop"
say a -c 'read -P 3 2M 1M' -c 'write -P 4 3M 1M'
blkcachectl shutdown | grep -q stopped || fail "shutdown"
wait "$daemon_pid" || fail "after shutdown: status $?"

start_daemon
say a -c 'read -P 4 3M 1M' -c 'write -P 5 4M 4M'
blkcachectl shutdown --flush >/dev/null
wait "$daemon_pid" || fail "after shutdown --flush: status $?"
cmp -n $((4 << 20)) -i $((4 << 20)):0 "$tmpdir/a" <(head -c 4M /dev/zero | tr '\0' '\5') ||
    fail "shutdown --flush left dirty data"

# A daemon that was killed leaves its sockets; the next one takes their place.
start_daemon
say a -c 'write -P 6 9M 1M' -c flush
kill_daemon
[ -S "$control_socket" ] || fail "no socket to test with"
status=0
blkcachectl status 2>/dev/null || status=$?
[ $status -eq 3 ] || fail "status of a dead daemon: $status"
"$builddir/blkcached" -c "$config" 2>>"$daemon_log" || fail "start in the background"
daemon_pid=$(field .pid)
cleanup_fn end_process "$daemon_pid"
[ "$(field .recovery.stopped_cleanly)" = false ] || fail "SIGKILL was a clean stop"
say a -c 'read -P 6 9M 1M'
kill -INT "$daemon_pid"
wait_until 20 test ! -e "$control_socket"
"$builddir/blkcachectl" check "$flash" >/dev/null || fail "check after SIGINT"
