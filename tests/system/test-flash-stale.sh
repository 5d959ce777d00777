#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Flash, state directory and backing store that do not belong together are refused, with a message
# that names the way out; what is forced says what it gives up.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/failures.sh"
requires_program qemu-io jq nbdkit
requires_built blkcached blkcachectl
requires_free_space 300

flash_is_damaged="old copies of it are put back"
export flash_is_damaged
trigger=$tmpdir/trigger
truncate -s 16M "$tmpdir/backing"
start_nbdkit store --filter=error file "$tmpdir/backing" \
    error-pwrite=EIO error-pwrite-rate=100% error-pwrite-file="$trigger"
store="nbd+unix:///?socket=$tmpdir/store.sock"
volume="name = \"v\"; mode = \"write-back\";"
first=$tmpdir/first second=$tmpdir/second
for flash in "$first" "$second"; do format_flash 20M --shards 1 --quick >/dev/null; done

use() { # FLASH [BACKING]
    flash=$1
    ram=4M write_config "$volume backing = \"${2:-$store}\";"
}
# refused WORDS [OPTION...]: the daemon does not start, and says so.
refused() {
    local words=$1 status=0
    shift
    timeout 60 "$builddir/blkcached" --foreground -c "$config" "$@" \
        >"$tmpdir/refused.log" 2>&1 || status=$?
    [ $status -eq 1 ] || fail "status $status instead of a refusal: $words"
    grep -q -e "$words" "$tmpdir/refused.log" || fail "the refusal does not say: $words"
}
said() { grep -q -e "$1" "$daemon_log" || fail "the log does not say: $1"; }

# ---- the volume was used with another flash -----------------------------------------------------

use "$first"
start_daemon
client v "write -P 1 0 1M" flush
blkcachectl flush --wait >/dev/null
stop_daemon

use "$second"
start_daemon
client v "read -P 1 0 1M" "write -P 2 0 512k" flush
blkcachectl flush --wait >/dev/null
stop_daemon
use "$first"
refused "stale for volume"
refused "discard-dirty v"
"$builddir/blkcached" --check -c "$config" >"$tmpdir/check.log" && fail "--check finds nothing"
grep -q "the flash is stale" "$tmpdir/check.log" || fail "--check does not say what is wrong"
refused "there is no such volume" --discard-dirty w
start_daemon --discard-dirty v
client v "read -P 2 0 512k" "read -P 1 512k 512k"
said "given up, as --discard-dirty asks: all that this flash has of the volume"
kill_daemon
start_daemon
client v "read -P 2 0 512k" "read -P 1 512k 512k"
stop_daemon
use "$second"
refused "stale for volume"

# ---- dirty blocks on another flash --------------------------------------------------------------

use "$first"
start_daemon
touch "$trigger"
client v "write -P 3 64k 64k" flush
stop_daemon
format_flash 20M --shards 1 --quick >/dev/null
cp "$flash" "$tmpdir/fresh"
use "$tmpdir/third"
format_flash 20M --shards 1 --quick >/dev/null
refused "only flash .* has 16 blocks (65536 bytes): 16-31"

# ---- formatting over a flash gives up what it held ----------------------------------------------

use "$tmpdir/fresh"
rm "$trigger"
start_daemon
said "given up: what was dirty on the flash that was formatted volume=v blocks=\"16 blocks (65536 bytes): 16-31\""
client v "read -P 2 0 512k"
kill_daemon
use "$tmpdir/third"
refused "not stopped cleanly: that flash may have the only copy"

# ---- the state directory is lost, damaged, or another machine's ---------------------------------

use "$tmpdir/fresh"
start_daemon
touch "$trigger"
client v "write -P 4 1M 64k" flush
stop_daemon
cp -r "$tmpdir/state" "$tmpdir/state.kept"
rm "$tmpdir/state/v.epoch"
refused "that directory was lost, or is another machine's"
refused "trust-flash v"
sed 's/^dirty .*/dirty 1/' "$tmpdir/state.kept/v.epoch" >"$tmpdir/state/v.epoch"
refused "is damaged"
rm "$tmpdir/state/v.epoch"
start_daemon --trust-flash v
client v "read -P 4 1M 64k"
stop_daemon

# ---- another backing store ----------------------------------------------------------------------

truncate -s 16M "$tmpdir/other"
use "$tmpdir/fresh" "$tmpdir/other"
refused "another name than last time"
truncate -s 8M "$tmpdir/other"
refused "shrank"

# ---- the flash is missing -----------------------------------------------------------------------

