#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl mrc: a loop over 24 MiB, read three times, misses everything in a
# smaller LRU cache and a third in a larger one.
. "$srcdir/tests/functions.sh"
requires_program jq qemu-io
requires_built blkcached blkcachectl
requires_free_space 200

truncate -s 64M "$tmpdir/a" "$tmpdir/b"
format_flash 64M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\"; sequential_cutoff = \"0\";" "name = \"b\"; backing = \"$tmpdir/b\";"
start_daemon
loop=(-c 'read 0 8M' -c 'read 8M 8M' -c 'read 16M 8M')
qemu-io -f raw "$(nbd_uri a)" "${loop[@]}" "${loop[@]}" "${loop[@]}" >"$tmpdir/qemu-io.log"
blkcachectl --json mrc a >"$tmpdir/mrc"

# near TIMES RATIO: what is predicted for a cache of TIMES the flash.
near() {
    jq -e --argjson times "$1" --argjson ratio "$2" '.curve[] | select(.times == $times) |
        (.miss_ratio - $ratio) | fabs < 0.03' "$tmpdir/mrc" >/dev/null || fail "$1: $(cat "$tmpdir/mrc")"
}
[ "$(jq .reads "$tmpdir/mrc")" = 18432 ] || fail "$(cat "$tmpdir/mrc")"
near 0.25 1
near 0.5 0.3333
near 1 0.3333
near 16 0.3333
jq -e '[.curve[].miss_ratio] | . == (sort | reverse)' "$tmpdir/mrc" >/dev/null || fail "it rises"

blkcachectl mrc a >"$tmpdir/text"
grep -q '^ *x 0.25 .* 100.0 % .*####' "$tmpdir/text" || fail "$(cat "$tmpdir/text")"
blkcachectl mrc b | grep -q 'read little so far' || fail "no word about too few reads"
status=0
blkcachectl mrc none 2>"$tmpdir/err" || status=$?
[ $status -eq 1 ] && grep -q 'there is no such volume' "$tmpdir/err" || fail "no such volume: $status"
stop_daemon
