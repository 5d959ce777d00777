#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# blkcachectl set: keys change at run time, under load, and stay so over a
# restart; away from write-back, what is dirty is destaged first, with progress
# and, when it does not get on, a reason; the old mode takes a change back.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq nbdcopy fio
. "$srcdir/tests/system/failures.sh"
requires_free_space 200

truncate -s 64M "$tmpdir/a" "$tmpdir/b" "$tmpdir/c"
start_store a --volatile
format_flash 128M >/dev/null
volumes=("name = \"a\"; backing = \"$(store_uri a)\"; mode = \"write-back\"; backing_timeout = \"2s\"; dirty_max = 90;"
    "name = \"b\"; backing = \"$tmpdir/b\"; mode = \"write-back\";"
    "name = \"c\"; backing = \"$tmpdir/c\"; mode = \"write-back\"; destage = \"ordered\";")
write_config "${volumes[@]}"
start_daemon

# ---- plain keys

blkcachectl set b dirty_max 40 | grep -qx 'b: dirty_max is 40' || fail "dirty_max"
blkcachectl set b sequential_cutoff=1M | grep -qx 'b: sequential_cutoff is 1M' || fail "sequential_cutoff"
[ "$(volume b dirty_max_percent)" = 40 ] || fail "dirty_max is not in use"
[ "$(volume b sequential_cutoff_bytes)" = 1048576 ] || fail "sequential_cutoff is not in use"
[ "$(volume a dirty_max_percent)" = 90 ] || fail "another volume was changed"
blkcachectl --json set b | jq -e '.keys.dirty_max == {"value": "40", "configured": "50"}' >/dev/null || fail "keys"
blkcachectl set b | grep -q '^sequential_cutoff  *1M  *4M$' || fail "$(blkcachectl set b)"

# ---- refusals: what, why, what to do

blkcachectl_fails 1 '^blkcachectl: set none: there is no such volume$' set none mode write-back
blkcachectl_fails 1 '"mdoe" is no key of a volume; did you mean "mode"?' set b mdoe write-back
blkcachectl_fails 1 'set b mode: "fast" is not possible; give one of "write-back",' set b mode fast
blkcachectl_fails 1 'set b dirty_max: "99" is out of range; give a percentage from 1 to 95' set b dirty_max 99
blkcachectl_fails 1 'share_min depends on .*blkcached.conf, then: blkcachectl reload' set b share_min 10
blkcachectl_fails 1 'backing cannot change while the volume is in use; change it in .*blkcached.conf, then: blkcachectl detach b' set b backing /x
blkcachectl_fails 1 'ordered, which needs write-back' set c mode write-through
blkcachectl_fails 2 'a value is missing' set b mode
blkcachectl_fails 2 'an argument is missing' set
[ "$(volume b mode)" = write-back ] || fail "a refused change changes"

# ---- away from write-back: destaged first

qemu-io -f raw -c "write -P 7 0 16M" -c flush "$(nbd_uri b)" >/dev/null
blkcachectl set b mode write-through --wait | grep -qx 'b: mode is write-through' || fail "mode"
[ "$(volume b mode)" = write-through ] || fail "not in force"
[ "$(volume b dirty_bytes)" = 0 ] || fail "still dirty"
cmp -n $((16 << 20)) "$tmpdir/b" <(tr '\0' '\007' </dev/zero | head -c 16M) || fail "the backing store lacks what was written"
qemu-io -f raw -c "write -P 9 1M 64k" "$(nbd_uri b)" >/dev/null
cmp -i $((1 << 20)):0 -n 65536 "$tmpdir/b" <(tr '\0' '\011' </dev/zero | head -c 64k) || fail "not written through"

# ---- a store that takes nothing: visible, with a reason; taken back; then done

rules a 'error wzf 5'
qemu-io -f raw -c "write -P 5 0 4M" -c flush "$(nbd_uri a)" >/dev/null
[ "$(volume a dirty_bytes)" -gt 0 ] || fail "not dirty"
blkcachectl set a mode pass-through | grep -q '^a: pass-through for what is written from now on; .* still to be written back' ||
    fail "$(blkcachectl set a)"
