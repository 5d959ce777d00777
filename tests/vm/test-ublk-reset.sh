#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The power cord: ext4 and XFS on ublk devices, cache and backing stores on disks;
# the machine is reset in the middle of writes. After the next boot what was synced
# is there, no block is older than its last fsync, and fsck finds nothing. The
# backing store of the ordered volume alone is a file system, too.
. "$srcdir/tests/vm/guest.sh"
if [ -z "${GUEST_LIB-}" ]; then
    . "$srcdir/tests/functions.sh"
    requires_program mkfs.ext4 mkfs.xfs xfs_repair jq python3
    shared=$tmpdir/shared
    mkdir "$shared"
    "$builddir/blkcachectl" format --size 48M "$tmpdir/flash" >/dev/null
    for name in ext4 xfs; do truncate -s 400M "$tmpdir/$name"; done
    guest() {
        "$srcdir/tests/vm/run-guest" --memory 1024 --env srcdir --env builddir --env SANITIZER --env ASAN_OPTIONS \
            --env UBSAN_OPTIONS --env TSAN_OPTIONS --env shared --share "$shared" --disk "$tmpdir/flash" \
            --disk "$tmpdir/ext4" --disk "$tmpdir/xfs" "${@:2}" /bin/bash "$0" "$1" 2>"$tmpdir/guest.err"
    }
    export shared
    status=0
    guest before || status=$?
    [ $status != 77 ] || { cat "$tmpdir/guest.err"; exit 77; }
    [ -e "$shared/reset" ] || fail "status $status before the reset: $(cat "$tmpdir/guest.err")"
    [ $status = 125 ] || fail "status $status at the reset, not 125: $(cat "$tmpdir/guest.err")"
    echo "synced before the reset: $(wc -l <"$shared/ext4.synced") and $(wc -l <"$shared/xfs.synced")"
    "$builddir/blkcachectl" check "$tmpdir/flash" || fail "blkcachectl check of the flash after the reset"
    cp --sparse=always "$tmpdir/ext4" "$tmpdir/alone"
    guest after --disk "$tmpdir/alone" || fail "after the reset: $(cat "$tmpdir/guest.err")"
    exit 0
fi
. "$srcdir/tests/vm/ublk.sh"
flash=/dev/vda
ublk_devices=(ext4 xfs)

daemon_start() {
    guest_modprobe ublk_drv
    volatile_cache=yes write_config \
        'name = "ext4"; backing = "/dev/vdb"; mode = "write-back"; destage = "ordered"; ublk = 0;' \
        'name = "xfs"; backing = "/dev/vdc"; mode = "write-back"; ublk = 1;'
    # What a daemon keeps between two boots is on the disk of the machine.
    mkdir -p "$shared/state"
    sed -i "s|state_dir = .*|state_dir = \"$shared/state\";|" "$config"
    ublk_start 2
}

# writer FOLDER LOG: files that are written once, and blocks of one file that are written again and
# again; LOG has what an fsync covered, after it returned.
cat >"$tmpdir/writer" <<'PYTHON'
import hashlib, os, random, sys
folder, log = sys.argv[1], open(sys.argv[2], "w", buffering=1)
random.seed(folder)
blocks = os.open(folder + "/blocks", os.O_RDWR | os.O_CREAT)
os.pwrite(blocks, bytes(4096 * 256), 0)
os.fsync(blocks)
for turn in range(1, 100000):
    written = random.sample(range(256), 8)
    for block in written:
        os.pwrite(blocks, b"%08d" % turn * 512, block * 4096)
    # A new name, fsync'ed with its folder; small ones and some of many requests.
    name = "%d/file.%d" % (turn % 10, turn)
    os.makedirs(os.path.dirname(folder + "/" + name), exist_ok=True)
    data = os.urandom(random.choice((100, 5000, 40000, 300000)))
    with open(folder + "/" + name, "wb") as file:
        file.write(data)
        file.flush()
        if turn % 2:
            os.fsync(file.fileno())
    if turn % 2:
        above = os.open(os.path.dirname(folder + "/" + name), os.O_RDONLY)
        os.fsync(above)
        os.close(above)
        log.write("file %s %s\n" % (name, hashlib.sha256(data).hexdigest()))
    os.fdatasync(blocks)
    for block in written:
        log.write("block %d %d\n" % (block, turn))
    # Freed, and discarded; its space is soon another file's.
    if turn > 40 and turn % 2 == 0:
        os.unlink(folder + "/%d/file.%d" % ((turn - 40) % 10, turn - 40))
