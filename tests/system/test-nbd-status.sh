#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# BLOCK_STATUS of the daemon: holes of a file and of an NBD server show through
# the cache, what is dirty shows as what it will be, blkcached:state follows a
# block through the cache, and other people's tools make use of it.
. "$srcdir/tests/functions.sh"
requires_program python3 nbdinfo nbdcopy qemu-img nbdkit jq
requires_built blkcached blkcachectl
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

truncate -s 64M "$tmpdir/file.img" "$tmpdir/served.img"
for image in file served; do
    dd if=/dev/urandom of="$tmpdir/$image.img" bs=1M count=2 seek=4 conv=notrunc status=none
    dd if=/dev/urandom of="$tmpdir/$image.img" bs=4K count=1 seek=8192 conv=notrunc status=none
done
if [ "$(du -k "$tmpdir/file.img" | cut -f 1)" -gt 20000 ]; then skip "a file system with holes"; fi
start_nbdkit served file "$tmpdir/served.img"
start_nbdkit plain --filter=noextents file "$tmpdir/served.img"

format_flash 48M
ram=4M write_config \
    "name = \"file\"; backing = \"$tmpdir/file.img\"; mode = \"write-back\";" \
    "name = \"served\"; backing = \"nbd+unix:///?socket=$tmpdir/served.sock\"; mode = \"write-back\";" \
    "name = \"plain\"; backing = \"nbd+unix:///?socket=$tmpdir/plain.sock\"; read_only = true;"
start_daemon

python3 - "$nbd_socket" <<'END'
import sys
import nbdraw as n

path = sys.argv[1]
ALLOCATION, STATE = "base:allocation", "blkcached:state"
M = 1 << 20

original = [(4 * M, 3), (2 * M, 0), (26 * M, 3), (4096, 0), (32 * M - 4096, 3)]
for name in (b"file", b"served"):
    for style in (n.STRUCTURED, n.EXTENDED):
        with n.Client(path).enter(name, style, (ALLOCATION.encode(),)) as c:
            assert c.map(ALLOCATION, 0, c.bytes) == original, c.map(ALLOCATION, 0, c.bytes)
            one = c.status(4 * M - 1, c.bytes - 4 * M + 1, n.REQ_ONE)[ALLOCATION]
            assert one == [(1, 3)], one
    with n.Client(path).enter(name, n.EXTENDED, (ALLOCATION.encode(), STATE.encode())) as c:
        # Read: it is still the same, though now it is in the cache.
        c.read(3 * M, 2 * M)
        assert c.map(ALLOCATION, 0, c.bytes) == original
        # Dirty data, dirty zeros that are to keep their place, dirty zeros that need not.
        c.write(8 * M, b"x" * M)
        assert c.call(n.WRITE_ZEROES, 5 * M, M // 2, n.NO_HOLE) == (0, b"")
        assert c.call(n.TRIM, 5 * M + M // 2, M // 2) == (0, b"")
        now = [(4 * M, 3), (M, 0), (M // 2, 2), (5 * M // 2, 3), (M, 0), (23 * M, 3), (4096, 0),
               (32 * M - 4096, 3)]
        assert c.map(ALLOCATION, 0, c.bytes) == now, c.map(ALLOCATION, 0, c.bytes)
        states = c.map(STATE, 0, c.bytes)
        dirty = sum(size for size, state in states if state & 4)
        assert dirty == 2 * M, states
        assert not any(state & 4 and not state & 2 for _, state in states)
        assert any(state & 1 for _, state in states), "what was read is in RAM"
END
blkcachectl flush --wait
python3 - "$nbd_socket" <<'END'
import sys
import nbdraw as n

M = 1 << 20
for name in (b"file", b"served"):
    with n.Client(sys.argv[1]).enter(name, n.EXTENDED, (b"base:allocation", b"blkcached:state")) as c:
        zeros = [(size, state & 2) for size, state in c.map("base:allocation", 0, c.bytes)]
        joined = []
        for size, state in zeros:
            if joined and joined[-1][1] == state:
                size += joined.pop()[0]
            joined.append((size, state))
        assert joined == [(4 * M, 2), (M, 0), (3 * M, 2), (M, 0), (23 * M, 2), (4096, 0),
                          (32 * M - 4096, 2)], joined
        assert not any(state & 4 for _, state in c.map("blkcached:state", 0, c.bytes))
# A backing store that does not tell: all of it is data.
with n.Client(sys.argv[1]).enter(b"plain", n.STRUCTURED, (b"base:allocation",)) as c:
    assert c.map("base:allocation", 0, c.bytes) == [(64 * M, 0)]
END

# Other people's tools.
nbdinfo --json "$(nbd_uri file)" | jq -e '.exports[0].contexts | index("base:allocation", "blkcached:state") != null' \
    >/dev/null || fail "nbdinfo sees no contexts"
nbdinfo --map "$(nbd_uri file)" >"$tmpdir/map"
grep -q -E '^ *4194304 +(1048576|1572864) +0 +data' "$tmpdir/map" || fail "nbdinfo --map: $(cat "$tmpdir/map")"
nbdinfo --map=blkcached:state "$(nbd_uri file)" >/dev/null
qemu-img map --output=json "$(nbd_uri file)" |
    jq -e '[.[] | select(.zero | not) | .length] | add | . == 2101248 or . == 2625536' >/dev/null || fail "qemu-img map"
nbdcopy "$(nbd_uri file)" "$tmpdir/copy"
cmp "$tmpdir/copy" "$tmpdir/file.img" || fail "nbdcopy reads something else"
[ "$(du -k "$tmpdir/copy" | cut -f 1)" -lt 8000 ] || fail "nbdcopy copied holes"
stop_daemon
