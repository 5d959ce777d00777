#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcache-replay says what is wrong with a trace, and in which line, and with a command line.
. "$srcdir/tests/functions.sh"
requires_program zstd

# refuses STATUS TEXT ARGUMENT...: ends with STATUS, says TEXT on stderr and nothing on stdout.
refuses() {
    local status=$1 text=$2 got=0
    shift 2
    "$builddir/blkcache-replay" "$@" >"$tmpdir/out" 2>"$tmpdir/err" || got=$?
    [ "$got" -eq "$status" ] || fail "$*: status $got instead of $status: $(cat "$tmpdir/err")"
    [ ! -s "$tmpdir/out" ] || fail "$*: printed something"
    grep -q -F -e "$text" "$tmpdir/err" ||
        fail "$*: does not say \"$text\" but: $(cat "$tmpdir/err")"
}

# bad LINE TEXT: the third line of a trace is LINE.
bad() {
    printf '1,R,0,4096\n2,R,4096,512\n%s\n4,R,0,512\n' "$1" >"$tmpdir/bad.csv"
    refuses 1 "bad.csv: line 3: $2" --flash 20M "$tmpdir/bad.csv"
    refuses 1 "bad.csv: line 3: $2" --flash 50% "$tmpdir/bad.csv"
    refuses 1 "bad.csv: line 3: $2" --policy lru --flash 20M "$tmpdir/bad.csv"
}

bad "" "the first field is no time"
bad "time,op,offset,length" "the first field is no time"
bad "-3,R,0,512" "the first field is no time"
bad "3" "the first field is no time"
bad "3,X,0,512" "the second field is neither R nor W"
bad "3,RW,0,512" "the second field is neither R nor W"
bad "3,R,,512" "the third field is no offset"
bad "3,R,0" "the third field is no offset"
bad "3,R,0,512,9" "the fifth field is no volume"
bad "3,R,0,512,0" "the fifth field is no volume"
bad "3,R,0,512," "the fifth field is no volume"
bad "3,R,0,512,1,1" "the fifth field is no volume"
bad "3,R,0,5x" "the fourth field is no length"
bad "3,R,0,0" "the length is 0"
bad "3,R,99999999999999999999999,512" "the third field is no offset"
bad "3,R,562949953421312,512" "the request ends past the largest volume"
bad "3,R,0,562949953421312" "the request ends past the largest volume"
bad "$(printf '3,R,0,%0300d' 512)" "longer than 256 bytes"

refuses 1 "No such file" "$tmpdir/none.csv"
refuses 1 "too small" --flash 4K "$tmpdir/bad.csv"
refuses 1 "64T at most" --flash 100T "$tmpdir/bad.csv"
refuses 2 "which trace?"
refuses 2 "one trace at a time" a b
refuses 2 '--policy: "belady"' --policy belady a
refuses 2 '--flash: "10X"' --flash 10X a
refuses 2 '--ram: "%"' --ram % a
refuses 2 '--shards: "3x"' --shards 3x a
refuses 2 '--share: "1:2"' --share 1:2 a
refuses 2 '--share: "9:0:50"' --share 9:0:50 a
refuses 2 '--share: "1:60:50"' --share 1:60:50 a
refuses 2 "only once" --policy lru,s3fifo -
refuses 2 "unrecognized option" --nonsense a

printf '1,R,0,4096\n2,R,4096,512\n' >"$tmpdir/good.csv"
zstd -q "$tmpdir/good.csv"
head -c 20 "$tmpdir/good.csv.zst" >"$tmpdir/torn.zst"
refuses 1 "end too soon" --flash 20M "$tmpdir/torn.zst"
printf 'XXXX' | dd of="$tmpdir/good.csv.zst" bs=1 seek=6 conv=notrunc status=none
refuses 1 "damaged" --flash 20M "$tmpdir/good.csv.zst"

# No newline at the end, line ends of another system, and nothing at all are fine.
printf '1,R,0,4096\r\n2,R,4096,512' >"$tmpdir/odd.csv"
"$builddir/blkcache-replay" --flash 20M --json "$tmpdir/odd.csv" | grep -q '"requests": 2,' ||
    fail "a trace without a last newline"
: >"$tmpdir/empty.csv"
"$builddir/blkcache-replay" --flash 20M --json "$tmpdir/empty.csv" |
    grep -q '"block_miss_ratio": 0.0' || fail "an empty trace"

"$builddir/blkcache-replay" --help | grep -q -- --sequential-cutoff || fail "--help"
for option in $("$builddir/blkcache-replay" --help | grep -o -E -- '--[a-z-]+' | sort -u); do
    grep -q -F -- "${option//-/\\-}" "$srcdir/replay/blkcache-replay.1" ||
        fail "the manual page lacks $option"
done
