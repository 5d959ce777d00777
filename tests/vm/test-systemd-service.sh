#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The unit, as it is installed, under a real systemd: starts, tells when it
# serves, serves a ublk device within its sandbox, reloads, is watched, and stops.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1536
. "$srcdir/tests/vm/ublk.sh"
requires_program unshare nsenter qemu-io jq
[ -x /usr/lib/systemd/systemd ] || skip "systemd"

guest_brd 3 128
guest_modprobe ublk_drv

# ---- installed where systemd looks; the guest's file system is thrown away

install -m 755 "$builddir/blkcached" "$builddir/blkcachectl" /usr/sbin/
sed -e 's|@sbindir@|/usr/sbin|g' -e 's|@sysconfdir@|/etc|g' "$srcdir/systemd/blkcached.service.in" \
    >/etc/systemd/system/blkcached.service
mkdir -p /etc/blkcached
systemd-sysusers "$srcdir/systemd/sysusers/blkcached.conf"
getent group blkcached >/dev/null || fail "no group"
/usr/sbin/blkcachectl format /dev/ram0 >/dev/null
volume() { printf '{ name = "%s"; backing = "/dev/%s"; mode = "write-back"; ublk = %s; }' "$1" "$2" "$3"; }
configuration() {
    printf 'daemon = { metrics = ""; };\ncache = { flash = "/dev/ram0"; ram = "16M"; };\nvolumes = ( %s );\n' "$1" \
        >/etc/blkcached/blkcached.conf
}
configuration "$(volume a ram1 0)"

# ---- systemd, as process 1 of a namespace of its own

# Nothing that a machine does when it starts: only the unit counts.
mkdir -p /run/systemd/system
for unit in /usr/lib/systemd/system/{sysinit,basic,local-fs,network-online}.target.wants/* \
    /etc/systemd/system/{sysinit,basic,sockets,network-online}.target.wants/*; do
    ln -sf /dev/null "/etc/systemd/system/${unit##*/}"
done
printf '[Unit]\nDescription=nothing but the unit under test\n' >/etc/systemd/system/test.target
env -i PATH="$PATH" container=guest unshare --pid --mount --fork --mount-proc --propagation shared \
    /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=info >"$tmpdir/systemd.log" 2>&1 &
manager=$!
cleanup_fn kill -KILL $manager
guest_wait 120 test -S /run/systemd/private || fail "systemd does not start: $(tail -n 20 "$tmpdir/systemd.log")"
# The namespace's process 1 is unshare's only child.
inside() { nsenter --target "$(pgrep -P $manager | head -n 1)" --mount --pid -- "$@"; }
state() { inside systemctl show -p "$1" --value blkcached; }
journal() { tail -n 40 "$tmpdir/systemd.log"; inside systemctl status blkcached --no-pager; }

cleanup_fn timeout 30 nsenter --target "$(pgrep -P $manager | head -n 1)" --mount --pid -- systemctl stop blkcached

inside systemctl start blkcached || fail "start: $(journal)"
[ "$(state ActiveState) $(state SubState)" = "active running" ] || fail "state: $(journal)"
[ "$(state StatusErrno)" = 0 ] || fail "$(journal)"
pid=$(state MainPID)
blkcachectl() { /usr/sbin/blkcachectl "$@"; }
guest_wait 20 blkcachectl status >/dev/null || fail "not reachable"
[ "$(stat -c %G:%a /run/blkcached/nbd.sock)" = blkcached:660 ] || fail "socket: $(stat -c %G:%a /run/blkcached/nbd.sock)"
[ "$(stat -c %a /var/lib/blkcached)" = 700 ] || fail "state directory"

# ---- in its sandbox: io_uring, ublk, the state directory, the events

blkcachectl --json status | jq -e '.buffers_registered' >/dev/null || fail "no registered buffers"
guest_wait 30 test -b /dev/ublkb0 || fail "no /dev/ublkb0: $(journal)"
dd if=/dev/urandom of="$tmpdir/data" bs=1M count=4 status=none
dd if="$tmpdir/data" of=/dev/ublkb0 bs=1M oflag=direct conv=fsync status=none || fail "write"
dd if=/dev/ublkb0 bs=1M count=4 iflag=direct status=none | cmp - "$tmpdir/data" || fail "read"
blkcachectl events | grep -q 'not locked\|does not treat this process' && fail "limits: $(blkcachectl events)"
grep -q "needs CAP\|cannot be set" "$tmpdir/systemd.log" && fail "$(cat "$tmpdir/systemd.log")"

# ---- reload: one comes and goes; a wrong file fails

configuration "$(volume a ram1 0), $(volume b ram2 1)"
inside systemctl reload blkcached || fail "reload: $(journal)"
guest_wait 30 test -b /dev/ublkb1 || fail "no /dev/ublkb1"
echo 'nonsense' >/etc/blkcached/blkcached.conf
inside systemctl reload blkcached 2>/dev/null && fail "a wrong file is taken"
[ "$(state ActiveState)" = active ] || fail "a refused reload ended it: $(journal)"
configuration "$(volume a ram1 0)"
inside systemctl reload blkcached || fail "reload: $(blkcachectl reload 2>&1) $(journal)"
guest_wait 30 test ! -b /dev/ublkb1 || fail "/dev/ublkb1 stays"
configuration "$(volume a ram1 0), $(volume b ram2 1)"
blkcachectl attach b >/dev/null || fail "attach"
guest_wait 30 test -b /dev/ublkb1 || fail "no /dev/ublkb1"
blkcachectl detach b >/dev/null || fail "detach"
[ "$(state MainPID)" = "$pid" ] || fail "it was restarted meanwhile"

# ---- stop

inside systemctl stop blkcached || fail "stop: $(journal)"
[ "$(state Result)" = success ] || fail "result: $(journal)"
"$builddir/blkcachectl" check /dev/ram0 >/dev/null || fail "check"
