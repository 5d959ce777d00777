#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl attach and detach: volumes leave and come back without a restart,
# while clients of another one go on; dirty data is never left behind; a store
# that was changed meanwhile is seen as it is; a crash at any time loses nothing.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq fio nbdinfo
. "$srcdir/tests/system/failures.sh"
requires_free_space 250

truncate -s 32M "$tmpdir/a" "$tmpdir/b" "$tmpdir/c" "$tmpdir/d"
start_store c --volatile
format_flash 128M >/dev/null
volumes=("name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
    "name = \"b\"; backing = \"$tmpdir/b\"; mode = \"write-back\";"
    "name = \"c\"; backing = \"$(store_uri c)\"; mode = \"write-back\"; backing_timeout = \"1s\";")
write_config "${volumes[@]}"
start_daemon

# refused TEXT ARGUMENT...: a client that has just ended may still be counted, for a moment.
refused() {
    local text=$1 status _
    shift
    for _ in {1..100}; do
        status=0
        blkcachectl "$@" >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
        if grep -q -- "$text" "$tmpdir/err" || ! grep -q 'connected to it' "$tmpdir/err"; then break; fi
        sleep 0.1
    done
    [ $status -eq 1 ] || fail "$*: status $status: $(cat "$tmpdir/out" "$tmpdir/err")"
    grep -q -- "$text" "$tmpdir/err" || fail "$*: $(cat "$tmpdir/err")"
    [ "$(wc -l <"$tmpdir/err")" = 1 ] || fail "$*: more than one line: $(cat "$tmpdir/err")"
}

volume() { # NAME KEY
    blkcachectl --json volumes | jq -r ".volumes[] | select(.name == \"$1\") | .$2"
}

io() { # VOLUME COMMAND...
    local name=$1 arguments=()
    shift
    for command; do arguments+=(-c "$command"); done
    qemu-io -f raw "${arguments[@]}" "$(nbd_uri "$name")" >"$tmpdir/io.log" 2>&1 || fail "$name: $*: $(cat "$tmpdir/io.log")"
    ! grep -q 'verification failed' "$tmpdir/io.log" || fail "$name: $*: $(cat "$tmpdir/io.log")"
}

# All the time somebody works on a, and verifies what he reads.
fio --name=load --ioengine=nbd --uri="$(nbd_uri a)" --rw=randrw --bs=4k --iodepth=4 --size=16M --io_size=2G \
    --time_based --runtime=300 --rate_iops=800 --verify=crc32c --verify_backlog=64 --verify_fatal=1 >"$tmpdir/fio.log" 2>&1 &
fio_pid=$!
cleanup_fn end_process $fio_pid
wait_until 60 eval '[ "$(blkcachectl --json status | jq .nbd.connections)" -gt 0 ]'

# detach_when_free VOLUME OPTION...: a client that has just ended may still be counted.
detach_when_free() {
    local _ status
    for _ in {1..100}; do
        status=0
        blkcachectl detach "$@" >"$tmpdir/free.out" 2>&1 || status=$?
        grep -q 'connected to it' "$tmpdir/free.out" || break
        sleep 0.1
    done
    cat "$tmpdir/free.out"
    return $status
}

# ---- refusals

refused '^blkcachectl: attach b: it is in service already$' attach b
refused '^blkcachectl: attach z: .*blkcached.conf does not name it; add it there first$' attach z
refused '^blkcachectl: detach z: it is not in service$' detach z
refused '^blkcachectl: detach a: volume "a": .*' detach a
write_config "${volumes[@]}" "name = \"d\"; backing = \"$tmpdir/d\"; mode = \"write-back\"; destage = \"ordered\";"
refused 'no volume had ordered destaging when the daemon started.*restart it' attach d
write_config "${volumes[@]}"
io b "write -P 1 0 4M" flush
refused 'of it are dirty, that is newer than its backing store; --flush writes them there first' detach b
[ "$(volume b state)" = ok ] || fail "a refused detach changes"
io b "read -P 1 0 4M"

# ---- detach: the store is complete, and free