wait_until 30 eval '[ "$(volume a transition.reason)" != null ]'
[ "$(volume a mode)" = write-back ] || fail "in force too early: $(volume a mode)"
[ "$(volume a mode_requested)" = pass-through ] || fail "not requested"
[ "$(volume a transition.left_bytes)" -gt 0 ] || fail "nothing is left"
blkcachectl status | grep -q '^a: on its way to pass-through, .* left to write back; the backing store' || fail "$(blkcachectl status)"
blkcachectl set a mode write-back >/dev/null
[ "$(volume a transition)" = null ] || fail "not taken back"
[ "$(volume a mode_requested)" = write-back ] || fail "not taken back"
blkcachectl set a mode pass-through >/dev/null
kill_daemon
start_daemon
# The transition goes on after a crash, and so does what was set.
[ "$(volume a mode_requested)" = pass-through ] || fail "forgotten: $(volume a mode_requested)"
[ "$(volume a transition.to)" = pass-through ] || fail "no transition after the restart"
rules a
blkcachectl set a --wait >/dev/null
[ "$(volume a mode)" = pass-through ] || fail "not in force"
[ "$(volume a dirty_bytes)" = 0 ] || fail "still dirty"
qemu-io -f raw -c "read -P 5 0 4M" "$(nbd_uri a)" | grep -q 'read 4194304' || fail "wrong data"
[ "$(volume b mode)" = write-through ] || fail "forgotten: $(volume b mode)"
[ "$(volume b dirty_max_percent)" = 40 ] || fail "dirty_max is forgotten"
blkcachectl events | grep -q 'the mode is in force.*volume=a.*mode=pass-through' || fail "no event"

# ---- under load, through all modes; fio verifies what it reads

fio --name=load --ioengine=nbd --uri="$(nbd_uri b)" --rw=randrw --bs=4k --iodepth=8 --size=32M --io_size=512M \
    --time_based --runtime=300 --verify=crc32c --verify_backlog=256 --verify_fatal=1 >"$tmpdir/fio.log" 2>&1 &
fio_pid=$!
cleanup_fn end_process $fio_pid
for mode in write-back write-through write-around write-back pass-through write-back write-through; do
    blkcachectl set b mode $mode >/dev/null
    sleep 0.5
done
# In force although somebody writes all the time.
timeout 60 "$builddir/blkcachectl" -s "$control_socket" set b --wait >/dev/null || fail "write-through is never in force"
kill -0 $fio_pid 2>/dev/null || fail "fio ended too early: $(cat "$tmpdir/fio.log")"
[ "$(volume b mode)" = write-through ] || fail "mode $(volume b mode)"
kill -INT $fio_pid
wait $fio_pid || :
grep -q ': err= 0:' "$tmpdir/fio.log" || fail "fio: $(cat "$tmpdir/fio.log")"

# ---- the later of "set" and the configuration counts

blkcachectl set b mode write-around >/dev/null
stop_daemon
volumes[1]="name = \"b\"; backing = \"$tmpdir/b\"; mode = \"pass-through\";"
write_config "${volumes[@]}"
start_daemon
blkcachectl set b --wait >/dev/null # what was written last may still be dirty
[ "$(volume b mode)" = pass-through ] || fail "the changed configuration does not count: $(volume b mode)"
[ "$(volume b dirty_max_percent)" = 40 ] || fail "the key that was not changed is forgotten"
blkcachectl set b dirty_max 50 >/dev/null # as configured
stop_daemon
jq -e '.b | has("dirty_max") or has("mode") | not' "$tmpdir/state/settings.json" >/dev/null || fail "$(cat "$tmpdir/state/settings.json")"

# ---- a damaged file is named

echo '{"b": ' >"$tmpdir/state/settings.json"
"$builddir/blkcached" --foreground -c "$config" 2>"$tmpdir/err" && fail "starts with damaged settings"
grep -q "settings.json: is damaged" "$tmpdir/err" || fail "$(cat "$tmpdir/err")"