PYTHON

cat >"$tmpdir/verify" <<'PYTHON'
import hashlib, sys
folder, synced, files, bad = sys.argv[1], {}, 0, []
for line in open(sys.argv[2]):
    if not line.endswith("\n"):
        break  # torn by the reset: never said
    kind, *words = line.split()
    if kind == "block":
        synced[int(words[0])] = int(words[1])
        continue
    files += 1
    with open(folder + "/" + words[0], "rb") as file:
        if hashlib.sha256(file.read()).hexdigest() != words[1]:
            bad.append(line)
content = open(folder + "/blocks", "rb").read()
for block, turn in synced.items():
    got = content[block * 4096:][:4096]
    if got != got[:8] * 512 or int(got[:8]) < turn:
        bad.append("block %d: turn %d was synced, it has %r" % (block, turn, got[:16]))
print("%s: %d files and %d blocks, %d lost or wrong" % (folder, files, len(synced), len(bad)), *bad, sep="\n")
sys.exit(1 if bad or files < 20 else 0)
PYTHON

if [ "$1" = before ]; then
    daemon_start
    writers=()
    for i in 0 1; do
        name=${ublk_devices[i]}
        modprobe "$name" || :
        case $name in
        ext4) mkfs.ext4 -q -F /dev/ublkb0 ;;
        xfs) mkfs.xfs -q -f /dev/ublkb1 ;;
        esac
        mkdir "$tmpdir/$name"
        mount -t "$name" -o discard "/dev/ublkb$i" "$tmpdir/$name"
        cp -r "$srcdir/engine" "$tmpdir/$name"
        sync -f "$tmpdir/$name"
        python3 "$tmpdir/writer" "$tmpdir/$name" "$shared/$name.synced" & writers+=($!)
    done
    # Long enough for the log to go round, and for ordered destaging to have made some epochs.
    files() { [ "$(grep -c ^file "$shared/$1.synced")" -ge 25 ]; }
    wait_until 240 files ext4
    wait_until 240 files xfs
    for writer in "${writers[@]}"; do kill -0 "$writer" || fail "a writer ended"; done
    : >"$shared/reset"
    echo b >/proc/sysrq-trigger
    sleep 60
    fail "not reset"
fi

daemon_start
for i in 0 1; do
    name=${ublk_devices[i]}
    modprobe "$name" || :
    mkdir "$tmpdir/$name"
    mount -t "$name" "/dev/ublkb$i" "$tmpdir/$name" || fail "$name does not mount: $(dmesg | tail -n 5)"
    diff -r "$srcdir/engine" "$tmpdir/$name/engine" || fail "$name: the tree differs"
    python3 "$tmpdir/verify" "$tmpdir/$name" "$shared/$name.synced" || fail "$name"
    umount "$tmpdir/$name"
done
e2fsck -fn /dev/ublkb0 >"$tmpdir/fsck.log" 2>&1 || fail "e2fsck"
xfs_repair -n /dev/ublkb1 >"$tmpdir/fsck.log" 2>&1 || fail "xfs_repair"
# The flash is lost: what the backing store had at the reset is some seconds old, and whole.
mount -t ext4 /dev/vdd "$tmpdir/ext4" || fail "the backing store alone does not mount"
umount "$tmpdir/ext4"
e2fsck -fn /dev/vdd >"$tmpdir/fsck.log" 2>&1 || fail "e2fsck of the backing store alone"
stop_daemon
