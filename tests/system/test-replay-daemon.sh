#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon, sent a trace over NBD one request at a time, has the hits that
# blkcache-replay foretells for the same sizes, shards and cutoff, within 1 %.
# Its flash is in memory where that can be: replay knows no slow flash.
if [ -d /dev/shm ] && [ -w /dev/shm ] && [ "$(df --output=avail -m /dev/shm | tail -n 1)" -ge 400 ]; then
    export TMPDIR=/dev/shm
fi
. "$srcdir/tests/functions.sh"
requires_program jq python3
requires_built blkcached blkcachectl blkcache-replay
requires_free_space 400

# send GAP: the trace, to a new daemon; sets $had.
send() {
    rm -rf "$tmpdir/state"
    truncate -s $((2 * blocks * 4096)) "$tmpdir/backing"
    format_flash "$bytes" --shards "$shards" >/dev/null
    volatile_cache=no daemon_settings="cores = [ $core ];" \
        write_config "name = \"v\"; backing = \"$tmpdir/backing\"; mode = \"write-back\";"
    start_daemon
    "$builddir/tests/system/trace-client" --gap "$1" "$(nbd_uri v)" "$trace" >"$tmpdir/client.out"
    had=$(blkcachectl --json stats v | jq -c '.volumes[0] | .reads + {overrun: .counters.overrun_blocks}')
    stop_daemon
    echo "$kind, $shards shards, $1 us between requests: $(cat "$tmpdir/client.out")"
    echo "$had"
}

# compare EXPRESSION: of what was $foretold and what it $had.
compare() {
    jq -e -s '.[0] as $foretold | .[1] as $had
        | ($foretold.ram_hit_blocks + $foretold.flash_hit_blocks) as $hits
        | ($had.from_ram + $had.from_flash) as $real | '"$1" <<<"$foretold $had" >/dev/null
}

# same KIND REQUESTS BLOCKS FLASH RAM SHARDS: of a trace made like that. Blocks that come from the
# backing store faster than the flash takes them are left out of it, as replay's never are: then the
# flash gets more time.
same() {
    local kind=$1 requests=$2 blocks=$3 bytes=$4 shards=$6 trace=$tmpdir/trace gap foretold had
    ram=$5
    python3 "$srcdir/tests/system/generate-trace" "$kind" "$requests" "$blocks" >"$trace"
    foretold=$("$builddir/blkcache-replay" --json --flash "$bytes" --ram "$ram" --shards "$shards" \
        --sequential-cutoff 4M "$trace")
    jq -c '{ram_hit_blocks, flash_hit_blocks, miss_blocks}' <<<"$foretold"
    for gap in 0 200 1000; do
        send "$gap"
        if compare '$had.overrun <= $hits / 200'; then break; fi
    done
    compare '$had.from_backing + $real == $foretold.read_blocks and ($real - $hits | fabs) <= $hits / 100' ||
        fail "$kind: the daemon's hits are not those of blkcache-replay"
}

core=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
# Popular blocks that change, and two scans, which the cutoff keeps out.
same scan 60000 30000 32M 2M 1
# Reads of up to 32 blocks, over two shards.
same runs 12000 60000 64M 4M 2
