#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A machine short of memory whose dirty pages and whose swap are on ublk devices of
# ours: to get memory the kernel has to write to the daemon, which must not need
# any for that. It ends, in time, and every byte is right.
. "$srcdir/tests/vm/guest.sh"
if [ -z "${GUEST_LIB-}" ]; then
    # On disks of the host: RAM disks would take the memory.
    . "$srcdir/tests/functions.sh"
    requires_program mkfs.ext4 mkswap jq python3
    "$builddir/blkcachectl" format --size 96M "$tmpdir/flash" >/dev/null
    for name in files swap; do truncate -s 512M "$tmpdir/$name"; done
    "$srcdir/tests/vm/run-guest" --memory 512 --env srcdir --env builddir --env SANITIZER --env ASAN_OPTIONS \
        --env UBSAN_OPTIONS --env TSAN_OPTIONS --disk "$tmpdir/flash" --disk "$tmpdir/files" \
        --disk "$tmpdir/swap" /bin/bash "$0"
    exit
fi
. "$srcdir/tests/vm/ublk.sh"
requires_plain_build
flash=/dev/vda
guest_modprobe ublk_drv
modprobe ext4 || :

# The devices come while the daemon runs: nothing said at its start that it would have any.
write_config
ublk_daemon
wait_until 60 blkcachectl status
write_config 'name = "files"; backing = "/dev/vdb"; mode = "write-back"; ublk = 0;' \
    'name = "swap"; backing = "/dev/vdc"; mode = "write-back"; ublk = 1;'
blkcachectl reload >/dev/null
wait_until 60 test -b /dev/ublkb0
wait_until 60 test -b /dev/ublkb1

# ---- what the kernel was told of this process

# PF_MEMALLOC_NOIO, which PR_SET_IO_FLUSHER sets, of every thread, those of io_uring included.
for stat in /proc/"$daemon_pid"/task/*/stat; do
    read -r line <"$stat"
    line=${line##*) } # the name may have spaces
    read -r -a fields <<<"$line"
    ((fields[6] & 0x80000)) || fail "thread $(cat "${stat%stat}comm") is no I/O flusher: flags ${fields[6]}"
done
memory() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$daemon_pid/status"; }
echo "the daemon has $(memory VmRSS) KiB, of which $(memory VmLck) are locked"
[ "$(memory VmLck)" -ge "$(($(memory VmRSS) / 2))" ] || fail "its memory is not locked"

# ---- dirty pages and anonymous memory, together more than there is

mkfs.ext4 -q -F /dev/ublkb0
mkdir "$tmpdir/mnt"
mount /dev/ublkb0 "$tmpdir/mnt"
mkswap -q /dev/ublkb1
swapon /dev/ublkb1
echo 50 >/proc/sys/vm/dirty_background_ratio
echo 80 >/proc/sys/vm/dirty_ratio
echo 150 >/proc/sys/vm/swappiness # rather swap than read programs again and again

cat >"$tmpdir/hog" <<'PYTHON'
import os, sys, time
mebibytes, until = int(sys.argv[1]), sys.argv[2]
pieces = []
for i in range(mebibytes):
    # Each page differs from the others, and cannot be squeezed.
    start = os.urandom(4088)
    pieces.append(bytearray(b"".join(b"%08d" % (i * 256 + page) + start for page in range(256))))
print("has it", flush=True)
while not os.path.exists(until):
    time.sleep(0.2)
for i, piece in enumerate(pieces):
    for page in range(256):
        if piece[page * 4096:page * 4096 + 8] != b"%08d" % (i * 256 + page):
            sys.exit("page %d of piece %d is wrong" % (page, i))
PYTHON

hogs=()
hog_start() { # MEBIBYTES
    timeout 700 python3 "$tmpdir/hog" "$1" "$tmpdir/end" >"$tmpdir/hog.${#hogs[@]}" &
    hogs+=($!)
}
swapped() { awk '$1 == "pswpout" { print $2 }' /proc/vmstat; }
available=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) / 1024))
echo "a hog of $((available - 8)) MiB, with $available MiB available"
hog_start $((available - 8))
for ((i = 0; i < 6; i++)); do
    timeout 500 dd if=/dev/urandom of="$tmpdir/mnt/file.$i" bs=1M count=16 status=none || fail "file $i"
    timeout 500 sha256sum "$tmpdir/mnt/file.$i" >>"$tmpdir/sums" || fail "file $i"
done
wait_until 600 grep -q "has it" "$tmpdir/hog.0"
# Sometimes the kernel finds enough that it need not write.
for ((i = 1; i < 8 && $(swapped) < 500; i++)); do
    echo "one more, after $(swapped) pages"
    hog_start 16
    wait_until 600 grep -q "has it" "$tmpdir/hog.$i"
done
timeout 500 sync -f "$tmpdir/mnt" || fail "sync"
: >"$tmpdir/end"
for hog in "${hogs[@]}"; do
    wait "$hog" || fail "a hog: status $?: $(dmesg | tail -n 20)"
done
echo "$(swapped) pages were swapped out"
[ "$(swapped)" -ge 500 ] || fail "only $(swapped) pages were swapped out: this was no pressure"
[ "$(memory VmSwap)" = 0 ] || fail "the daemon itself was swapped out"

echo 3 >/proc/sys/vm/drop_caches
timeout 500 sha256sum --quiet -c "$tmpdir/sums" || fail "a file differs"
timeout 500 swapoff /dev/ublkb1 || fail "swapoff"
timeout 500 umount "$tmpdir/mnt" || fail "umount"
e2fsck -fn /dev/ublkb0 >"$tmpdir/fsck.log" 2>&1 || fail "e2fsck"
if dmesg | grep -E "BUG:|WARNING:|blocked for more than|Out of memory|page allocation failure"; then
    fail "the kernel complains"
fi
stop_daemon
