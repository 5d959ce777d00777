#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl format: what it makes, and what it refuses to destroy.
. "$srcdir/tests/functions.sh"
requires_built blkcachectl
requires_free_space 300
cd "$tmpdir"

ctl() { "$builddir/blkcachectl" "$@"; }

# refused TEXT ARGUMENT...: status 1, TEXT on stderr, and the file as it was.
refused() {
    local text=$1 status=0 before=
    shift
    local path=${*: -1}
    [ -e "$path" ] && before=$(sha256sum "$path")
    ctl format "$@" 2>err || status=$?
    [ $status -eq 1 ] || fail "format $*: status $status"
    grep -q -F -e "$text" err || fail "format $*: $(cat err)"
    if [ -n "$before" ]; then
        [ "$(sha256sum "$path")" = "$before" ] || fail "format $*: the file changed"
    else
        [ ! -e "$path" ] || fail "format $*: a file was left behind"
    fi
}

# A new file: allocated and written throughout.
ctl format --size 64M new >out
grep -q 'new: formatted, 64.0 MiB' out || fail "$(cat out)"
[ "$(stat -c %s new)" -eq $((64 << 20)) ] || fail "the size of the file"
[ "$(($(stat -c '%b * %B' new)))" -ge $((64 << 20)) ] || fail "the file has holes"
[ "$(stat -c %a new)" = 600 ] || fail "the file is open to others"
ctl check new >/dev/null || fail "a new cache has problems"

# What is asked for.
ctl --json format --size 64M --segment-size 512K --shards 1 --quick chosen >out
[ "$(jq -r '.segment_bytes, .shards, .segments_per_shard' out | xargs)" = "524288 1 125" ] ||
    fail "$(cat out)"

# Formatting again needs force, and gives another identity.
refused "it holds the blkcached cache" new
refused "it holds the blkcached cache" --size 64M new
before=$(ctl dump new | awk '$1 == "uuid" { print $2; exit }')
ctl format --force new >/dev/null
[ "$(ctl dump new | awk '$1 == "uuid" { print $2; exit }')" != "$before" ] || fail "the same UUID"
ctl format --force --size 32M new >/dev/null
[ "$(stat -c %s new)" -eq $((32 << 20)) ] || fail "the size was not changed"
ctl check new >/dev/null || fail "a cache that was formatted again has problems"

# One damaged superblock, or both, is still a cache.
dd if=/dev/urandom of=new bs=1 seek=100 count=10 conv=notrunc status=none
refused "it holds the blkcached cache" new
dd if=/dev/urandom of=new bs=1 seek=$(((32 << 20) - 60000)) count=10 conv=notrunc status=none
refused "it holds a blkcached cache that cannot be used" new

# Other people's data.
truncate -s 64M ext4
mke2fs -q -t ext4 ext4
refused "it holds a file system (ext4)" ext4
head -c 64M /dev/urandom >noise
refused "it holds data of an unknown kind" noise
truncate -s 64M tail
printf x | dd of=tail bs=1 seek=$(((64 << 20) - 1)) conv=notrunc status=none
refused "it holds data of an unknown kind" tail
ctl format --force ext4 >/dev/null || fail "--force does not help"
[ -z "$(blkid -p -o value -s TYPE ext4 || :)" ] || fail "the file system is still there"

# An empty sparse file is as good as none.
truncate -s 64M sparse
ctl format sparse >/dev/null || fail "a file of zeros is refused"
[ "$(($(stat -c '%b * %B' sparse)))" -ge $((64 << 20)) ] || fail "the sparse file has holes"
: >empty
refused "the device has 0 bytes" empty
ctl format --size 32M empty >/dev/null || fail "an empty file is refused"

# What cannot be.
refused "give --size to create a file" missing
refused "use a larger device" --size 16M small
refused "use a power of two" --size 64M --segment-size 3M odd
refused "fewer shards" --size 64M --shards 8 many
refused "neither a block device nor a regular file" /dev/null
refused "No such file or directory" --size 64M no/such/directory
for bad in "--size 0" "--size x" "--shards 0" "--shards 1000" "--segment-size -1"; do
    status=0
    # shellcheck disable=SC2086 # an option and its value
    ctl format $bad file 2>err || status=$?
    [ $status -eq 2 ] || fail "format $bad: status $status"
done

# In use by another program.
exec 9<>sparse
flock --exclusive 9
refused "it is in use" --force sparse
