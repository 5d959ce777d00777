#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ordered destaging under a real file system: ext4 on a volume, files made durable one after the
# other, SIGKILL, the flash thrown away. On the backing store alone the journal is replayed, fsck finds nothing, and
# of the files there is a beginning of the series, each of them whole.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
requires_built blkcached blkcachectl
requires_program nbdfuse nbdkit losetup mke2fs e2fsck debugfs jq
requires_root
[ -c /dev/fuse ] || skip "/dev/fuse"
requires_free_space 300

export ram=4M
export log_level=warning

# The end of a file system whose disk is gone.
detach() {
    umount -l "$tmpdir/mnt" 2>/dev/null
    [ -z "${loop:-}" ] || losetup -d "$loop" 2>/dev/null
    fusermount3 -u -z "$tmpdir/export" 2>/dev/null || umount -l "$tmpdir/export" 2>/dev/null
    [ -z "${fuse_pid:-}" ] || end_process "$fuse_pid"
    loop='' fuse_pid=''
    return 0
}
cleanup_fn detach

dirty_backing() {
    blkcachectl --json status | jq -e '.volumes[0].dirty_bytes > 0'
}

attach() {
    touch "$tmpdir/export"
    mkdir -p "$tmpdir/mnt"
    nbdfuse "$tmpdir/export" "$(nbd_uri v)" >"$tmpdir/nbdfuse.log" 2>&1 &
    fuse_pid=$!
    wait_until 20 test -s "$tmpdir/export"
    loop=$(losetup --find --show "$tmpdir/export") || skip "loop devices over FUSE"
}

# Files are written under another name, made durable, and renamed; so is the folder.
write_files() {
    local i=0
    while :; do
        i=$((i + 1))
        head -c $((RANDOM % 60000 + 1)) < <(yes "file $i") >"$tmpdir/mnt/new" || return 0
        sync "$tmpdir/mnt/new" || return 0
        mv "$tmpdir/mnt/new" "$tmpdir/mnt/file$i" || return 0
        sync "$tmpdir/mnt" || return 0
        ((i % 7)) || rm "$tmpdir/mnt/file$((i - 3))" || return 0
        echo $i >"$tmpdir/written"
    done
}

files_written() {
    [ "$(<"$tmpdir/written")" -ge "$1" ]
}

check_alone() {
    local count=0 i number
    cp "$tmpdir/backing" "$tmpdir/alone"
    e2fsck -p -E journal_only "$tmpdir/alone" >"$tmpdir/replay.log" 2>&1 ||
        [ $? -eq 1 ] || fail "the journal cannot be replayed"
    e2fsck -fn "$tmpdir/alone" >"$tmpdir/fsck.log" 2>&1 || fail "fsck finds fault with the backing store alone"
    rm -rf "$tmpdir/found"
    mkdir "$tmpdir/found"
    debugfs -R "rdump / $tmpdir/found" "$tmpdir/alone" >"$tmpdir/debugfs.log" 2>&1
    for ((i = 1; i <= $(<"$tmpdir/written") + 1; i++)); do
        if [ -e "$tmpdir/found/file$i" ]; then
            [ $count -eq $((i - 1)) ] || fail "file $i is there, but $((count + 1)) is not"
            [ "$(grep -cvx "file $i" "$tmpdir/found/file$i")" -le 1 ] || fail "file $i is not whole"
            count=$i
        else
            number=$(((i + 3) % 7)) # may have been removed
            ((number)) || count=$((count + (count == i - 1)))
        fi
    done
    echo "$count of $(<"$tmpdir/written") files on the backing store alone"
}

for round in 1 2; do
    rm -rf "$tmpdir/backing" "$tmpdir/state"
    truncate -s 48M "$tmpdir/backing"
    start_nbdkit "server$round" --filter=delay file "$tmpdir/backing" delay-write=20ms
    format_flash 64M >/dev/null
    write_config "name = \"v\"; backing = \"nbd+unix:///?socket=$tmpdir/server$round.sock\"; mode = \"write-back\"; destage = \"${ORDER:-ordered}\";"
    start_daemon
    attach
    mke2fs -q -t ext4 -E nodiscard "$loop"
    blkcachectl flush --wait >/dev/null
    mount "$loop" "$tmpdir/mnt"
    echo 0 >"$tmpdir/written"
    write_files 2>/dev/null &
    writer_pid=$!
    wait_until 60 files_written 1
    sleep "$((round + 2)).$((RANDOM % 10))"
    dirty_backing >/dev/null || echo "nothing was dirty"
    kill_daemon
    wait $writer_pid || :
    detach
    end_process "$nbdkit_pid" || :
    check_alone
done
