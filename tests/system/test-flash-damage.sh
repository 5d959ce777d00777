#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon on a flash with a changed byte in each metadata field, and in data:
# it refuses with a clear message, or serves right data, or an I/O error for
# what is lost. Never an older version of a block, never a crash.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq python3
requires_built blkcached blkcachectl
requires_free_space 200

# shellcheck disable=SC2034 # for tests/functions.sh
flash_is_damaged="each round flips a byte of it"
blocks=256
truncate -s $((blocks * 4096)) "$tmpdir/backing"
# Once the trigger is there, nothing is destaged any more: what is lost on flash is lost.
trigger=$tmpdir/trigger
start_nbdkit store --filter=error file "$tmpdir/backing" \
    error-pwrite=EIO error-pwrite-rate=100% error-pwrite-file="$trigger"
format_flash 20M --shards 1 >/dev/null
ram=0 write_config \
    "name = \"v\"; backing = \"nbd+unix:///?socket=$tmpdir/store.sock\"; mode = \"write-back\";"

# Every block has an older version on the backing store and on flash, 255, and
# a newer one that is durable and dirty.
start_daemon
qemu-io -f raw -c "write -P 255 0 $((blocks * 4096))" -c flush "$(nbd_uri v)" >/dev/null
blkcachectl flush --wait >/dev/null
touch "$trigger"
for ((i = 0; i < blocks; i += 16)); do
    echo "write -P $((i / 16 + 1)) $((i * 4096)) 64k"
done >"$tmpdir/writes"
echo flush >>"$tmpdir/writes"
qemu-io -f raw "$(nbd_uri v)" <"$tmpdir/writes" >/dev/null
wait_until 60 flash_is_marked # or rot cannot be told from a tear
# With the state directory, which knows an older copy of the flash.
keep() { # IMAGE
    cp "$flash" "$tmpdir/$1"
    cp -r "$tmpdir/state" "$tmpdir/$1.state"
}
put_back() { # IMAGE
    cp "$tmpdir/$1" "$flash"
    rm -r "$tmpdir/state"
    cp -r "$tmpdir/$1.state" "$tmpdir/state"
}
kill_daemon
keep crashed
start_daemon
[ "$(blkcachectl --json volumes | jq '.volumes[0].dirty_bytes')" -eq $((blocks * 4096)) ] ||
    fail "not everything is dirty"
stop_daemon
keep clean

for ((i = 0; i < blocks; i++)); do
    echo "read -P $((i / 16 + 1)) $((i * 4096)) 4096"
done >"$tmpdir/reads"

wrong=0 refused=0 lost=0 whole=0

# flip OFFSET: one byte of the flash.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$1" -N 1 "$flash")
    printf '%b' "\\$(printf '%o' $((byte ^ 16)))" | dd of="$flash" bs=1 seek="$1" conv=notrunc status=none
}

# judge WHAT: start on the flash as it is, and read everything.
judge() {
    local status=0 what=$1 i
    rm -f "$control_socket" "$nbd_socket"
    : >"$tmpdir/one.log"
    "$builddir/blkcached" --foreground -c "$config" >"$tmpdir/one.log" 2>&1 &
    daemon_pid=$!
    for ((i = 0; i < 3000; i++)); do
        [ -S "$control_socket" ] && blkcachectl volumes >/dev/null 2>&1 && break
        kill -0 "$daemon_pid" 2>/dev/null || break
        sleep 0.02
    done
    if ! kill -0 "$daemon_pid" 2>/dev/null; then
        wait "$daemon_pid" || status=$?
        [ $status -eq 1 ] || fail "$what: the start ended with $status: $(cat "$tmpdir/one.log")"
        grep -q 'error: cannot start reason=' "$tmpdir/one.log" || fail "$what: no reason is given"
        refused=$((refused + 1))
        return 0
    fi
    qemu-io -f raw "$(nbd_uri v)" <"$tmpdir/reads" >"$tmpdir/read" 2>&1 || :
    if grep -q 'Pattern verification failed' "$tmpdir/read"; then
        wrong=$((wrong + 1))
        echo "wrong data after: $what"
    elif grep -q 'read failed: Input/output error' "$tmpdir/read"; then
        lost=$((lost + 1))
    else
        [ "$(grep -c '^.*read 4096/4096 bytes' "$tmpdir/read")" -eq $blocks ] ||
            fail "$what: $(tail -n 3 "$tmpdir/read")"
        whole=$((whole + 1))
    fi
    kill -KILL "$daemon_pid"
    status=0
    wait "$daemon_pid" 2>/dev/null || status=$?
    [ $status -eq 137 ] || fail "$what: the daemon ended with $status: $(cat "$tmpdir/one.log")"
}

# damage IMAGE WHAT START OFFSET...: one byte after the other.
damage() {
    local image=$1 what=$2 start=$3 at
    shift 3
    for at; do
        put_back "$image"
        flip $((start + at))
        judge "$image, $what byte $at"
    done
}

for image in crashed clean; do
    "$builddir/blkcachectl" dump "$tmpdir/$image" >"$tmpdir/dump"
    # The last segment with records, its last batch with records, and a footer.
    segment=$(awk '/^segment/ { at = $5; sub(":", "", at) } /[1-9][0-9]* entries/ { print at }' "$tmpdir/dump" | tail -n 1)
    slot=$(sed -n 's/.*batch at slot \([0-9]*\):.* [1-9][0-9]* entries, [1-9].*/\1/p' "$tmpdir/dump" | tail -n 1)
    footed=$(awk '/^segment/ { at = $5; sub(":", "", at) } /footer at slot/ { print at }' "$tmpdir/dump" | tail -n 1)
    footer=$((footed + 4096 * $(sed -n 's/.*footer at slot \([0-9]*\):.*/\1/p' "$tmpdir/dump" | tail -n 1)))
    batch=$((segment + 4096 * slot))
    if [ $image = crashed ]; then
        damage $image superblock 0 0 16 20 24 40 48 56 64 72 76 80 84 88 512 520 8704 8864 8888
        damage $image "segment header" "$segment" 0 8 24 32 40 48 56 60 62 64 600
        damage $image "batch header" $batch 0 8 24 32 40 48 56 64 72 76 78 80 82 84 88 92 128 136 \
            144 152 156 160 162 164 2088
        damage $image footer $footer 0 8 24 32 40 48 56 64 68 72 76 128 136 152 156
    else
        damage $image superblock 0 20 64 512
        damage $image "segment header" "$segment" 8 24 64
        damage $image "batch header" $batch 0 24 72 128
        damage $image footer $footer 0 24 64 76 128 144
    fi
    damage $image data $((batch + 4096)) 0 4095
    # Both superblocks.
    put_back "$image"
    flip 100
    flip $(((20 << 20) - 65536 + 100))
    judge "$image, both superblocks"
done

echo "$whole whole, $lost with I/O errors, $refused refused, $wrong wrong"
[ "$wrong" -eq 0 ] || fail "wrong data was served"
[ "$lost" -ge 2 ] || fail "damage to data was not noticed"
[ "$refused" -ge 2 ] || fail "a cache without a superblock was not refused"
