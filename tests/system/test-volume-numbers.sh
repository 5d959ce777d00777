#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The numbers of volumes, 4095 in the life of a flash, end: there is a warning before, attach says what to do,
# and what is in service stays.
. "$srcdir/tests/functions.sh"
requires_program python3 jq qemu-io
requires_free_space 100

truncate -s 4M "$tmpdir/a" "$tmpdir/b"
format_flash 32M >/dev/null
a="name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
b="name = \"b\"; backing = \"$tmpdir/b\"; mode = \"write-back\";"
write_config "$a"
start_daemon
qemu-io -f raw -c "write -P 7 0 4M" -c flush "$(nbd_uri a)" >/dev/null
stop_daemon

# As after 4092 attaches: next_volume_id of the newer superblock is 4094 (docs/flash-format.md).
python3 - "$flash" <<'END'
import struct, sys
table = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    table.append(i)
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF
with open(sys.argv[1], "r+b") as f:
    block = bytearray(f.read(65536))
    (found,) = struct.unpack_from("<I", block, 20)
    struct.pack_into("<I", block, 20, 0)
    assert crc32c(block) == found, "the superblock's checksum"
    struct.pack_into("<Q", block, 40, struct.unpack_from("<Q", block, 40)[0] + 2)
    struct.pack_into("<I", block, 88, 4094)
    struct.pack_into("<I", block, 20, crc32c(block))
    f.seek(0)
    f.write(block)
END

start_daemon
write_config "$a" "$b"
blkcachectl attach b >/dev/null || fail "the last number but one"
grep -q 'the flash has few numbers left for volumes.* left=1' "$daemon_log" || fail "no warning: $(cat "$daemon_log")"
blkcachectl detach b >/dev/null
blkcachectl attach b >/dev/null || fail "the last number"
blkcachectl detach b >/dev/null
blkcachectl_fails 1 'all of its 4095 numbers for volumes are used up' attach b
blkcachectl_fails 1 'flush --wait.*format' attach b
[ "$(volume a state)" = ok ] || fail "a"

# A restart needs no new numbers; what it cannot give one is refused.
stop_daemon
write_config "$a"
start_daemon
qemu-io -f raw -c "read -P 7 0 4M" "$(nbd_uri a)" | grep -q 'verification failed' && fail "a has other data"
blkcachectl flush --wait
stop_daemon
"$builddir/blkcachectl" format --force "$flash" >/dev/null
write_config "$a" "$b"
start_daemon --discard-dirty a 2>/dev/null || fail "a new life"
stop_daemon
