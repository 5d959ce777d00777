#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A store that is in use already gets a cache, and loses it again, as it is: nothing is converted, nothing but
# what clients write changes, and what they wrote is there without the cache.
. "$srcdir/tests/functions.sh"
requires_program mke2fs debugfs e2fsck nbdcopy qemu-io cmp
requires_free_space 250

# An ext4 file system with files, as a machine has it; its last block is no whole 4 KiB.
store=$tmpdir/store
mkdir "$tmpdir/tree"
cp -r "$srcdir/engine" "$srcdir/docs" "$tmpdir/tree"
truncate -s $(((40 << 20) + 512)) "$store"
mke2fs -q -t ext4 -d "$tmpdir/tree" "$store" 40M
head -c 512 /dev/urandom | dd of="$store" bs=512 seek=81920 conv=notrunc status=none
cp "$store" "$tmpdir/before"
format_flash 64M >/dev/null
for mode in write-back write-through; do
    write_config "name = \"v\"; backing = \"$store\"; mode = \"$mode\";"
    start_daemon
    cmp "$tmpdir/before" "$store" || fail "$mode: to attach it changes the store"
    [ "$(nbdinfo --size "$(nbd_uri v)")" = "$(stat -c %s "$store")" ] || fail "$mode: another size"
    for pass in cold warm; do
        nbdcopy "$(nbd_uri v)" "$tmpdir/$pass"
        cmp "$tmpdir/before" "$tmpdir/$pass" || fail "$mode: $pass reads differ"
    done
    cmp "$tmpdir/before" "$store" || fail "$mode: to read changes the store"

    # A client changes it: a file more, by way of the file system's own tools.
    echo "written behind the cache, $mode" >"$tmpdir/file"
    cp "$tmpdir/before" "$tmpdir/after"
    debugfs -w -R "write $tmpdir/file new-$mode" "$tmpdir/after" >/dev/null 2>&1
    { cmp -l "$tmpdir/before" "$tmpdir/after" || :; } | awk '{ print int(($1 - 1) / 512) }' | uniq >"$tmpdir/sectors"
    [ -s "$tmpdir/sectors" ] || fail "the file system did not change"
    commands=()
    while read -r sector; do
        dd if="$tmpdir/after" of="$tmpdir/sector.$sector" bs=512 skip="$sector" count=1 status=none
        commands+=(-c "write -s $tmpdir/sector.$sector $((sector * 512)) 512")
    done <"$tmpdir/sectors"
    qemu-io -f raw "${commands[@]}" -c flush "$(nbd_uri v)" >"$tmpdir/qemu-io.log" || fail "$(cat "$tmpdir/qemu-io.log")"

    # Without the cache: complete, and a sound file system with the file in it.
    blkcachectl shutdown --flush >/dev/null
    wait "$daemon_pid" || fail "the daemon ended with $?"
    daemon_pid=
    cmp "$tmpdir/after" "$store" || fail "$mode: the store is not what clients made it"
    e2fsck -fn "$store" >"$tmpdir/e2fsck.log" 2>&1 || fail "$mode: $(cat "$tmpdir/e2fsck.log")"
    [ "$(debugfs -R "cat new-$mode" "$store" 2>/dev/null)" = "$(cat "$tmpdir/file")" ] || fail "$mode: the file is not there"
    mv "$tmpdir/after" "$tmpdir/before"
done
