#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pinned ranges: what is pinned survives another volume's noise, and does not
# without the pin; the configuration, a reload, "set", "pin" and "unpin" change
# them at run time; status shows them, and says when they are too many.
. "$srcdir/tests/functions.sh"
requires_program fio jq
requires_built blkcached blkcachectl
requires_free_space 300

# configure [KEYS]: further keys of the volume with pins.
configure() {
    write_config "name = \"db\"; backing = \"$tmpdir/db\"; $1" \
        "name = \"noisy\"; backing = \"$tmpdir/noisy\"; sequential_cutoff = \"0\";"
}

# reads VOLUME OFFSET BYTES COUNT [FIO-OPTION...]: 4 KiB reads at random places of it.
reads() {
    fio --name=reads --ioengine=nbd "--uri=$(nbd_uri "$1")" --rw=randread --bs=4k --offset="$2" --size="$3" --io_size="$4" \
        --iodepth=16 --randrepeat=1 --output="$tmpdir/fio.log" "${@:5}" >/dev/null 2>&1 || fail "$(cat "$tmpdir/fio.log")"
}

noise() {
    reads noisy 0 128M 384M --norandommap --random_distribution=zipf:0.6
}

# What the flash has no time for is not kept: once more, then, and not from RAM, which blocks leave for flash when
# others come.
read_pinned() {
    reads noisy 0 128M 64M --randrepeat=0
    reads db 8M 8M 8M
    reads db 20M 4M 4M
    pinned_is $range
}

pinned_is() {
    [ "$(volume db pinned_flash_bytes)" -eq "$1" ]
}

truncate -s 64M "$tmpdir/db"
truncate -s 128M "$tmpdir/noisy"
format_flash 64M >/dev/null
configure 'pin = ( "8M-16M", "20M+4M" );'
start_daemon
range=$((12 << 20))
[ "$(volume db pin)" = 8M+8M,20M+4M ] || fail "the configured ranges: $(volume db pin)"
[ "$(volume db pinned_bytes)" = $range ] || fail "their size: $(volume db pinned_bytes)"
pinned_is 0 || fail "something is pinned already"

# ---- noise first, so that they find the flash full; then read once; then noise again

noise
wait_until 120 read_pinned
noise
pinned_is $range || fail "pinned blocks went: $(volume db pinned_flash_bytes)"
blkcachectl stats db --reset >/dev/null
reads db 8M 8M 8M
reads db 20M 4M 4M
backing=$(blkcachectl --json stats db | jq '.volumes[0].reads.from_backing')
[ "$backing" = 0 ] || fail "$backing pinned blocks had to be read again"
blkcachectl status | grep -q '^db: pinned 8M+8M,20M+4M, 12.0 MiB of 12.0 MiB on flash$' || fail "$(blkcachectl status)"

# ---- they survive a crash

kill_daemon
start_daemon
pinned_is $range || fail "after a crash $(volume db pinned_flash_bytes) are pinned"

# ---- at run time: what is counted is what the ranges now have

blkcachectl unpin db 8M 2M | grep -qx 'db: pinned: 10M+6M,20M+4M' || fail "unpin"
wait_until 20 pinned_is $((10 << 20))
blkcachectl pin db 0 12M | grep -qx 'db: pinned: 0+16M,20M+4M' || fail "pin"
wait_until 20 pinned_is $range
blkcachectl set db pin 20M-24M | grep -qx 'db: pin is 20M+4M' || fail "set"
wait_until 20 pinned_is $((4 << 20))
kill_daemon
start_daemon
[ "$(volume db pin)" = 20M+4M ] || fail "what was set is forgotten: $(volume db pin)"
pinned_is $((4 << 20)) || fail "$(volume db pinned_flash_bytes) are pinned"

# ---- more than may be pinned

blkcachectl pin db | grep -qx 'db: pinned: 0-' || fail "pin all"
[ "$(blkcachectl --json status | jq .pins.bytes)" = $((64 << 20)) ] || fail "$(blkcachectl --json status | jq .pins)"
blkcachectl status | grep -q 'pinned ranges are larger than what may be pinned' || fail "no warning: $(blkcachectl status)"
reads db 0 64M 64M
most=$(blkcachectl --json status | jq .pins.max_bytes)
capacity=$(blkcachectl --json status | jq .flash.capacity_bytes)
[ "$most" -le $((capacity / 2)) ] || fail "$most of $capacity may be pinned"
others_have_room() {
    noise
    [ "$(volume db pinned_flash_bytes)" -le $((most * 105 / 100)) ] || fail "$(volume db pinned_flash_bytes) are pinned, $most may be"
    [ "$(volume noisy flash_bytes)" -ge $((capacity * 25 / 100)) ]
}
wait_until 120 others_have_room
blkcachectl status | grep -q '^db: pinned 0-, ' || fail "$(blkcachectl status)"

# ---- a reload; without pins they go

blkcachectl unpin db | grep -qx 'db: pinned: none' || fail "unpin all"
configure 'pin = "20M-24M";'
blkcachectl reload >/dev/null
[ "$(volume db pin)" = 20M+4M ] || fail "the reload changed nothing: $(volume db pin)"
configure ''
blkcachectl reload >/dev/null
[ "$(volume db pin)" = none ] || fail "still pinned: $(volume db pin)"
pinned_is 0 || fail "still counted: $(volume db pinned_flash_bytes)"
! blkcachectl status | grep -q pinned || fail "$(blkcachectl status)"
pushed_out() {
    noise
    [ "$(volume db flash_bytes)" -lt $((range / 2)) ]
}
wait_until 120 pushed_out # or nothing is proved

# ---- refusals

blkcachectl_fails 1 'pin db: the range is not within the volume' pin db 60M 8M
blkcachectl_fails 1 'there is no such volume' pin none
blkcachectl_fails 2 'a range is an offset and a length' pin db 1M
blkcachectl_fails 1 'set db pin: "1G" is not possible; give ranges such as "0-1G" or "10G+512M", 16 at most, or "none"' set db pin 1G
for ((i = 0; i < 16; i++)); do
    blkcachectl pin db ${i}M 4K >/dev/null
done
blkcachectl_fails 1 'more than 16 ranges' pin db 32M 4K
stop_daemon
