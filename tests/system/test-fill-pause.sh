#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl pause-fill and resume-fill: a scan during a pause leaves nothing
# in the cache, what is cached stays and is served; a pause ends by itself;
# the other volumes are not concerned; all of it is in the event log.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq
requires_built blkcached blkcachectl
requires_free_space 200

truncate -s 32M "$tmpdir/a" "$tmpdir/b"
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\";" "name = \"b\"; backing = \"$tmpdir/b\";"
start_daemon

# reads VOLUME OFFSET LENGTH: prints how many blocks of it were cached.
reads() {
    blkcachectl stats "$1" --reset >/dev/null
    qemu-io -f raw -c "read $2 $3" "$(nbd_uri "$1")" >>"$tmpdir/qemu-io.log"
    blkcachectl --json stats "$1" | jq '.volumes[0].reads | .from_ram + .from_flash'
}

[ "$(volume a fill_paused_until)" = null ] || fail "paused from the start"
reads a 0 1M >/dev/null
[ "$(reads a 0 1M)" = 256 ] || fail "reads do not fill the cache"

# ---- a pause

blkcachectl pause-fill a >"$tmpdir/out"
grep -q '^a: what is read does not enter the cache until 20..-..-..T..:..:..Z$' "$tmpdir/out" || fail "$(cat "$tmpdir/out")"
left=$(volume a fill_paused_seconds)
[ "$left" -gt 3500 ] && [ "$left" -le 3600 ] || fail "an hour by default: $left"
[ "$(volume b fill_paused_seconds)" = 0 ] || fail "b is paused"
until=$(date -d "$(volume a fill_paused_until)" +%s)
[ "$until" -ge $(($(date +%s) + 3500)) ] && [ "$until" -le $(($(date +%s) + 3601)) ] || fail "until $until"
blkcachectl volumes | grep -q '^a: fill paused until 20.*, 59 min .* left$\|^a: fill paused until 20.*, 1 h 0 min left$' ||
    fail "$(blkcachectl volumes)"
blkcachectl status | grep -q '^a: fill paused until' || fail "$(blkcachectl status)"

[ "$(reads a 0 1M)" = 256 ] || fail "what was cached is not served"
[ "$(reads a 4M 1M)" = 0 ] || fail "it was cached before"
[ "$(reads a 4M 1M)" = 0 ] || fail "a read filled the cache during the pause"
reads b 4M 1M >/dev/null
[ "$(reads b 4M 1M)" = 256 ] || fail "reads of b do not fill the cache"

blkcachectl --json resume-fill a >"$tmpdir/out"
jq -e '.volume == "a" and .was_paused and .fill_paused_until == null' "$tmpdir/out" >/dev/null || fail "$(cat "$tmpdir/out")"
blkcachectl resume-fill a | grep -q 'was not paused' || fail "resumed twice"
reads a 4M 1M >/dev/null
[ "$(reads a 4M 1M)" = 256 ] || fail "reads do not fill the cache after the pause"

# ---- it ends by itself

blkcachectl pause-fill a --for 10m >/dev/null
blkcachectl pause-fill a --for 1s >/dev/null # a new end takes the place of the old one
wait_until 20 eval 'blkcachectl events | grep -q "enters the cache again.*the pause is over"'
[ "$(volume a fill_paused_seconds)" = 0 ] || fail "still paused"
blkcachectl resume-fill a | grep -q 'was not paused' || fail "it did not end"
reads a 8M 1M >/dev/null
[ "$(reads a 8M 1M)" = 256 ] || fail "reads do not fill the cache after the end"
blkcachectl events >"$tmpdir/events"
[ "$(grep -c 'does not enter the cache for a time.*volume=a.*seconds=' "$tmpdir/events")" = 3 ] || fail "$(cat "$tmpdir/events")"
grep -q 'enters the cache again.*volume=a.*reason=resume-fill' "$tmpdir/events" || fail "$(cat "$tmpdir/events")"

# ---- refusals

blkcachectl_fails 1 '^blkcachectl: pause-fill none: there is no such volume$' pause-fill none
blkcachectl_fails 1 'a pause takes 1 to 2592000 seconds' pause-fill a --for 31d
blkcachectl_fails 2 '"0" is no duration' pause-fill a --for 0
blkcachectl_fails 2 '"soon" is no duration' pause-fill a --for soon
blkcachectl_fails 2 'an argument is missing' pause-fill
blkcachectl_fails 2 'an argument is missing' resume-fill
[ "$(volume a fill_paused_seconds)" = 0 ] || fail "a refused pause pauses"
stop_daemon
