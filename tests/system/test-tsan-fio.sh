#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon on all processors, with several shards for each, under load from
# several connections, with a cache much smaller than what is written, so
# that destaging and reclaim are always at work; flushes, control requests, clean
# stops, SIGKILL. Meant for a build with ThreadSanitizer, where any finding ends
# the daemon; in other builds it is one more stress test, and shorter.
. "$srcdir/tests/functions.sh"
requires_program fio jq
requires_free_space 400
requires_built blkcached blkcachectl tests/system/nbd-fault-server
[ "$(nproc)" -ge 2 ] || skip "two processors"
. "$srcdir/tests/system/failures.sh"

seconds=4
if [ "$SANITIZER" = thread ]; then seconds=${FIO_SECONDS:-10}; fi

# load NAME OPTION...: fio on a volume, verified by itself.
load() {
    local name=$1
    shift
    # fio writes its state of verification where it stands.
    mkdir -p "$tmpdir/fio.$name"
    (cd "$tmpdir/fio.$name" && exec fio --name="$name" --ioengine=nbd --uri="$(nbd_uri "$name")" --time_based --runtime="$seconds" \
        --group_reporting --output=/dev/null "$@") >"$tmpdir/fio.$name.log" 2>&1
}

control_requests() {
    while sleep 0.2; do
        blkcachectl status
        blkcachectl --json stats
        blkcachectl volumes
        blkcachectl flush
    done >/dev/null 2>&1
}

round() { # SHARDS
    local pids=() pid requests
    truncate -s 96M "$tmpdir/back" "$tmpdir/through" "$tmpdir/around"
    format_flash 68M --shards "$1" >/dev/null
    ram=4M write_config \
        "name = \"back\"; backing = \"$(store_uri back)\"; mode = \"write-back\";" \
        "name = \"through\"; backing = \"$tmpdir/through\"; mode = \"write-through\";" \
        "name = \"around\"; backing = \"$tmpdir/around\"; mode = \"write-around\";"
    start_store back
    start_daemon
    control_requests &
    requests=$!
    cleanup_fn end_process $requests
    load back --rw=randrw --bsrange=4k-64k --size=24M --numjobs=4 --offset_increment=24M --iodepth=8 \
        --fsync=16 --verify=crc32c --verify_backlog=64 &
    pids+=($!)
    load through --rw=randrw --bs=4k --size=24M --numjobs=2 --offset_increment=24M --iodepth=4 --fsync=8 &
    pids+=($!)
    load around --rw=randrw --bsrange=512-16k --blockalign=512 --size=24M --numjobs=2 --offset_increment=24M --iodepth=4 \
        --fsync=32 &
    pids+=($!)
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "fio: $(tail -n 5 "$tmpdir"/fio.*.log)"
    done
    daemon_alive || fail "the daemon has gone"
    [ "$(counter back destage_blocks)" -gt 100 ] || fail "nothing was destaged"
    [ "$(blkcachectl --json status | jq .flash.counters.segments_reclaimed)" -gt 1 ] || fail "nothing was reclaimed"
    end_process $requests || :
    kill_daemon
    start_daemon
    load back --rw=randread --bs=4k --size=24M --numjobs=4 --offset_increment=24M --iodepth=8 || fail "reads"
    timeout 100 "$builddir/blkcachectl" -s "$control_socket" shutdown --flush >/dev/null || fail "shutdown --flush"
    wait "$daemon_pid" || fail "the daemon ended with $?"
    daemon_pid=
    kill_store back
}

round 4
