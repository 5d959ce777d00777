#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fio's verification over NBD: random writes from 512 bytes to 1 MiB, on four
# connections, against a cache that is smaller than what is written, so that
# destaging and reclaim never rest.  In the end the backing store, alone, is
# verified by the same fio jobs.
. "$srcdir/tests/functions.sh"
requires_program fio
fio --enghelp 2>/dev/null | grep -q -w nbd || skip "fio with the engine nbd"
requires_built blkcached blkcachectl
[ "$SANITIZER" = none ] || scale=4

connections=4
region=$((64 / ${scale:-1}))
truncate -s $((region * connections))M "$tmpdir/a.img"
format_flash 96M
ram=8M write_config "name = \"a\"; backing = \"$tmpdir/a.img\"; mode = \"write-back\";"
start_daemon

# run_fio NAME OPTION...: each connection has a region of its own.
run_fio() {
    fio --name="$1" --size="${region}M" --offset_increment="${region}M" \
        --numjobs=$connections --thread --group_reporting --verify=crc32c --verify_fatal=1 \
        --verify_dump=0 --verify_state_save=0 --randseed=7 --norandommap=0 "${@:2}" >"$tmpdir/fio.log" 2>&1 && return
    tail -n 40 "$tmpdir/fio.log" >&2
    fail "fio: $*"
}

over_nbd() { run_fio "$@" --ioengine=nbd --uri="$(nbd_uri a)"; }
on_backing() { run_fio "$@" --ioengine=psync --filename="$tmpdir/a.img" --verify_only; }

# verify NAME OPTION...: write, read back, and, once it is destaged, check what
# is on the backing store.
verify() {
    over_nbd "$@"
    blkcachectl flush --wait
    on_backing "$@"
}

verify small --rw=randwrite --bs=4k --iodepth=16
verify mixed --rw=randwrite --bsrange=4k-1M --bs_unaligned=0 --blockalign=4k --iodepth=4
verify unaligned --rw=randwrite --bs=512 --size=8M --iodepth=16 --offset_increment="${region}M"
verify ranges --rw=randwrite --bsrange=512-64k --blockalign=512 --size=16M --iodepth=8
verify synced --rw=randwrite --bs=4k --fsync=32 --size=4M --iodepth=4
daemon_alive || fail "the daemon has gone"
stop_daemon
"$builddir/blkcachectl" check "$flash"
