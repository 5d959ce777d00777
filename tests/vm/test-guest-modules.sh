#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guest's kernel has what our tests and our peers in benchmarks need.
. "$srcdir/tests/vm/guest.sh"
guest_enter --timeout 120
set -eu

for module in ublk_drv nbd brd null_blk bcache dm-cache dm-cache-smq dm-writecache \
    dm-flakey dm-delay dm-log-writes scsi_debug ext4 xfs; do
    guest_modprobe "$module"
done
[ -c /dev/ublk-control ] || guest_die "no /dev/ublk-control"
rmmod brd
guest_brd 2 16
[ "$(blockdev --getsize64 /dev/ram1)" = $((16 << 20)) ] || guest_die "wrong size of /dev/ram1"
dd if=/dev/urandom of=/dev/ram1 bs=4k count=8 oflag=direct status=none
