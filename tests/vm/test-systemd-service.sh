#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The unit, as it is installed, under a real systemd: starts, tells when it
# serves, serves a ublk device within its sandbox, reloads, is watched, stops, and is started by its socket.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1536
. "$srcdir/tests/vm/ublk.sh"
. "$srcdir/tests/vm/systemd.sh"
requires_program qemu-io jq

guest_brd 3 128
guest_modprobe ublk_drv

# ---- installed where systemd looks; the guest's file system is thrown away

systemd_install
getent group blkcached >/dev/null || fail "no group"
/usr/sbin/blkcachectl format /dev/ram0 >/dev/null
volume() { printf '{ name = "%s"; backing = "/dev/%s"; mode = "write-back"; ublk = %s; }' "$1" "$2" "$3"; }
configuration() {
    printf 'daemon = { metrics = ""; };\ncache = { flash = "/dev/ram0"; ram = "16M"; };\nvolumes = ( %s );\n' "$1" \
        >/etc/blkcached/blkcached.conf
}
configuration "$(volume a ram1 0)"
# A daemon that is slow because the guest is must not be taken for one that hangs.
mkdir -p /etc/systemd/system/blkcached.service.d
printf '[Service]\nWatchdogSec=20\n' >/etc/systemd/system/blkcached.service.d/watchdog.conf

# ---- start

systemd_begin
systemctl start blkcached || fail "start: $(journal)"
[ "$(state ActiveState) $(state SubState)" = "active running" ] || fail "state: $(journal)"
[ "$(state StatusErrno)" = 0 ] || fail "$(journal)"
pid=$(state MainPID)
blkcachectl() { /usr/sbin/blkcachectl "$@"; }
guest_wait 60 blkcachectl status >/dev/null || fail "not reachable"
[ "$(stat -c %G:%a /run/blkcached/nbd.sock)" = blkcached:660 ] || fail "socket: $(stat -c %G:%a /run/blkcached/nbd.sock)"
[ "$(stat -c %a /var/lib/blkcached)" = 700 ] || fail "state directory"

# ---- in its sandbox: io_uring, ublk, the state directory, the events

blkcachectl --json status | jq -e '.buffers_registered' >/dev/null || fail "no registered buffers"
guest_wait 30 test -b /dev/ublkb0 || fail "no /dev/ublkb0: $(journal)"
dd if=/dev/urandom of="$tmpdir/data" bs=1M count=4 status=none
dd if="$tmpdir/data" of=/dev/ublkb0 bs=1M oflag=direct conv=fsync status=none || fail "write"
dd if=/dev/ublkb0 bs=1M count=4 iflag=direct status=none | cmp - "$tmpdir/data" || fail "read"
blkcachectl events | grep -q 'not locked\|does not treat this process' && fail "limits: $(blkcachectl events)"
grep -q "blkcached serves" "$daemon_log" || fail "no log: $(journal)"
grep -q "needs CAP\|cannot be set" "$daemon_log" && fail "$(cat "$daemon_log")"

# ---- reload: one comes and goes; a wrong file fails

configuration "$(volume a ram1 0), $(volume b ram2 1)"
systemctl reload blkcached || fail "reload: $(journal)"
guest_wait 30 test -b /dev/ublkb1 || fail "no /dev/ublkb1"
echo 'nonsense' >/etc/blkcached/blkcached.conf
systemctl reload blkcached 2>/dev/null && fail "a wrong file is taken"
[ "$(state ActiveState)" = active ] || fail "a refused reload ended it: $(journal)"
# A device that is in use stays, and works. (Who has it open is seen by the daemon in its own namespace of processes.)
configuration "$(volume a ram1 0)"
inside bash -c 'exec 5<>/dev/ublkb1; echo $$ >"$0"; exec sleep 600' "$tmpdir/open" &
user=$!
guest_wait 60 test -s "$tmpdir/open" || fail "the device cannot be opened"
systemctl reload blkcached 2>/dev/null && fail "a device in use is taken away"
blkcachectl reload 2>"$tmpdir/reload" && fail "a device in use is taken away"
grep -q 'volume "b".*ublkb1.*unmount it first' "$tmpdir/reload" || fail "$(cat "$tmpdir/reload")"
dd if="$tmpdir/data" of=/dev/ublkb1 bs=1M oflag=direct conv=fsync status=none || fail "a refused reload disturbs it"
inside kill "$(cat "$tmpdir/open")" # its number there
wait "$user" || :
systemctl reload blkcached || fail "reload: $(blkcachectl reload 2>&1) $(journal)"
guest_wait 30 test ! -b /dev/ublkb1 || fail "/dev/ublkb1 stays"
configuration "$(volume a ram1 0), $(volume b ram2 1)"
blkcachectl attach b >/dev/null || fail "attach"
guest_wait 30 test -b /dev/ublkb1 || fail "no /dev/ublkb1"
blkcachectl detach b >/dev/null || fail "detach"
[ "$(state MainPID)" = "$pid" ] || fail "it was restarted meanwhile"

