#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ext4 and XFS on a ublk device with a real file tree: the daemon is killed under
# a writer, and restarted, without an error; discards arrive; then, unmounted,
# fsck finds nothing and every file is as it was written.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 2048
. "$srcdir/tests/vm/ublk.sh"
requires_program mkfs.ext4 mkfs.xfs xfs_repair resize2fs jq

ublk_disks 2 512
write_config "name = \"v\"; backing = \"/dev/ram1\"; mode = \"write-back\"; ublk = 0;"
ublk_start
mkdir "$tmpdir/mnt"

# tree FOLDER: files of the source and of the system, with a list of checksums.
tree() {
    mkdir -p "$1"
    cp -r "$srcdir/engine" "$srcdir/io" "$srcdir/daemon" "$1"
    dd if=/dev/urandom of="$1/large" bs=1M count=16 status=none
    (cd "$1" && find . -type f ! -name sums -print0 | xargs -0 sha256sum >"$tmpdir/sums")
}

verified() { (cd "$1" && sha256sum --quiet -c "$tmpdir/sums") || fail "$2: files changed"; }

# try NAME FSCK MKFS...
try() {
    local name=$1 fsck=$2 trims writer
    shift 2
    modprobe "$name" || :
    "$@" /dev/ublkb0 >/dev/null
    mount -t "$name" -o discard /dev/ublkb0 "$tmpdir/mnt"
    tree "$tmpdir/mnt/tree"
    sync
    # Killed while files are written and synced.
    (for ((i = 0; i < 16; i++)); do
        cp -r "$srcdir/common" "$tmpdir/mnt/copy.$i" && sync -f "$tmpdir/mnt" || exit 1
    done) & writer=$!
    sleep 1
    ublk_crash
    wait $writer || fail "$name: a writer failed when the daemon was killed"
    diff -r "$srcdir/common" "$tmpdir/mnt/copy.15" || fail "$name: a copy differs"
    # A restart, as systemctl does it.
    stop_daemon
    ublk_start
    said "in use and stays" || fail "$name: a mounted device was not left"
    # Deleted files are discarded.
    trims=$(counter requests_trim)
    rm -r "$tmpdir"/mnt/copy.*
    sync -f "$tmpdir/mnt"
    more_trims() { [ "$(counter requests_trim)" -gt "$trims" ]; }
    wait_until 60 more_trims
    trims=$(counter requests_trim)
    fstrim "$tmpdir/mnt"
    more_trims || fail "$name: no discard of fstrim arrived"
    verified "$tmpdir/mnt/tree" "$name"
    umount "$tmpdir/mnt"
    ublk_crash
    $fsck /dev/ublkb0 >"$tmpdir/fsck.log" 2>&1 || fail "$name: fsck: $(cat "$tmpdir/fsck.log")"
    mount -t "$name" /dev/ublkb0 "$tmpdir/mnt"
    verified "$tmpdir/mnt/tree" "$name, mounted again"
    umount "$tmpdir/mnt"
}

try ext4 "e2fsck -fn" mkfs.ext4 -q -F
try xfs "xfs_repair -n" mkfs.xfs -q -f
stop_daemon
[ ! -e /dev/ublkb0 ] || fail "an unused device was left after a clean stop"

# The backing store grows, under a mounted file system and then without one. Up to Linux 6.15 the size
# of a device is fixed; one that nobody uses is another one after a restart.
size() { blockdev --getsize64 /dev/ublkb0; }
truncate -s 64M /dev/shm/backing
write_config 'name = "grows"; backing = "/dev/shm/backing"; mode = "write-back"; ublk = 0;'
ublk_start
mkfs.ext4 -q -F /dev/ublkb0
mount /dev/ublkb0 "$tmpdir/mnt"
cp -r "$srcdir/engine" "$tmpdir/mnt"
truncate -s 96M /dev/shm/backing
ublk_crash
diff -r "$srcdir/engine" "$tmpdir/mnt/engine" || fail "files changed when the backing store grew"
if said "keeps its old size"; then
    [ "$(size)" = $((64 << 20)) ] || fail "size $(size)"
    umount "$tmpdir/mnt"
    stop_daemon
    ublk_start
    mount /dev/ublkb0 "$tmpdir/mnt"
fi
[ "$(size)" = $((96 << 20)) ] || fail "size $(size)"
resize2fs /dev/ublkb0 >"$tmpdir/resize2fs.log" 2>&1 || fail "resize2fs: $(cat "$tmpdir/resize2fs.log")"
[ "$(df --output=size -m "$tmpdir/mnt" | tail -n 1)" -gt 70 ] || fail "the file system did not grow"
umount "$tmpdir/mnt"
e2fsck -fn /dev/ublkb0 >"$tmpdir/fsck.log" 2>&1 || fail "fsck: $(cat "$tmpdir/fsck.log")"
stop_daemon
