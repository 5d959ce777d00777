# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Helpers around nbd-memory-server.

# start_memory_server OPTION...: at $tmpdir/memory.sock. Sets memory_pid.
start_memory_server() {
    "$builddir/tests/system/nbd-memory-server" "$@" "unix:$tmpdir/memory.sock" \
        >"$tmpdir/memory.counters" 2>>"$tmpdir/memory.log" &
    memory_pid=$!
    cleanup_fn end_process "$memory_pid"
    wait_for_socket "$tmpdir/memory.sock" "$memory_pid"
}

# stop_memory_server: cleanly; its counters are in $tmpdir/memory.counters.
stop_memory_server() {
    local status=0
    kill -TERM "$memory_pid"
    wait "$memory_pid" || status=$?
    [ $status -eq 0 ] || fail "nbd-memory-server ended with status $status"
    [ ! -e "$tmpdir/memory.sock" ] || fail "the socket's file was left behind"
}

# expect_counter NAME VALUE: of the server that was stopped.
expect_counter() {
    local value
    value=$(awk -v name="$1" '$1 == name { print $2 }' "$tmpdir/memory.counters")
    [ "$value" = "$2" ] || fail "counter $1 is $value instead of $2"
}
