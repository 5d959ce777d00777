#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The life of a ublk device: what is missing is said, numbers that are taken are
# refused, users are not cut off, and nothing hangs.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1536
. "$srcdir/tests/vm/ublk.sh"
requires_program fio jq nbdinfo qemu-io setpriv blkdiscard

volume='name = "v"; backing = "/dev/ram1"; mode = "write-back";'
other='name = "w"; backing = "/dev/ram2"; mode = "write-back";'

# refused TEXT: the daemon does not start, and says why.
refused() {
    local status=0
    timeout 120 "$builddir/blkcached" --foreground -c "$config" >"$tmpdir/refused.log" 2>&1 || status=$?
    [ $status = 1 ] || fail "status $status, not 1: $(cat "$tmpdir/refused.log")"
    grep -qF -- "$1" "$tmpdir/refused.log" || fail "not said: $1: $(cat "$tmpdir/refused.log")"
}

# No module, no privilege.
guest_brd 3 128
"$builddir/blkcachectl" format "$flash" >/dev/null
write_config "$volume ublk = 0;"
refused "run: modprobe ublk_drv"
guest_modprobe ublk_drv
chmod 755 "$tmpdir" && chmod 644 "$config"
status=0
setpriv --reuid 65534 --clear-groups "$builddir/blkcached" --check -c "$config" >"$tmpdir/check" 2>&1 || status=$?
[ $status = 1 ] || fail "--check without privilege: status $status"
grep -qF "ublk: /dev/ublk-control: no privilege" "$tmpdir/check" || fail "$(cat "$tmpdir/check")"

# Sizes and alignments; 512-byte sectors on 4 KiB blocks.
ublk_start
queue=/sys/block/ublkb0/queue
[ "$(cat $queue/logical_block_size) $(cat $queue/physical_block_size)" = "512 4096" ] || fail "block sizes"
fio --name=verify --filename=/dev/ublkb0 --allow_file_create=0 --direct=1 --ioengine=io_uring --rw=randwrite \
    --bsrange=4k-1M --size=24M --iodepth=8 --fsync=16 --verify=crc32c --verify_fatal=1 >"$tmpdir/fio.log" || fail "fio"
fio --name=small --filename=/dev/ublkb0 --allow_file_create=0 --direct=1 --ioengine=io_uring --rw=randwrite \
    --bsrange=512-32k --blockalign=512 --offset=64M --size=4M --iodepth=8 --verify=crc32c --verify_fatal=1 \
    >"$tmpdir/fio.log" || fail "fio with unaligned requests"

# The same volume over NBD: each sees what the other wrote.
over_nbd() { qemu-io -f raw -c "$1" "$(nbd_uri v)" >"$tmpdir/qemu-io.log" || fail "$1: $(cat "$tmpdir/qemu-io.log")"; }
dd if=/dev/urandom of="$tmpdir/data" bs=64k count=64 status=none
head -c 4M /dev/zero | tr '\0' '\245' | dd of=/dev/ublkb0 bs=256k iflag=fullblock oflag=direct status=none
over_nbd "read -P 0xa5 0 4M"
over_nbd "write -P 0x5a 512k 2M"
dd if=/dev/ublkb0 bs=256k skip=2 count=8 iflag=direct status=none |
    cmp - <(head -c 2M /dev/zero | tr '\0' '\132') || fail "the device does not show what was written over NBD"
over_nbd "read -P 0xa5 2560k 1536k"

# Their connections are closed, although the requests of an idle device hold on to files of the same
# ring: up to Linux 6.12 that keeps files which were registered later open.
connections_closed() { ! awk '$6 == "03"' /proc/net/unix | grep -F " $nbd_socket"; }
timeout 60 nbdinfo --size "$(nbd_uri v)" >"$tmpdir/nbdinfo.log" || fail "a client of NBD does not end"
wait_until 20 connections_closed

# Discarded and zeroed blocks read as zeros.
blkdiscard -o 1M -l 1M /dev/ublkb0
blkdiscard -z -o 3M -l 512k /dev/ublkb0
[ "$(counter requests_trim)" -gt 0 ] && [ "$(counter requests_zero)" -gt 0 ] || fail "discard, zero"
for range in 256,256 768,128; do
    dd if=/dev/ublkb0 bs=4k skip=${range%,*} count=${range#*,} iflag=direct status=none |
        cmp -n $((${range#*,} * 4096)) - /dev/zero || fail "no zeros at block ${range%,*}"
done

# A number that another volume's device has.
kill_daemon
write_config "$other ublk = 0;"
refused "/dev/ublkb0 is taken by another volume"

# Another number: the old device is removed, as nobody uses it.
write_config "$volume ublk = 1;" "$other ublk = 0; read_only = true;"
ublk_start 2
said "removed a ublk device of an earlier configuration" || fail "the old device was not removed"
[ -b /dev/ublkb1 ] || fail "no /dev/ublkb1"
[ "$(cat /sys/block/ublkb0/ro)" = 1 ] || fail "the device of a read-only volume is writable"
if dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct 2>"$tmpdir/err"; then
    fail "a read-only volume was written"
fi

# One that is open stays, and goes on where it was; the other one goes away.
exec 9<>/dev/ublkb1
stop_daemon
said "in use and stays" || fail "an open device was not left"
[ -b /dev/ublkb1 ] || fail "an open device was taken away"
[ ! -e /dev/ublkb0 ] || fail "an unused device was left"
dd if="$tmpdir/data" bs=4k count=1 status=none >&9 & writer=$!
for _ in {1..300}; do # before it has written there is nothing to wait for
    kill -0 "$writer" 2>/dev/null || break
    sleep 0.1
done
sync /dev/ublkb1 & syncer=$!
sleep 0.5
kill -0 $syncer 2>/dev/null || fail "a request was answered without a daemon"
ublk_start 2
wait $writer || fail "a write that waited for the daemon failed"
wait $syncer || fail "an fsync that waited for the daemon failed"
exec 9>&-
stop_daemon
[ ! -e /dev/ublkb1 ] || fail "an unused device was left"

# Many starts and stops, some in the middle of the start.
for delay in 0 0.05 0.1 0.2 0.4 0.8; do
    ublk_daemon
    sleep $delay
    kill_daemon
done
ublk_start 2
stop_daemon
if [ -e /dev/ublkb0 ] || [ -e /dev/ublkb1 ]; then
    fail "a device was left after killed starts"
fi
if dmesg | grep -E "BUG:|WARNING:|blocked for more than"; then
    fail "the kernel complains"
fi
