#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# share_min and share_max: what the flash has of a volume survives another
# volume's noise up to its minimum, and not without one; a volume takes no more
# than its maximum; a reload puts new shares in force.
. "$srcdir/tests/functions.sh"
requires_program fio jq
requires_built blkcached blkcachectl
requires_free_space 300

# configure QUIET NOISY: further keys of the two volumes. What RAM still has is not read again, and so does
# not get to flash when that was too slow the first time: RAM is smaller than the quiet volume.
configure() {
    ram=4M write_config "name = \"quiet\"; backing = \"$tmpdir/quiet\"; sequential_cutoff = \"0\"; $1" \
        "name = \"noisy\"; backing = \"$tmpdir/noisy\"; sequential_cutoff = \"0\"; $2"
}

# reads VOLUME BYTES COUNT [FIO-OPTION...]: 4 KiB reads at random places of it.
reads() {
    fio --name=reads --ioengine=nbd "--uri=$(nbd_uri "$1")" --rw=randread --bs=4k --size="$2" --io_size="$3" \
        --iodepth=16 --randrepeat=1 --output="$tmpdir/fio.log" "${@:4}" >/dev/null 2>&1 || fail "$(cat "$tmpdir/fio.log")"
}

noise() {
    reads noisy 128M 384M --norandommap --random_distribution=zipf:0.6
}

# The size of the quiet volume, and how far below it the log may get: what was under way.
quiet=$((12 << 20))
nearly=$((quiet * 95 / 100))

truncate -s $quiet "$tmpdir/quiet"
truncate -s 128M "$tmpdir/noisy"
format_flash 64M >/dev/null
configure "share_min = 30;" "share_max = 60;"
start_daemon
capacity=$(blkcachectl --json status | jq .flash.capacity_bytes)
[ "$(volume quiet share_min_percent)" = 30 ] || fail "the minimum is not shown"
[ "$(volume noisy share_max_percent)" = 60 ] || fail "the maximum is not shown"

# What the flash has no time for is not kept: once more, then.
read_quiet() {
    reads quiet 12M 12M
    [ "$(volume quiet flash_bytes)" -ge $nearly ]
}
wait_until 120 read_quiet
# So it is with noise.
has_its_share() {
    noise
    [ "$(volume quiet flash_bytes)" -ge $nearly ] || fail "pushed out below the minimum: $(volume quiet flash_bytes)"
    noisy=$(volume noisy flash_bytes)
    [ "$noisy" -le $((capacity * 63 / 100)) ] || fail "more than the maximum: $noisy of $capacity"
    [ "$noisy" -ge $((capacity * 40 / 100)) ]
}
wait_until 120 has_its_share
blkcachectl stats quiet --reset >/dev/null
reads quiet 12M 12M
backing=$(blkcachectl --json stats quiet | jq '.volumes[0].reads.from_backing')
[ "$backing" -le $((quiet / 4096 / 20)) ] || fail "$backing blocks of the quiet volume had to be read again"

# ---- without shares the noise takes it all

configure "" ""
blkcachectl reload >/dev/null
[ "$(volume quiet share_min_percent)" = 0 ] || fail "the reload changed nothing"
takes_it_all() {
    noise
    [ "$(volume quiet flash_bytes)" -lt $((quiet / 2)) ]
}
wait_until 120 takes_it_all # or nothing is proved
stop_daemon