use "$tmpdir/fresh"
mv "$flash" "$flash.away"
refused "--without-flash"
cp -r "$tmpdir/state" "$tmpdir/state.kept2"
sed -i 's/^state .*/state attached/' "$tmpdir/state/v.epoch"
refused "damaged" --without-flash
rm -r "$tmpdir/state" && mv "$tmpdir/state.kept2" "$tmpdir/state"
# Killed in use: nobody knows what is dirty there.
mv "$flash.away" "$flash"
start_daemon
cp "$flash" "$tmpdir/fresh.old"
rm "$trigger"
client v "write -P 5 2M 64k" flush
touch "$trigger"
kill_daemon
mv "$flash" "$flash.away"
refused "nobody knows of which blocks" --without-flash
rm "$trigger"
start_daemon --without-flash --discard-dirty v
client v "write -P 6 2M 64k" flush
said "served in pass-through"
kill_daemon
mv "$flash.away" "$flash"
start_daemon
client v "read -P 6 2M 64k" "read -P 2 0 512k"

# ---- the flash is back, and is not what it was --------------------------------------------------

touch "$trigger"
client v "write -P 7 3M 64k" flush
stop_daemon
cp "$flash" "$tmpdir/fresh.7"
mv "$flash" "$flash.away"
rm "$trigger"
start_daemon --without-flash
client v "write -P 8 4M 64k" flush
stop_daemon
mv "$flash.away" "$flash"
# The same cache without its last records.
"$builddir/blkcachectl" dump "$flash" >"$tmpdir/dump" || fail "dump"
python3 - "$flash" <<'END'
import sys
with open(sys.argv[1], "r+b") as flash:
    data = flash.read()
    at = data.find(b"\x07" * 65536)
    assert at > 0
    flash.seek(at - 4096)
    flash.write(bytes(65536 + 4096))
END
refused "has lost what was dirty on it: \|dirty blocks on it are damaged"
start_daemon --discard-dirty v
said "given up, as --discard-dirty asks: "
client v "read -P 8 4M 64k" "read -P 6 2M 64k" "write -P 9 3M 64k" "read -P 9 3M 64k" flush
stop_daemon
start_daemon
client v "read -P 9 3M 64k" "read -P 8 4M 64k"
stop_daemon

# ---- an older copy of the same flash ------------------------------------------------------------

# A snapshot, or the file that was left behind when the flash was copied to a larger disk: same UUID.
used="$flash" older=$tmpdir/older
cp "$flash" "$older"
# It is none as long as the volume is only read.
start_daemon
client v "read -P 9 3M 64k"
stop_daemon
use "$older"
start_daemon
client v "read -P 9 3M 64k" "read -P 8 4M 64k"
stop_daemon
use "$used"
start_daemon
cp "$flash" "$tmpdir/in-use"
client v "write -P 10 5M 64k" flush
stop_daemon
for copy in "$older" "$tmpdir/in-use"; do
    use "$copy"
    refused "it is an older copy of the flash"
    "$builddir/blkcached" --check -c "$config" >"$tmpdir/check.log" && fail "--check finds nothing"
    grep -q "a later copy of it" "$tmpdir/check.log" || fail "--check does not say what is wrong"
done
use "$used"
start_daemon
client v "read -P 10 5M 64k"
kill_daemon
use "$older"
refused "it is an older copy of the flash"
# A copy of all that there is can take its place.
mv "$used" "$tmpdir/moved"
use "$tmpdir/moved"
start_daemon
client v "read -P 10 5M 64k"
stop_daemon
use "$older"
start_daemon --discard-dirty v
said "given up, as --discard-dirty asks: all that this flash has of the volume"
client v "write -P 11 5M 64k" "read -P 11 5M 64k" "read -P 9 3M 64k" flush
stop_daemon
use "$tmpdir/moved"
refused "stale for volume"

# ---- killed between the superblock's new number and the file that notes it -----------------------

use "$tmpdir/moved"
start_daemon --discard-dirty v
client v "write -P 12 6M 64k" flush
cp "$tmpdir/state/v.epoch" "$tmpdir/before"
stop_daemon
cp "$tmpdir/before" "$tmpdir/state/v.epoch"
start_daemon
client v "read -P 12 6M 64k"
stop_daemon
# A file of the version that noted no number.
python3 - "$tmpdir/state/v.epoch" <<'END'
import sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
with open(sys.argv[1], encoding="ascii") as file:
    lines = [line for line in file if not line.startswith(("sequence ", "end "))]
lines[0] = "blkcached attachment 1\n"
text = "".join(lines)
with open(sys.argv[1], "w", encoding="ascii") as file:
    file.write(f"{text}end {crc32c(text.encode()):08x}\n")
END
grep -q '^sequence' "$tmpdir/state/v.epoch" && fail "the file was not made old"
start_daemon
client v "read -P 12 6M 64k"
stop_daemon
