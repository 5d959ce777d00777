#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ordered destaging: whenever the daemon is killed, the backing store without the flash is what a
# disk with a volatile write cache could have left, and not long ago. After a restart with the flash it says
# when that holds again, and then it does. ROUNDS= kills, 4 of them by default.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
requires_built blkcached blkcachectl tests/system/order-client
requires_program jq nbdkit
requires_free_space 200

rounds=${ROUNDS:-4}
client=$builddir/tests/system/order-client
bytes=$((24 * 1024 * 1024))
export ram=4M

status() {
    blkcachectl --json status | jq -e ".volumes[] | select(.name == \"v\") | $1"
}

writes_arrived() {
    status ".written_bytes > $((1024 * 1024))"
}

# round NUMBER: half of them with a file as backing store, half with a slow server; half of each with a volume
# that comes, goes and comes again while the daemon runs.
round() {
    local number=$1 backing=$tmpdir/backing volume first
    rm -f "$tmpdir/backing"
    truncate -s $bytes "$tmpdir/backing"
    if ((number % 2)); then
        start_nbdkit "server$number" --filter=delay file "$tmpdir/backing" \
            delay-write=$((number % 5 + 1))ms
        backing="nbd+unix:///?socket=$tmpdir/server$number.sock"
    fi
    format_flash 64M >/dev/null
    rm -rf "$tmpdir/state"
    volume="name = \"v\"; backing = \"$backing\"; mode = \"write-back\"; destage = \"ordered\";"
    if ((number % 4 < 2)); then
        write_config "$volume"
        start_daemon
    else
        truncate -s 1M "$tmpdir/first"
        first="name = \"first\"; backing = \"$tmpdir/first\"; mode = \"write-back\"; destage = \"ordered\";"
        write_config "$first"
        start_daemon
        write_config "$first" "$volume"
        blkcachectl reload
        blkcachectl detach v
        blkcachectl attach v
    fi
    wait_until 20 status '.destage == "ordered" and .backing_consistent'
    coproc CLIENT { "$client" "$(nbd_uri v)" $bytes "$number" 2>"$tmpdir/client.log"; }
    client_pid=$CLIENT_PID from=${CLIENT[0]} to=${CLIENT[1]}
    cleanup_fn end_process "$client_pid"
    wait_until 20 writes_arrived
    sleep "0.$((RANDOM % 10))"
    age=$(status '.backing_age_seconds')
    kill_daemon

    # The flash is lost.
    cp "$tmpdir/backing" "$tmpdir/alone"
    echo "$tmpdir/alone" >&"$to"
    read -r -t 60 answer <&"$from" || fail "the client says nothing: $(cat "$tmpdir/client.log")"
    echo "round $number: $answer; the status said $age s"
    [[ $answer == legal* ]] || fail "the backing store alone is not legal"

    # Or it is not, and what it held comes after.
    start_daemon
    wait_until 60 status .backing_consistent
    kill_daemon
    cp "$tmpdir/backing" "$tmpdir/alone"
    echo "$tmpdir/alone" >&"$to"
    read -r -t 60 answer <&"$from" || fail "the client says nothing: $(cat "$tmpdir/client.log")"
    [[ $answer == legal* ]] || fail "after the recovery: $answer"
    exec {to}>&-
    wait "$client_pid" || fail "the client failed: $(cat "$tmpdir/client.log")"
    if ((number % 2)); then
        end_process "$nbdkit_pid" || :
    fi
}

for ((number = 1; number <= rounds; number++)); do
    round $number
done
