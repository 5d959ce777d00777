# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Helpers for test scripts, which begin with
#
#     #!/bin/bash
#     # SPDX-License-Identifier: Apache-2.0
#     . "$srcdir/tests/functions.sh"
#     requires_program nbdcopy
#
# srcdir and builddir are absolute and come from tests/run. A test works in
# $tmpdir, which is private, short enough for socket paths, and removed at the
# end. Every process that a helper starts is ended at the end, by its id.

set -euo pipefail

: "${srcdir:?run me through make check}" "${builddir:?run me through make check}"
SANITIZER=${SANITIZER:-none}
# mke2fs, debugfs and the like live where only root's PATH may lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# ---- verdicts ---------------------------------------------------------------

# Where a verdict and its reasons go, even from within wait_until.
exec {verdict_fd}>&2

# skip WHY: the machine lacks something; the runner prints WHY.
skip() {
    echo "SKIP: $*"
    exit 77
}

# fail WHY: the test found a fault.
fail() {
    echo "FAIL: $*" >&"$verdict_fd"
    exit 1
}

# ---- what a test needs ------------------------------------------------------

# requires_program NAME...: skip unless all are in PATH.
requires_program() {
    local name
    for name; do
        command -v "$name" >/dev/null || skip "program $name"
    done
}

# requires_built NAME...: skip unless the build tree has these programs.
requires_built() {
    local name
    for name; do
        [ -x "$builddir/$name" ] || skip "$name has not been built"
    done
}

# requires_module NAME...: skip unless the kernel has these modules loaded or
# built in, or can load them.
requires_module() {
    local name
    for name; do
        [ -d "/sys/module/$name" ] || modprobe -q "$name" 2>/dev/null || skip "kernel module $name"
    done
}

# requires_root: skip unless run by root.
requires_root() {
    [ "$(id -u)" -eq 0 ] || skip "root"
}

# requires_plain_build: skip under sanitizers, for tests of time or memory.
requires_plain_build() {
    [ "$SANITIZER" = none ] || skip "a build without sanitizers"
}

# requires_free_space MEBIBYTES: skip unless $tmpdir has so much.
requires_free_space() {
    local free
    free=$(df --output=avail -m "$tmpdir" | tail -n 1)
    [ "$free" -ge "$1" ] || skip "$1 MiB of free space for temporary files"
}

# ---- cleaning up ------------------------------------------------------------

cleanups=()

# cleanup_fn COMMAND ARGUMENT...: run it at the end, last registered first,
# whatever the verdict.
cleanup_fn() {
    cleanups+=("$(printf '%q ' "$@")")
}

run_cleanups() {
    local status=$? i
    trap - EXIT
    set +e
    exec >&"$verdict_fd" 2>&1
    if [ $status -eq 0 ]; then
        check_flash_left
        status=$?
    fi
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        show_logs
    fi
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
        eval "${cleanups[i]}"
    done
    exit $status
}
trap run_cleanups EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The ends of what the started servers said, for the log of a failed test.
show_logs() {
    local log
    for log in "$tmpdir"/*.log; do
        [ -e "$log" ] || continue
        echo "---- ${log##*/}"
        tail -n 50 "$log"
    done
}

# end_process PID: SIGTERM, and SIGKILL if that takes more than ten seconds.
# Harmless if it has gone already.
end_process() {
    local pid=$1 i
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((i = 0; i < 100; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
}

# check_flash_left: whatever a test did, the flash that its daemon leaves is one
# in which "blkcachectl check" finds nothing and that "dump" can print. A daemon
# that still runs is killed, so that a crash is looked at, too. A test that
# damages its flash on purpose says so by setting flash_is_damaged.
flash_used=
flash_is_damaged=
check_flash_left() {
    local log=$tmpdir/check-left.log
    [ -n "$flash_used" ] && [ -z "$flash_is_damaged" ] && [ -e "$flash" ] || return 0
    if [ -n "$daemon_pid" ] && kill -KILL "$daemon_pid" 2>/dev/null; then
        wait "$daemon_pid" 2>/dev/null
    fi
    if ! "$builddir/blkcachectl" check "$flash" >"$log" 2>&1; then
        echo "FAIL: blkcachectl check of the flash that the test left" >&2
    elif ! "$builddir/blkcachectl" dump "$flash" >"$tmpdir/dump-left" 2>"$log"; then
        echo "FAIL: blkcachectl dump of the flash that the test left" >&2
    else
        return 0
    fi
    tail -n 50 "$log" >&2
    return 1
}

tmpdir=$(mktemp -d "${TMPDIR:-/tmp}/blkcached-test.XXXXXX")
cleanup_fn rm -rf "$tmpdir"

# ---- waiting ----------------------------------------------------------------

# wait_until SECONDS COMMAND...: repeat COMMAND until it succeeds; fail the
# test when that takes longer.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$end" ] || fail "waited in vain for: $*"
        sleep 0.05
    done
}

# wait_for_socket PATH PID: until PID listens at PATH.
wait_for_socket() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ -S "$1" ] && return 0
        kill -0 "$2" 2>/dev/null || fail "process $2 ended before it listened at $1"
        sleep 0.05
    done
    fail "nothing listens at $1"
}

# free_port: prints the number of a TCP port at which nobody listens.
free_port() {
    python3 -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as s: print(s.getsockname()[1])'
}

# ---- backing stores ---------------------------------------------------------

# start_nbdkit NAME ARGUMENT...: an NBD server at $tmpdir/NAME.sock with the
# log $tmpdir/NAME.log. Sets nbdkit_pid. Use it from the URI
# nbd+unix:///?socket=$tmpdir/NAME.sock
start_nbdkit() {
    local name=$1
    shift
    requires_program nbdkit
    rm -f "$tmpdir/$name.sock"
    nbdkit --foreground --unix "$tmpdir/$name.sock" "$@" >>"$tmpdir/$name.log" 2>&1 &
    nbdkit_pid=$!
    cleanup_fn end_process "$nbdkit_pid"
    wait_for_socket "$tmpdir/$name.sock" "$nbdkit_pid"
}

