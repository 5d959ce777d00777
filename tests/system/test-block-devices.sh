#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A block device as flash and one as backing store: formatted, in use while the daemon has them,
# verified under load, and equal to what a client read after a flush.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
requires_root
requires_program losetup fio nbdcopy
requires_built blkcached blkcachectl

loop_device() { # FILE SIZE
    truncate -s "$2" "$1"
    losetup -f --show "$1" 2>/dev/null
}

flash=$(loop_device "$tmpdir/flash.img" 192M) || skip "loop devices"
cleanup_fn losetup -d "$flash"
backing=$(loop_device "$tmpdir/backing.img" 128M) || skip "a second loop device"
cleanup_fn losetup -d "$backing"

"$builddir/blkcachectl" format "$flash"
"$builddir/blkcachectl" format "$flash" 2>"$tmpdir/refused.log" && fail "formatted a cache over again"
ram=8M write_config "name = \"v\"; backing = \"$backing\"; mode = \"write-back\";"
start_daemon
"$builddir/blkcachectl" format --force "$flash" 2>"$tmpdir/refused.log" &&
    fail "formatted a device in use"

(cd "$tmpdir" && fio --name=v --ioengine=nbd --uri="$(nbd_uri v)" --rw=randwrite \
    --bsrange=4k-256k --size=100M --io_size=200M --verify=crc32c --iodepth=8 >fio.log 2>&1) ||
    fail "fio"
blkcachectl flush --wait
nbdcopy "$(nbd_uri v)" "$tmpdir/seen"
stop_daemon
cmp "$tmpdir/seen" "$backing" || fail "the backing device differs after a flush"
"$builddir/blkcachectl" check "$flash" || fail "check finds fault with the flash"
