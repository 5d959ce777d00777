#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl invalidate: after the backing store was changed by somebody else,
# clients read what is there now, over a crash too; dirty blocks are neither
# dropped nor lost, unless they are discarded.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
. "$srcdir/tests/system/failures.sh"
requires_free_space 250

truncate -s 32M "$tmpdir/a" "$tmpdir/o"
truncate -s 16M "$tmpdir/w"
start_store w
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-through\";" \
    "name = \"w\"; backing = \"$(store_uri w)\"; mode = \"write-back\"; dirty_max = 80;" \
    "name = \"o\"; backing = \"$tmpdir/o\"; mode = \"write-back\"; destage = \"ordered\";"
start_daemon

# outside FILE BYTE OFFSET LENGTH: somebody else writes to the store.
outside() {
    head -c "$4" /dev/zero | tr '\0' "\\$2" | dd of="$1" bs=4096 seek="$3" oflag=seek_bytes conv=notrunc,fsync status=none
}

# ---- clean

client a 'write -P 1 0 8M' 'read -P 1 0 4M'
wait_until 30 eval '[ "$(volume a dirty_bytes)" = 0 ]'
outside "$tmpdir/a" 2 0 $((8 << 20))
client a 'read -P 1 0 1M' # what is cached is trusted
blkcachectl invalidate a 1M 2M >"$tmpdir/out"
[ "$(cat "$tmpdir/out")" = "a: 2.0 MiB are not cached any more" ] || fail "$(cat "$tmpdir/out")"
client a 'read -P 1 0 1M' 'read -P 2 1M 2M' 'read -P 1 3M 1M'
blkcachectl --json invalidate a >"$tmpdir/out"
jq -e '.state == "done" and .done_bytes == 33554432 and .dirty_bytes == 0 and .verb == "invalidate"' "$tmpdir/out" >/dev/null ||
    fail "$(cat "$tmpdir/out")"
kill_daemon
start_daemon
client a 'read -P 2 0 8M'
blkcachectl events | grep -q 'a job ended.*job=invalidate.*volume=a.*result=done' || fail "no event"

# ---- dirty: refused as a whole, and told what to do

rules w 'error w 5'
client w 'write -P 3 1M 1M' 'write -P 4 4M 4k' flush 'read -P 0 8M 1M'
outside "$tmpdir/w" 5 $((8 << 20)) $((1 << 20))

[ "$(volume w dirty_bytes)" = $(((1 << 20) + 4096)) ] || fail "$(volume w dirty_bytes) bytes are dirty"
blkcachectl_fails 1 '^blkcachectl: invalidate: w: 1.0 MiB of it are dirty: .*, no blocks are dropped; "blkcachectl flush w --wait"' invalidate w
blkcachectl_fails 1 'w: 4.0 KiB of it are dirty' invalidate w 2M 10M
client w 'read -P 3 1M 1M' 'read -P 4 4M 4k' 'read -P 0 8M 1M' # nothing changed
[ "$(volume w dirty_bytes)" = $(((1 << 20) + 4096)) ] || fail "$(volume w dirty_bytes) bytes are dirty"
blkcachectl invalidate w 8M 1M >/dev/null # beside it
client w 'read -P 5 8M 1M'

# ---- discarded

blkcachectl_fails 1 'begins and ends at multiples of 4096' invalidate w 1M 1000 --discard-dirty
blkcachectl invalidate w 1M 512k --discard-dirty >"$tmpdir/out"
[ "$(cat "$tmpdir/out")" = "w: 512.0 KiB are not cached any more, 512.0 KiB of dirty data discarded" ] || fail "$(cat "$tmpdir/out")"
client w 'read -P 0 1M 512k' "read -P 3 $((1024 + 512))k 512k" 'read -P 4 4M 4k'
[ "$(volume w dirty_bytes)" = $(((512 << 10) + 4096)) ] || fail "$(volume w dirty_bytes) bytes are dirty after a part was discarded"
kill_daemon
start_daemon
client w 'read -P 0 1M 512k' "read -P 3 $((1024 + 512))k 512k" 'read -P 4 4M 4k'
rules w
timeout 60 "$builddir/blkcachectl" -s "$control_socket" flush w --wait >/dev/null || fail "flush"
blkcachectl invalidate w >/dev/null || fail "nothing is dirty any more"
client w 'read -P 0 1M 512k' "read -P 3 $((1024 + 512))k 512k" 'read -P 4 4M 4k' 'read -P 5 8M 1M'

blkcachectl_fails 1 'ordered destaging cannot be discarded' invalidate o --discard-dirty
blkcachectl invalidate o >/dev/null || fail "o"
blkcachectl_fails 1 'the range is not within the volume' invalidate a 32M 1
blkcachectl_fails 1 'there is no such volume' invalidate none
blkcachectl_fails 2 'an argument is missing' invalidate

# While clients write, what is invalidated is what they wrote or what the store has.
client w 'write -z 0 16M' flush
crash_client write "$(nbd_uri w)" "$tmpdir/record" 0 $((16 << 20)) 3 2 &
writer=$!
while kill -0 $writer 2>/dev/null; do
    blkcachectl invalidate w >/dev/null 2>&1 || :
done
wait $writer || fail "the writer"
crash_client verify "$(nbd_uri w)" "$tmpdir/record"
stop_daemon