detach_when_free b --flush | grep -q '^b: out of service, its backing store is complete$' || fail "detach"
[ "$(volume b name)" = "" ] || fail "still there"
cmp -n $((4 << 20)) "$tmpdir/b" <(tr '\0' '\001' </dev/zero | head -c 4M) || fail "the backing store is not complete"
nbdinfo "$(nbd_uri b)" >/dev/null 2>&1 && fail "still exported"
nbdinfo --list "$(nbd_uri)" | grep -q 'export="b"' && fail "still listed"
refused 'there is no such volume' flush b
for fd in "/proc/$daemon_pid/fd"/*; do
    [ "$(readlink "$fd")" != "$tmpdir/b" ] || fail "the backing store is still open"
done
flock --nonblock "$tmpdir/b" true || fail "the backing store is still locked"

# Somebody else writes to it; what comes back is what is there now.
qemu-io -f raw -c "write -P 2 0 1M" "$tmpdir/b" >/dev/null
blkcachectl attach b | grep -qx 'b: in service' || fail "attach"
io b "read -P 2 0 1M" "read -P 1 1M 3M" "write -P 3 1M 1M" flush
refused '1 client is connected to it; disconnect it, or hang up with "blkcachectl detach a --force"' detach a --flush

# ---- many times: places in the cache are not used up

for i in $(seq 12); do
    io b "write -P $i 2M 1M" flush
    detach_when_free b --flush >/dev/null
    blkcachectl attach b >/dev/null
    io b "read -P $i 2M 1M"
done

# ---- a crash with something attached at run time

write_config "${volumes[@]}" "name = \"d\"; backing = \"$tmpdir/d\"; mode = \"write-back\";"
blkcachectl attach d >/dev/null
io d "write -P 4 0 2M" flush
[ "$(volume d dirty_bytes)" -gt 0 ] || fail "nothing is dirty"
kill -0 $fio_pid || fail "fio: $(cat "$tmpdir/fio.log")"
blkcachectl --json set d dirty_max 30 >/dev/null || fail "set of what was attached"
[ "$(volume d backing)" = "$tmpdir/d" ] || fail "backing of what was attached"

# ---- a store that takes nothing: seen, cancelled, refused; then done

rules c 'error wzf 5'
io c "write -P 5 0 2M" flush
detach_when_free c --flush >"$tmpdir/detach.out" 2>&1 &
detach_pid=$!
wait_until 60 eval '! nbdinfo "$(nbd_uri c)"'
refused 'not being detached' detach b --cancel
blkcachectl detach c --cancel >/dev/null
wait $detach_pid && fail "cancelled, and detached"
grep -q '^blkcachectl: detach c: volume "c": cancelled$' "$tmpdir/detach.out" || fail "$(cat "$tmpdir/detach.out")"
io c "read -P 5 0 2M"
refused 'volume "c": the backing store does not take its dirty data: .*nothing is lost' detach c --flush
io c "read -P 5 0 2M"
rules c
detach_when_free c --flush >/dev/null || fail "detach of c"
cmp -n $((2 << 20)) "$tmpdir/c" <(tr '\0' '\005' </dev/zero | head -c 2M) || fail "c is not complete"
blkcachectl attach c >/dev/null

# ---- hanging up

qemu-io -f raw -c "write -P 6 0 64k" -c "sleep 60000" "$(nbd_uri c)" >"$tmpdir/qemu.log" 2>&1 &
qemu_pid=$!
cleanup_fn end_process $qemu_pid
wait_until 60 eval '[ "$(volume c written_bytes)" -gt 0 ]'
refused '1 client is connected' detach c --flush
blkcachectl detach c --flush --force >/dev/null || fail "--force"
kill "$qemu_pid" 2>/dev/null || :
cmp -n 65536 "$tmpdir/c" <(tr '\0' '\006' </dev/zero | head -c 64k) || fail "c is not complete"

kill -INT $fio_pid
wait $fio_pid || :
grep -q ': err= 0:' "$tmpdir/fio.log" || fail "fio: $(cat "$tmpdir/fio.log")"
kill_daemon
start_daemon
io d "read -P 4 0 2M"
io b "read -P 12 2M 1M"
io c "read -P 6 0 64k" # detached, and back with a restart, as it is configured
blkcachectl flush --wait >/dev/null
stop_daemon
cmp -n $((2 << 20)) "$tmpdir/d" <(tr '\0' '\004' </dev/zero | head -c 2M) || fail "d is not complete"

# ---- the export without a name is never another volume

# unnamed: the size of what a client gets who names nothing.
unnamed() {
    nbdinfo --size "$(nbd_uri '')" 2>/dev/null || echo none
}
truncate -s 33M "$tmpdir/first"
write_config "name = \"first\"; backing = \"$tmpdir/first\";" "${volumes[@]}"
start_daemon
[ "$(unnamed)" = $((33 << 20)) ] || fail "the first volume is not the one without a name"
detach_when_free first >/dev/null || fail "detach"
[ "$(unnamed)" = none ] || fail "another volume took the place of the first one"
blkcachectl attach first >/dev/null
[ "$(unnamed)" = $((33 << 20)) ] || fail "the first volume is not the one without a name again"
write_config "${volumes[@]}" "name = \"first\"; backing = \"$tmpdir/first\";"
blkcachectl reload >/dev/null
[ "$(unnamed)" = $((32 << 20)) ] || fail "a reload did not change which one is the first"
stop_daemon

# ---- ordered ones: their places are used again, too

truncate -s 8M "$tmpdir/e"
write_config "${volumes[@]}" "name = \"e\"; backing = \"$tmpdir/e\"; mode = \"write-back\"; destage = \"ordered\";"
start_daemon
for i in $(seq 36); do # one more than there are places
    if [ $((i % 6)) = 1 ]; then io e "write -P $i 0 256k" flush "write -P $((i + 1)) 128k 4k" flush; fi
    detach_when_free e --flush >/dev/null || fail "detach, round $i"
    blkcachectl attach e >"$tmpdir/out" 2>&1 || fail "attach, round $i: $(cat "$tmpdir/out")"
done
[ "$(volume e destage)" = ordered ] || fail "it is not ordered any more"
io e "read -P 31 0 128k" "read -P 32 128k 4k" "read -P 31 132k 124k"
stop_daemon
