#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcached --check tells what is wrong with a configuration and with what it
# names, and touches nothing; a start with the same faults fails.
. "$srcdir/tests/functions.sh"
requires_built blkcached blkcachectl
requires_free_space 200

volume="name = \"v\"; backing = \"$tmpdir/backing\";"

everything() {
    find "$tmpdir" ! -name out ! -name err ! -name before ! -name after -type f \
        -printf '%p %s %T@\n' | LC_ALL=C sort
    find "$tmpdir" -type d -printf '%p\n' | LC_ALL=C sort
}

# check STATUS TEXT: --check ends so, says TEXT and changes nothing.
check() {
    local status=0
    everything >"$tmpdir/before"
    "$builddir/blkcached" -c "$config" --check >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
    everything >"$tmpdir/after"
    cmp -s "$tmpdir/before" "$tmpdir/after" || fail "--check changed something"
    [ $status -eq "$1" ] || fail "status $status instead of $1: $(cat "$tmpdir/out" "$tmpdir/err")"
    grep -q -F -e "$2" "$tmpdir/out" "$tmpdir/err" ||
        fail "it does not say \"$2\": $(cat "$tmpdir/out" "$tmpdir/err")"
}

# start_fails TEXT: a start in the background and one in the foreground fail.
start_fails() {
    local status how
    for how in --foreground ''; do
        status=0
        # shellcheck disable=SC2086 # an option or none
        timeout 20 "$builddir/blkcached" -c "$config" $how 2>"$tmpdir/err" || status=$?
        [ $status -eq 1 ] || fail "start $how: status $status"
        grep -q -F -e "$1" "$tmpdir/err" || fail "start: $(cat "$tmpdir/err")"
        [ ! -e "$control_socket" ] || fail "a control socket was left behind"
    done
}

truncate -s 32M "$tmpdir/backing"
format_flash 32M >/dev/null
write_config "$volume"
check 0 "flash $flash: cache"
grep -q 'volume v: backing .*: file, 32.0 MiB' "$tmpdir/out" || fail "$(cat "$tmpdir/out")"

# The file itself.
echo "bogus = 1;" >>"$config"
check 1 "$config:$(wc -l <"$config"): bogus: unknown key"
start_fails "bogus: unknown key"
echo "{" >"$config"
check 1 "$config:1: syntax error"
config=$tmpdir/none.conf
check 1 "$config: cannot be read: No such file or directory"
config=$tmpdir/blkcached.conf

# The flash.
write_config "$volume"
cp "$flash" "$tmpdir/good"
truncate -s 0 "$flash"
truncate -s 32M "$flash"
check 1 "error: flash $flash: it is not formatted; run blkcachectl format"
start_fails "not formatted"
mke2fs -q "$flash"
check 1 "error: flash $flash: it is not a blkcached cache"
start_fails "holds something else"
cp "$tmpdir/good" "$flash"
truncate -s 31M "$flash"
check 1 "the device has only 31 MiB"
start_fails "give it its full size again"
rm "$flash"
check 1 "error: flash $flash: No such file or directory"
start_fails "$flash"
cp "$tmpdir/good" "$flash"
printf '\377' | dd of="$flash" bs=1 seek=70 conv=notrunc status=none
check 0 "warning: superblock copy 0: the superblock's checksum is wrong"
cp "$tmpdir/good" "$flash"

# The backing store, the directories.
write_config "name = \"v\"; backing = \"$tmpdir/none\";"
check 1 "error: volume v: backing $tmpdir/none: cannot open it: No such file or directory"
start_fails "$tmpdir/none"
write_config "name = \"v\"; backing = \"$tmpdir\";"
check 1 "neither a block device nor a regular file"
write_config "name = \"v\"; backing = \"nbd+unix:///?socket=$tmpdir/none.sock\";"
check 1 "error: volume v:"
: >"$tmpdir/empty"
write_config "name = \"v\"; backing = \"$tmpdir/empty\";"
check 1 "it is empty"
start_nbdkit server memory 8M
write_config "name = \"v\"; backing = \"nbd+unix:///?socket=$tmpdir/server.sock\";"
check 0 "NBD server, 8.0 MiB"
control_socket=$tmpdir/no/such/control.sock write_config "$volume"
check 1 "error: control socket $tmpdir/no/such/control.sock: it cannot be made"
nbd_socket=$tmpdir/good write_config "$volume"
check 1 "error: NBD socket $tmpdir/good: there is a file of this name"

# What the kernel must have.
write_config "$volume ublk = 0;"
if [ -e /dev/ublk-control ]; then
    check 0 "volume v: /dev/ublkb0"
else
    check 1 "volume v: ublk: there is no /dev/ublk-control: the kernel's module ublk_drv is not loaded"
fi

# Certificates and keys are looked at.
nbd_settings='tls = { mode = "require"; };' write_config "$volume"
check 1 "nbd.tls.mode: TLS needs certificates, or psk, or both"
nbd_settings="tls = { mode = \"on\"; certificates = \"$tmpdir/none\"; };" write_config "$volume"
check 1 "TLS: $tmpdir/none/server-cert.pem: cannot be read"
echo "alice:0123456789abcdef" >"$tmpdir/keys.psk"
nbd_settings="tls = { mode = \"on\"; psk = \"$tmpdir/keys.psk\"; };" write_config "$volume"
check 0 "TLS for NBD clients: can be used"

# Options.
status=0
"$builddir/blkcached" --bogus 2>"$tmpdir/err" || status=$?
[ $status -eq 2 ] || fail "--bogus: status $status"
status=0
"$builddir/blkcached" --log-level loud 2>"$tmpdir/err" || status=$?
[ $status -eq 2 ] || fail "--log-level loud: status $status"
status=0
"$builddir/blkcached" file 2>"$tmpdir/err" || status=$?
[ $status -eq 2 ] || fail "an argument: status $status"
"$builddir/blkcached" --version | grep -q '^blkcached [0-9]' || fail "--version"
"$builddir/blkcached" --help | grep -q -e '--foreground' || fail "--help"
