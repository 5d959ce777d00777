#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What cannot be printed: each verb of blkcachectl, and the other programs, end with 1 and say why; what is
# printed for ever ends.  Nothing that is opened takes the place of a closed standard output or error.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
requires_built blkcached blkcachectl blkcache-replay
[ -c /dev/full ] || skip "/dev/full"

format_flash 64M >/dev/null
truncate -s 16M "$tmpdir/a" "$tmpdir/b"
write_config "name = \"a\"; backing = \"$tmpdir/a\";" "name = \"b\"; backing = \"$tmpdir/b\";"
start_daemon
qemu-io -f raw -c 'write 0 1M' "$(nbd_uri a)" >/dev/null

# not_printed TEXT STATUS: of the last command, whose standard error is in $tmpdir/err.
not_printed() {
    [ "$2" -eq 1 ] || fail "$1: status $2: $(cat "$tmpdir/err")"
    [ "$(cat "$tmpdir/err")" = "$1: cannot write to standard output: No space left on device" ] || fail "$1 said: $(cat "$tmpdir/err")"
}

# Verbs as --help lists them; a new one needs a line here.
command_of() {
    case $1 in
    status | volumes | stats | mrc | events | reload) arguments=() ;;
    set) arguments=(a mode write-through --wait) ;;
    flush | prefetch) arguments=(a --wait) ;;
    detach) arguments=(b --flush) ;;
    attach) arguments=(b) ;;
    invalidate | pause-fill | resume-fill | pin | unpin) arguments=(a) ;;
    top) arguments=(--count 1) ;;
    shutdown) arguments=() ;;
    format) arguments=(--size 32M "$tmpdir/new") ;;
    check | dump) arguments=("$flash") ;;
    *) fail "no line for $1" ;;
    esac
    if [ "$1" = mrc ]; then arguments=(a); fi
}
verbs=$("$builddir/blkcachectl" --help | sed -n 's/^  \([a-z][a-z-]*\)\( .*\)\?$/\1/p' | grep -v '^format:')
[ "$(wc -w <<<"$verbs")" -ge 19 ] || fail "verbs: $verbs"
online=$(grep -vx 'shutdown\|format\|check\|dump' <<<"$verbs")
for verb in $online shutdown; do
    for json in "" --json; do
        [ "$verb $json" != "shutdown " ] || continue
        case "$verb" in
        detach) blkcachectl attach b >/dev/null 2>&1 || : ;;
        attach) blkcachectl detach b --flush >/dev/null 2>&1 || : ;;
        esac
        command_of "$verb"
        status=0
        # shellcheck disable=SC2086
        timeout 60 "$builddir/blkcachectl" -s "$control_socket" $json "$verb" "${arguments[@]}" >/dev/full 2>"$tmpdir/err" || status=$?
        not_printed "blkcachectl: $verb" $status
    done
done
wait "$daemon_pid" || fail "the daemon ended with $?"
daemon_pid=
for verb in check dump format; do
    command_of "$verb"
    status=0
    "$builddir/blkcachectl" "$verb" "${arguments[@]}" >/dev/full 2>"$tmpdir/err" || status=$?
    not_printed "blkcachectl: $verb" $status
done

# ---- the others

for program in blkcachectl blkcached blkcache-replay; do
    for option in --help --version; do
        status=0
        "$builddir/$program" $option >/dev/full 2>"$tmpdir/err" || status=$?
        if [ $program = blkcache-replay ]; then option=; fi
        not_printed "$program${option:+: $option}" $status
    done
done
status=0
"$builddir/blkcached" -c "$config" --check >/dev/full 2>"$tmpdir/err" || status=$?
not_printed "blkcached: --check" $status

# ---- for ever

start_daemon
for arguments in top 'events --follow'; do
    status=0
    # shellcheck disable=SC2086
    timeout 60 "$builddir/blkcachectl" -s "$control_socket" $arguments >/dev/full 2>"$tmpdir/err" || status=$?
    not_printed "blkcachectl: ${arguments%% *}" $status
done

# ---- closed

status=0
"$builddir/blkcachectl" -s "$control_socket" status >&- 2>"$tmpdir/err" || status=$?
[ "$status $(cat "$tmpdir/err")" = "1 blkcachectl: status: cannot write to standard output: Bad file descriptor" ] ||
    fail "closed: status $status: $(cat "$tmpdir/err")"
stop_daemon
"$builddir/blkcached" --foreground -c "$config" <&- >&- 2>&- &
daemon_pid=$!
wait_until 20 blkcachectl status >/dev/null
for fd in 0 1 2; do
    [ "$(readlink "/proc/$daemon_pid/fd/$fd")" = /dev/null ] || fail "descriptor $fd is $(readlink "/proc/$daemon_pid/fd/$fd")"
done
stop_daemon
