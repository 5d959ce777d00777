#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Other people's NBD clients against the daemon: nbdinfo, nbdcopy both ways,
# qemu-img convert and compare, qemu-io; over Unix sockets and TCP.
. "$srcdir/tests/functions.sh"
requires_program nbdinfo nbdcopy python3 qemu-img qemu-io
requires_built blkcached blkcachectl

truncate -s 48M "$tmpdir/a.img"
truncate -s 100001 "$tmpdir/odd.img"
head -c 16M /dev/urandom >"$tmpdir/fixed.img"
# Data, holes and zeros, and an end that is not that of a block.
{
    head -c 10M /dev/urandom
    head -c 10M /dev/zero
    head -c 12345678 /dev/urandom
} >"$tmpdir/original"
truncate -s 48M "$tmpdir/original"

format_flash 64M
tcp=127.0.0.1:$(free_port)
write_config \
    "name = \"a\"; backing = \"$tmpdir/a.img\"; mode = \"write-back\";" \
    "name = \"odd\"; backing = \"$tmpdir/odd.img\"; mode = \"write-through\";" \
    "name = \"fixed\"; backing = \"$tmpdir/fixed.img\"; read_only = true;"
sed -i "s|listen = ( |&\"tcp:$tcp\", |" "$config"
start_daemon

# ---- nbdinfo

nbdinfo --list "$(nbd_uri)" >"$tmpdir/list"
for name in a odd fixed; do
    grep -q -F "export=\"$name\":" "$tmpdir/list" || fail "$name is not listed"
done
[ "$(nbdinfo --size "$(nbd_uri)")" = 50331648 ] || fail "the empty name is not the first volume"
[ "$(nbdinfo --size "$(nbd_uri odd)")" = 100001 ] || fail "size of odd"
[ "$(nbdinfo --size "nbd://$tcp/fixed")" = 16777216 ] || fail "size over TCP"
for feature in cache df flush fua multi-conn structured-reply trim zero; do

    nbdinfo --can "$feature" "$(nbd_uri a)" || fail "it cannot $feature"
done
nbdinfo --is read-only "$(nbd_uri fixed)" || fail "fixed is writable"
if nbdinfo --can trim "$(nbd_uri fixed)"; then fail "fixed can be trimmed"; fi
if nbdinfo --size "$(nbd_uri none)" 2>/dev/null; then fail "an unknown export was opened"; fi

# ---- nbdcopy, with several connections

nbdcopy --flush "$tmpdir/original" "$(nbd_uri a)"
nbdcopy "$(nbd_uri a)" "$tmpdir/copy"
cmp "$tmpdir/original" "$tmpdir/copy" || fail "what nbdcopy wrote is not what it reads"
nbdcopy --synchronous "nbd://$tcp/a" "$tmpdir/copy"
cmp "$tmpdir/original" "$tmpdir/copy" || fail "over TCP it reads something else"
nbdcopy --connections=4 --request-size=65536 "$(nbd_uri fixed)" "$tmpdir/copy"
cmp "$tmpdir/fixed.img" "$tmpdir/copy" || fail "fixed"

# ---- qemu-img

qemu-img compare -f raw -F raw "$tmpdir/original" "$(nbd_uri a)"
qemu-img convert -f raw -O qcow2 "$(nbd_uri a)" "$tmpdir/copy.qcow2"
qemu-img compare -f raw -F qcow2 "$tmpdir/original" "$tmpdir/copy.qcow2"
head -c 48M /dev/urandom >"$tmpdir/second"
qemu-img convert -n -W -m 16 -f raw -O raw "$tmpdir/second" "nbd://$tcp/a"
qemu-img compare -f raw -F raw "$tmpdir/second" "$(nbd_uri a)"

# ---- qemu-io: single requests, unaligned, on an export of an odd size

qemu_io() {
    local output
    output=$(qemu-io -f raw "$@" 2>&1) || fail "qemu-io: $output"
    if grep -q -i -E "fail|error|pattern" <<<"$output"; then fail "qemu-io: $output"; fi
}
qemu_io -c "write -P 1 0 100001" -c "write -P 2 4095 2" -c "write -z 5000 1" -c "write -P 3 99999 2" \
    -c "flush" -c "read -P 1 0 4095" -c "read -P 2 4095 2" -c "read -P 1 4097 903" \
    -c "read -P 0 5000 1" -c "read -P 1 5001 94998" -c "read -P 3 99999 2" "$(nbd_uri odd)"
qemu_io -c "write -f -P 4 8192 4096" -c "discard 0 65536" -c "write -z -u 65536 1000" \
    -c "read -P 0 65536 1000" -c "read -P 1 66536 33463" -c "aio_write -P 5 512 1024" \
    -c "aio_write -P 6 20480 512" -c "aio_flush" -c "read -P 5 512 1024" "$(nbd_uri odd)"
if qemu-io -f raw -c "write 0 512" "$(nbd_uri fixed)" >/dev/null 2>&1; then
    fail "fixed was written"
fi

# The write-through volume's backing store has it all; the other's after a flush.
blkcachectl flush --wait
qemu-img compare -f raw -F raw "$tmpdir/second" "$tmpdir/a.img"
nbdcopy "$(nbd_uri odd)" "$tmpdir/copy"
cmp "$tmpdir/copy" "$tmpdir/odd.img" || fail "the backing store of odd"
stop_daemon
"$builddir/blkcachectl" check "$flash"
