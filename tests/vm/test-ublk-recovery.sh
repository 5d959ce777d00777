#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Killed and restarted again and again under fio, which sees no error and reads
# back all it wrote; with few requests in flight, and with more than a queue has
# room for. What the kernel was told when the device was made holds, also when
# the volume's mode changes meanwhile, and the number of cores.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1024
. "$srcdir/tests/vm/ublk.sh"
requires_program fio jq

# A flash with a volatile cache for one, and one without: FLUSH is sent, or not.
ublk_disks 2 128
volume='name = "v"; backing = "/dev/ram1"; ublk = 0;'

run_fio() { # NAME OPTION...
    fio --name="$1" --filename=/dev/ublkb0 --allow_file_create=0 --direct=1 --ioengine=libaio \
        --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 "${@:2}" \
        >"$tmpdir/fio.$1.log" 2>&1 || fail "fio $1: $(cat "$tmpdir/fio.$1.log")"
}

for depth in 8 200; do
    if [ $depth = 8 ]; then
        volatile_cache=yes write_config "$volume mode = \"write-back\";"
    else
        volatile_cache=no write_config "$volume mode = \"write-back\";"
    fi
    ublk_start
    cache=$(cat /sys/block/ublkb0/queue/write_cache)
    case $depth-$cache in
    "8-write back" | "200-write through") ;;
    *) fail "depth $depth: the write cache is $cache" ;;
    esac
    run_fio depth$depth --rw=randwrite --bs=4k --size=48M --iodepth=$depth --fsync=64 --rate_iops=1200 &
    fio=$!
    sleep 3
    ublk_crash
    said "that was left behind" || fail "the device was not taken over"
    sleep 1
    stop_daemon
    ublk_start
    if [ $depth = 200 ]; then
        sleep 1
        kill_daemon
        # Neither FLUSH nor FUA is sent: write-through with a volatile backing store has to make
        # each write durable all the same.  One core now serves the queues of two.
        volatile_cache=yes daemon_settings='cores = [ 0 ];' \
            write_config "$volume mode = \"write-through\";"
        ublk_start
        [ "$(blkcachectl --json status | jq '.volumes[0].ublk.queues')" = 2 ] ||
            fail "the number of queues changed"
    fi
    wait $fio || fail "fio failed"
    kill_daemon
    ublk_start
    run_fio depth$depth --rw=randwrite --bs=4k --size=48M --iodepth=16 --verify_only
    stop_daemon
    [ ! -e /dev/ublkb0 ] || fail "the device is still there"
done
if dmesg | grep -E "BUG:|WARNING:|blocked for more than"; then
    fail "the kernel complains"
fi