# ---- the watchdog: a daemon that does nothing is killed and started again; who reads meanwhile waits

inside kill -STOP "$pid" # its number there
dd if=/dev/ublkb0 bs=1M count=4 iflag=direct status=none >"$tmpdir/read" &
reader=$!
restarted() {
    sleep 1 # to ask costs time, too
    [ "$(state NRestarts)" -gt 0 ] && [ "$(state SubState)" = running ]
}
guest_wait 200 restarted || fail "not restarted: $(journal)"
[ "$(state MainPID)" != "$pid" ] || fail "it is the same process"
wait $reader || fail "a read failed during the restart"
cmp "$tmpdir/read" "$tmpdir/data" || fail "the read has other data"

# ---- stop: who has the device open is not seen from within the namespace, so it stays

exec 9<>/dev/ublkb0
systemctl stop blkcached || fail "stop: $(journal)"
[ "$(state Result)" = success ] || fail "result: $(journal)"
[ -b /dev/ublkb0 ] || fail "a device that somebody may have open is taken away: $(journal)"
"$builddir/blkcachectl" check /dev/ram0 >/dev/null || fail "check"

# ---- systemd listens: who connects starts it, and what the configuration names does not count

sed -i 's|^cache|nbd = { listen = ( "tcp:127.0.0.1:1" ); };\n&|' /etc/blkcached/blkcached.conf
systemctl reset-failed
systemctl start blkcached.socket || fail "the socket unit"
[ "$(stat -c %G:%a /run/blkcached/nbd.sock)" = blkcached:660 ] || fail "socket: $(stat -c %G:%a /run/blkcached/nbd.sock)"
[ "$(state ActiveState)" = inactive ] || fail "it runs already"
qemu-io -f raw -c "read 0 4k" "nbd+unix:///a?socket=/run/blkcached/nbd.sock" >"$tmpdir/qemu-io.log" || fail "$(cat "$tmpdir/qemu-io.log") $(journal)"
[ "$(state ActiveState)" = active ] || fail "$(journal)"
blkcachectl --json status | jq -e '.nbd.listen == ["unix:/run/blkcached/nbd.sock"]' >/dev/null || fail "$(blkcachectl --json status)"
dd bs=1M count=4 iflag=fullblock status=none <&9 | cmp - "$tmpdir/data" || fail "the device that stayed has other data"
exec 9>&-
systemctl reload blkcached || fail "reload: $(journal)"
[ -S /run/blkcached/nbd.sock ] || fail "a reload takes the socket of systemd away"
systemctl stop blkcached.socket blkcached.service || fail "stop: $(journal)"

# ---- without ublk, as a user of its own: what root left in the state directory becomes the user's

cp "$srcdir/conf/own-user.conf" /etc/systemd/system/blkcached.service.d/
chgrp disk /dev/ram0 /dev/ram1
chmod 660 /dev/ram0 /dev/ram1
echo 'daemon = { metrics = ""; }; cache = { flash = "/dev/ram0"; ram = "16M"; };
volumes = ( { name = "a"; backing = "/dev/ram1"; mode = "write-back"; } );' >/etc/blkcached/blkcached.conf
systemctl daemon-reload
systemctl start blkcached || fail "start as a user: $(journal)"
inside grep -q "^Uid:[[:space:]]$(id -u blkcached)[[:space:]]" "/proc/$(state MainPID)/status" || fail "it runs as somebody else"
inside grep -q "^CapEff:[[:space:]]0*$" "/proc/$(state MainPID)/status" || fail "it has capabilities"
[ "$(stat -c %U /var/lib/blkcached)" = blkcached ] || fail "the state directory is not the user's"
qemu-io -f raw -c "write -P 77 1M 64k" -c flush -c "read -P 77 1M 64k" \
    "nbd+unix:///a?socket=/run/blkcached/nbd.sock" >"$tmpdir/qemu-io.log" || fail "$(cat "$tmpdir/qemu-io.log") $(journal)"
blkcachectl flush --wait >/dev/null || fail "flush"
systemctl reload blkcached || fail "reload: $(journal)"
systemctl stop blkcached || fail "stop: $(journal)"
[ "$(state Result)" = success ] || fail "result: $(journal)"
