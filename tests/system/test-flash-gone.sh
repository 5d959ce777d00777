#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The flash vanishes under a running daemon: volumes go on without it, but for blocks that only it
# has; so do they after a restart without it, if asked; and when it is back nothing is missing.
. "$srcdir/tests/functions.sh"
requires_root
requires_program losetup python3 qemu-io jq cmp
requires_built blkcached blkcachectl

truncate -s 96M "$tmpdir/flash.img"
flash=$(losetup -f --show "$tmpdir/flash.img" 2>/dev/null) || skip "loop devices"
cleanup_fn losetup -d "$flash"
pull_flash() { "$srcdir/tests/system/loop-limit.py" "$flash" 4096; }
push_flash() { "$srcdir/tests/system/loop-limit.py" "$flash" 0; }
pull_flash 2>/dev/null || skip "loop devices whose size can be changed"
push_flash

# Nothing is destaged as long as the trigger is there.
trigger=$tmpdir/trigger
truncate -s 64M "$tmpdir/backing"
start_nbdkit store --filter=error file "$tmpdir/backing" \
    error-pwrite=EIO error-pwrite-rate=100% error-pwrite-file="$trigger"
"$builddir/blkcachectl" format --segment-size 1M "$flash" >/dev/null
ram=8M write_config \
    "name = \"v\"; backing = \"nbd+unix:///?socket=$tmpdir/store.sock\"; mode = \"write-back\"; backing_timeout = \"20s\";"

# io COMMAND...: on volume v; fails like the first of them. qemu-io's exit code tells.
io() {
    local arguments=() command
    for command; do arguments+=(-c "$command"); done
    qemu-io -f raw "${arguments[@]}" "$(nbd_uri v)" >"$tmpdir/io.log" 2>&1 &&
        ! grep -q -e "failed" -e "Pattern verification" "$tmpdir/io.log"
}
flash_state() { blkcachectl --json status | jq -r .flash.state; }
volume_state() { blkcachectl --json status | jq -r '.volumes[0].state'; }
is() { [ "$1" = "$2" ] || fail "$3: $1 instead of $2"; }
epoch_file=$tmpdir/state/v.epoch

start_daemon
is "$(flash_state)" ok "flash"
io "write -P 1 0 8M" "write -P 1 32M 1M" flush || fail "the first writes"
blkcachectl flush --wait >/dev/null
io "read -P 1 0 8M" || fail "reading what is clean"
touch "$trigger"
io "write -P 2 1M 64k" "write -z 2M 16k" flush || fail "writes that stay dirty"

pull_flash
rm "$trigger"
# The write that finds out is not refused, and a flush after it holds.
io "write -P 3 4M 1M" "write -P 3 40M 4k" flush || fail "writing without the flash"
is "$(flash_state)" failed "flash"
is "$(volume_state)" failed "volume"
blkcachectl status | grep -q "pass-through" || fail "status does not say what is done"
grep -q "^state detached" "$epoch_file" || fail "the state directory does not know"
is "$(sed -n 's/^dirty //p' "$epoch_file")" 20 "listed blocks"

check_without() {
    io "read -P 3 4M 1M" "read -P 3 40M 4k" "read -P 1 0 1M" "read -P 1 32M 1M" ||
        fail "$1: blocks that are not only on flash"
    io "read 1M 4k" && fail "$1: read a block that only the flash has"
    io "read -P 0 2M 16k" || fail "$1: reading what is known to be zeros"
    io "write -P 9 1084k 4k" && fail "$1: wrote a block that only the flash has"
    io "write -P 9 2060k 8k" && fail "$1: wrote over the edge of one"
    # What a failed request left of the blocks beside it is unknown: set it.
    io "write -P 3 2064k 4k" "write -P 1 1020k 4k" "read -P 1 1020k 4k" flush ||
        fail "$1: the neighbours of a block that only the flash has"
}
check_without "after the loss"
blkcachectl flush --wait >"$tmpdir/flush.log" 2>&1 && fail "flush claims that nothing is dirty"
cmp <(dd if="$tmpdir/backing" bs=4096 skip=1024 count=256 status=none) \
    <(head -c 1M /dev/zero | tr '\0' '\3') || fail "a flushed write is not on the backing store"

stop_daemon
status=0
"$builddir/blkcached" --foreground -c "$config" >"$tmpdir/refused.log" 2>&1 || status=$?
is $status 1 "start without the flash"
grep -q -e "--without-flash" "$tmpdir/refused.log" || fail "the refusal does not say how to go on"

start_daemon --without-flash
is "$(flash_state)" missing "flash"
is "$(volume_state)" failed "volume"
check_without "restarted without the flash"
io "write -P 4 50M 64k" flush || fail "writing after the restart"
kill_daemon
start_daemon --without-flash
check_without "restarted after SIGKILL"
io "read -P 4 50M 64k" || fail "what was flushed before SIGKILL"
stop_daemon

push_flash
"$builddir/blkcached" --check -c "$config" | grep -q "was used without the flash" ||
    fail "--check does not tell what a start will do"
start_daemon
is "$(flash_state)" ok "flash"
is "$(volume_state)" ok "volume"
grep -q "^state attached" "$epoch_file" || fail "the flash is not attached again"
check_back() {
    io "read -P 2 1M 64k" "read -P 0 2M 16k" "read -P 3 4M 1M" "read -P 3 40M 4k" \
        "read -P 1 0 1M" "read -P 3 2064k 4k" "read -P 4 50M 64k" "read -P 1 32M 1M" ||
        fail "$1: content"
}
check_back "the flash is back"
io "write -P 5 1M 4k" flush || fail "write-back with the flash"
kill_daemon
start_daemon
io "read -P 5 1M 4k" "write -P 2 1M 4k" flush || fail "after SIGKILL"
check_back "after SIGKILL"
blkcachectl flush --wait >/dev/null
stop_daemon
"$builddir/blkcachectl" check "$flash" >/dev/null || fail "check finds fault with the flash"