# ---- the daemon -------------------------------------------------------------

# Where the helpers below put things.
flash=$tmpdir/flash
config=$tmpdir/blkcached.conf
control_socket=$tmpdir/control.sock
nbd_socket=$tmpdir/nbd.sock
daemon_log=$tmpdir/daemon.log
daemon_pid=

# blkcachectl ARGUMENT...: the control tool of this build, at our daemon.
blkcachectl() {
    "$builddir/blkcachectl" -s "$control_socket" "$@"
}

# format_flash SIZE [OPTION...]: make and format the flash file.
format_flash() {
    local bytes=$1
    shift
    requires_built blkcachectl
    "$builddir/blkcachectl" format --force --size "$bytes" "$@" "$flash"
}

# write_config VOLUME...: a configuration with these volumes, each the inside
# of a group:  write_config "name = \"a\"; backing = \"$tmpdir/a.img\";"
# Taken from the environment of the test: ram (default 16M), volatile_cache
# (auto), log_level (info), metrics (off), and daemon_settings, nbd_settings, cache_settings
# for further lines.
write_config() {
    local volume separator=
    mkdir -p "$tmpdir/state"
    {
        echo "daemon = {"
        echo "  control = \"$control_socket\";"
        echo "  state_dir = \"$tmpdir/state\";"
        echo "  metrics = \"${metrics:-}\";"
        echo "  log_level = \"${log_level:-info}\";"
        echo "  ${daemon_settings:-}"
        echo "};"
        echo "cache = {"
        echo "  flash = \"$flash\";"
        echo "  ram = \"${ram:-16M}\";"
        echo "  volatile_cache = \"${volatile_cache:-auto}\";"
        echo "  ${cache_settings:-}"
        echo "};"
        echo "nbd = {"
        echo "  listen = ( \"unix:$nbd_socket\" );"
        echo "  ${nbd_settings:-}"
        echo "};"
        echo "volumes = ("
        for volume; do
            echo "$separator  { $volume }"
            separator=,
        done
        echo ");"
    } >"$config"
}

# start_daemon [OPTION...]: start blkcached with $config and wait until it
# serves. Sets daemon_pid.
start_daemon() {
    requires_built blkcached blkcachectl
    flash_used=yes
    rm -f "$nbd_socket" "$control_socket"
    ${DAEMON_WRAPPER:-} "$builddir/blkcached" --foreground -c "$config" "$@" >>"$daemon_log" 2>&1 &
    daemon_pid=$!
    cleanup_fn end_process "$daemon_pid"
    wait_for_socket "$nbd_socket" "$daemon_pid"
    wait_until 30 blkcachectl status
}

# stop_daemon: a clean stop by SIGTERM; fails the test unless it ends with 0.
stop_daemon() {
    local status=0
    kill -TERM "$daemon_pid"
    wait "$daemon_pid" || status=$?
    daemon_pid=
    [ $status -eq 0 ] || fail "the daemon ended with status $status"
}

# kill_daemon: SIGKILL, and wait until it is gone.
kill_daemon() {
    kill -KILL "$daemon_pid"
    wait "$daemon_pid" 2>/dev/null || :
    daemon_pid=
}

# flash_is_marked [FILE]: does the flash say that all of what is on it is durable. An idle shard writes that down after a while;
# until then nobody can tell rot from a write that a crash tore.
flash_is_marked() {
    cp --sparse=always "${1:-$flash}" "$tmpdir/marked"
    "$builddir/blkcachectl" dump "$tmpdir/marked" | python3 -c '
import re, sys
lsn = lambda found: [int(part) for part in found[1].split(":")]
shard, last, durable = None, {}, {}
for line in sys.stdin:
    if found := re.match(r"segment .*: shard (\d+)", line):
        shard = found[1]
    elif found := re.search(r", durable ([\d:]+)", line):
        durable[shard] = max(durable.get(shard, [0]), lsn(found))
    elif found := re.search(r", lsn ([\d:]+)", line): # the first of a batch, of which all or nothing is durable
        last[shard] = max(last.get(shard, [0]), lsn(found))
sys.exit(any(last[one] > durable[one] for one in last))'
}

# daemon_alive: does it still run.
daemon_alive() {
    kill -0 "$daemon_pid" 2>/dev/null
}

# blkcachectl_fails STATUS TEXT ARGUMENT...: with this status, and with TEXT, a
# regular expression, on stderr.
blkcachectl_fails() {
    local wanted=$1 text=$2 status=0
    shift 2
    blkcachectl "$@" >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
    [ $status -eq "$wanted" ] || fail "$*: status $status: $(cat "$tmpdir/err")"
    grep -q -- "$text" "$tmpdir/err" || fail "$*: $(cat "$tmpdir/err")"
}

# volume VOLUME KEY: of the status of a volume.
volume() {
    blkcachectl --json volumes | jq -r ".volumes[] | select(.name == \"$1\") | .$2"
}

# wait_for_clients COUNT: until so many NBD connections are open. The daemon notices a moment after a client has ended, and only
# then has it counted all that the client was sent, and lets its volume go.
wait_for_clients() {
    wait_until 60 clients_are "$1"
}

clients_are() {
    [ "$(blkcachectl --json status | jq .nbd.connections)" = "$1" ]
}

# nbd_uri [VOLUME]: the NBD URI of a volume of our daemon.
nbd_uri() {
    echo "nbd+unix:///${1:-}?socket=$nbd_socket"
}
