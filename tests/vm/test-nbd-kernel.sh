#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel's NBD client on four connections: fio with verify on the bare device,
# then ext4 with a real file tree and random file operations; the daemon is killed,
# and stopped, under both, and comes back without an error that anyone sees; fsck
# finds nothing, and all is as it was written.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1536 --timeout 850
. "$srcdir/tests/functions.sh"
requires_program nbd-client python3 fio mkfs.ext4 e2fsck jq blkdiscard fstrim
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

flash=/dev/ram0
guest_brd 2 256
guest_modprobe nbd nbds_max=1
"$builddir/blkcachectl" format "$flash" >/dev/null
write_config "name = \"v\"; backing = \"/dev/ram1\"; mode = \"write-back\";"
start_daemon

counter() { blkcachectl --json stats | jq ".nbd.counters.$1"; }

connect() {
    # Requests of a dead connection are sent again after that timeout.
    nbd-client -unix "$nbd_socket" -N v /dev/nbd0 -C 4 -t 20 >"$tmpdir/nbd-client.log" 2>&1 ||
        fail "nbd-client: $(cat "$tmpdir/nbd-client.log")"
    wait_until 60 nbd-client -c /dev/nbd0
    [ "$(counter connections_open)" = 4 ] || fail "$(counter connections_open) connections"
    python3 "$srcdir/tests/vm/nbd-kernel.py" 0 patience 120
}

reconnect() {
    start_daemon
    python3 "$srcdir/tests/vm/nbd-kernel.py" 0 reconnect "$nbd_socket" v 4 || fail "no new connections"
}

# run_fio NAME FILE OPTION...
run_fio() {
    fio --name="$1" --filename="$2" --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 \
        --randseed=5 "${@:3}" >"$tmpdir/fio.$1.log" 2>&1 || fail "fio $1: $(cat "$tmpdir/fio.$1.log")"
}

# The bare device: any sectors; killed in the middle.
connect
[ "$(cat /sys/block/nbd0/queue/write_cache)" = "write back" ] || fail "no flushes"
run_fio bare /dev/nbd0 --allow_file_create=0 --rw=randwrite --bsrange=4k-64k --size=8M \
    --iodepth=16 --fsync=32 --rate_iops=60 & writer=$!
sleep 2
kill_daemon
reconnect
wait $writer || fail "fio failed when the daemon was killed"
run_fio sectors /dev/nbd0 --allow_file_create=0 --rw=randwrite --bs=1536 --offset=16M --size=768K --iodepth=8 --fsync=64
[ "$(counter requests_flush)" -gt 0 ] || fail "no flush arrived"
blkdiscard -o 1M -l 2M /dev/nbd0
cmp -n 2M -i 1M:0 /dev/nbd0 /dev/zero || fail "discarded blocks are no zeros"
[ "$(counter requests_trim)" -gt 0 ] || fail "no discard arrived"

# ext4.
mkdir "$tmpdir/mnt"
mkfs.ext4 -q -F -E nodiscard /dev/nbd0
mount -t ext4 -o discard /dev/nbd0 "$tmpdir/mnt"
cp -r "$srcdir/engine" "$srcdir/io" "$tmpdir/mnt"
(cd "$tmpdir/mnt" && find . -type f -print0 | xargs -0 sha256sum >"$tmpdir/sums")
sync -f "$tmpdir/mnt"
verified() { (cd "$tmpdir/mnt" && sha256sum --quiet -c "$tmpdir/sums") || fail "$1: files changed"; }
load() {
    python3 "$srcdir/tests/vm/fsx.py" "$tmpdir/mnt/fsx.$1" 300 "$1" & loaders=($!)
    run_fio "file.$1" "$tmpdir/mnt/fio.$1" --rw=randrw --bsrange=1k-32k --direct=0 --size=2M \
        --iodepth=4 --fsync=16 --rate_iops=100 & loaders+=($!)
    sleep 3
}
loaded() {
    local loader
    for loader in "${loaders[@]}"; do
        wait "$loader" || fail "a program on ext4 failed when $1"
    done
}
load 1
kill_daemon
reconnect
loaded "the daemon was killed"
load 2
stop_daemon
reconnect
loaded "the daemon was restarted"
verified "ext4"
rm -r "$tmpdir/mnt/engine"
sed -i '/ \.\/engine\//d' "$tmpdir/sums"
fstrim -l 64M "$tmpdir/mnt"
umount "$tmpdir/mnt"

# Away, and back as a new device.
nbd-client -d /dev/nbd0 >"$tmpdir/nbd-client.log"
kill_daemon
start_daemon
connect
e2fsck -fn /dev/nbd0 >"$tmpdir/fsck.log" 2>&1 || fail "fsck: $(cat "$tmpdir/fsck.log")"
mount -t ext4 /dev/nbd0 "$tmpdir/mnt"
verified "ext4, mounted again"
umount "$tmpdir/mnt"
nbd-client -d /dev/nbd0 >"$tmpdir/nbd-client.log"
stop_daemon
# An emulated guest on a busy machine has soft lockups of its own.
if dmesg | grep -v "soft lockup" | grep -E "BUG:|WARNING:|I/O error"; then
    fail "the kernel complains"
fi
