#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A backing store that was replaced while the daemon was stopped is not taken for the one that is
# cached, whatever its name: what is cached would hide it, and dirty data would be mixed in.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/failures.sh"
requires_program qemu-io
requires_built blkcached blkcachectl
requires_free_space 100

file=$tmpdir/file
truncate -s 16M "$file"
[ "$(stat -c %W "$file")" -gt 0 ] || skip "a file system that tells when a file was born"
format_flash 20M --shards 1 --quick >/dev/null
use() { # FILE
    ram=4M write_config "name = \"v\"; mode = \"write-back\"; backing = \"$1\";"
}
# refused WORDS: the daemon does not start, and says so; nor does --check like it.
refused() {
    local status=0
    timeout 60 "$builddir/blkcached" --foreground -c "$config" >"$tmpdir/refused.log" 2>&1 || status=$?
    [ $status -eq 1 ] || fail "status $status instead of a refusal: $1"
    grep -q -e "$1" "$tmpdir/refused.log" || fail "the refusal does not say: $1"
    "$builddir/blkcached" --check -c "$config" >"$tmpdir/check.log" && fail "--check finds nothing"
    grep -q "$2" "$tmpdir/check.log" || fail "--check does not say: $2"
}

use "$file"
start_daemon
client v "write -P 1 0 1M" flush
blkcachectl flush --wait >/dev/null
cp "$file" "$tmpdir/backup"
client v "write -P 2 0 1M" flush
stop_daemon

# ---- it was restored from a backup --------------------------------------------------------------

mv "$file" "$tmpdir/first"
mv "$tmpdir/backup" "$file"
other="another file (born at another time) or disk .* in its place.*--discard-dirty v"
refused "$other" "is another file or disk than last time"
start_daemon --discard-dirty v
grep -q "given up, as --discard-dirty asks: all that this flash has of the volume" "$daemon_log" ||
    fail "nothing is said of what is given up"
client v "read -P 1 0 1M" "write -P 3 512k 512k" flush
blkcachectl flush --wait >/dev/null
stop_daemon
cmp -n $((512 << 10)) "$file" <(head -c 512K /dev/zero | tr '\0' '\1') || fail "dirty data were mixed in"

# ---- it was copied, and is the same -------------------------------------------------------------

cp "$file" "$tmpdir/copy"
mv "$tmpdir/copy" "$file"
refused "$other" "is another file or disk than last time"
start_daemon --trust-flash v
client v "read -P 1 0 512k" "read -P 3 512k 512k"
stop_daemon

# ---- it is the file that counts, not its name ---------------------------------------------------

mv "$file" "$tmpdir/renamed"
use "$tmpdir/renamed"
start_daemon
client v "read -P 3 512k 512k"
stop_daemon
truncate -s 8M "$tmpdir/renamed"
refused "shrank" "shrank from 16777216 to 8388608 bytes"
