#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl prefetch: brings a range, or a volume, into the cache in the
# background; clients go first; it can be waited for, and cancelled; errors of
# the backing store are told.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdinfo
. "$srcdir/tests/system/failures.sh"
requires_free_space 250

head -c 40M /dev/urandom >"$tmpdir/a"
truncate -s 64M "$tmpdir/b"
start_store b
format_flash 96M >/dev/null
ram=4M write_config "name = \"a\"; backing = \"$tmpdir/a\";" \
    "name = \"b\"; backing = \"$(store_uri b)\"; backing_timeout = \"2s\";" \
    "name = \"p\"; backing = \"$tmpdir/p\"; mode = \"pass-through\";"
truncate -s 16M "$tmpdir/p"
start_daemon

job() { # ID KEY
    blkcachectl --json status | jq -r ".jobs[] | select(.id == $1) | .$2"
}

# ---- a range

blkcachectl prefetch a 1M 2M --wait >"$tmpdir/out" 2>"$tmpdir/err"
grep -q '^a: 2.0 MiB prefetched in .* s, .*/s$' "$tmpdir/out" || fail "$(cat "$tmpdir/out")"
[ ! -s "$tmpdir/err" ] || fail "progress where nobody watches: $(cat "$tmpdir/err")"
blkcachectl stats a --reset >/dev/null
client a 'read 1M 2M'
[ "$(blkcachectl --json stats a | jq '.volumes[0].reads.hit_ratio == 1')" = true ] || fail "$(blkcachectl stats a)"
client a 'read 8M 1M'
[ "$(counter a miss_blocks)" = 256 ] || fail "more was prefetched than asked for"
[ "$(job 1 state)" = "done" ] && [ "$(job 1 volume)" = a ] && [ "$(job 1 offset)" = 1048576 ] || fail "$(blkcachectl --json status)"

# ---- a volume that is ten times as large as the RAM tier: it goes to flash

# What a flash that a busy machine makes slow had no time for, comes with the next one.
for ((i = 0; i < 40; i++)); do reads+=("read ${i}M 1M"); done
for ((try = 1; try <= 3; try++)); do
    blkcachectl --json prefetch a --wait >"$tmpdir/out"
    jq -e '.state == "done" and .done_bytes == 41943040 and .length == 41943040 and .error == null' "$tmpdir/out" >/dev/null ||
        fail "$(cat "$tmpdir/out")"
    blkcachectl stats a --reset >/dev/null
    client a "${reads[@]}"
    cached=$(blkcachectl --json stats a | jq '.volumes[0].reads | .from_ram + .from_flash')
    echo "of 10240 blocks prefetched $cached are cached"
    [ "$cached" -lt 9728 ] || break
done
[ "$cached" -ge 9728 ] || fail "of 10240 blocks only $cached are cached"
next=$((2 + try))
wait_until 30 eval 'blkcachectl events | grep -q "a job ended.*job=prefetch.*volume=a.*result=done"'

# ---- a volume that is larger than the cache: it is said how much of it is not there

truncate -s 160M "$tmpdir/c"
write_config "name = \"a\"; backing = \"$tmpdir/a\";" \
    "name = \"b\"; backing = \"$(store_uri b)\"; backing_timeout = \"2s\";" \
    "name = \"p\"; backing = \"$tmpdir/p\"; mode = \"pass-through\";" \
    "name = \"c\"; backing = \"$tmpdir/c\";"
blkcachectl attach c >/dev/null
blkcachectl --json prefetch c --wait >"$tmpdir/out"
cached=$(nbdinfo --map=blkcached:state --totals "$(nbd_uri c)" | awk '$3 != 0 { sum += $1 } END { print sum + 0 }')
# What waits for the flash may still come and go.
jq -e ".state == \"done\" and .missed_bytes >= $((64 << 20)) and
    (.missed_bytes + $cached - $((160 << 20)) | fabs) <= $((16 << 20))" "$tmpdir/out" >/dev/null || fail "$cached of c are cached, but: $(cat "$tmpdir/out")"
detach_c() { blkcachectl detach c >/dev/null 2>&1; } # a client that has just ended may still be counted
wait_until 30 detach_c
next=$((next + 1))

# ---- in the background, clients first

rules b 'delay r 300'
blkcachectl prefetch b >"$tmpdir/out"
grep -q "^b: 64.0 MiB are being prefetched; job $next, " "$tmpdir/out" || fail "$(cat "$tmpdir/out")"
blkcachectl status | grep -q 'job  *prefetch of b: ' || fail "$(blkcachectl status)"
seen=
for ((i = 0; i < 100; i++)); do
    client b "read $((63 * 1024 - 4 * i))k 4k" "read $((40 * 1024 + 128 * i))k 4k" &
    reader=$!
    while kill -0 $reader 2>/dev/null; do
        [ "$(job $next state)" != waiting ] || seen=yes
    done
    wait $reader || fail "a reader"
    [ -z "$seen" ] || break
done
[ -n "$seen" ] || fail "it never let clients go first"
blkcachectl prefetch b --cancel | grep -q '^1 cancelled$' || fail "--cancel"
wait_until 20 eval '[ "$(job $next state)" = cancelled ]'
rules b
blkcachectl prefetch b --cancel | grep -q '^0 cancelled$' || fail "--cancel of nothing"

# ---- errors

blkcachectl invalidate b >/dev/null # how far the one before has come, nobody knows
rules b 'error r 5'
blkcachectl_fails 1 '^blkcachectl: prefetch: b: Input/output error at offset 20' prefetch b 20M 4M --wait
rules b
blkcachectl_fails 1 'the range is not within the volume' prefetch a 39M 2M
blkcachectl_fails 1 'the volume is in pass-through' prefetch p
blkcachectl_fails 1 '^blkcachectl: prefetch none: there is no such volume$' prefetch none
blkcachectl_fails 2 'a range is an offset and a length' prefetch a 1M
blkcachectl_fails 2 '"x" is no size' prefetch a 1M x
blkcachectl_fails 2 'an argument is missing' prefetch --wait

# A job that runs does not hold up a stop.
rules b 'delay r 50'
blkcachectl prefetch b 30M 30M >/dev/null
stop_daemon
