#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package, as scripts/package left it: installed, configured, its service
# started and used, upgraded, removed, purged. What was written is never deleted.
. "$srcdir/tests/vm/guest.sh"
package=$(find "$srcdir"/build/package -maxdepth 1 -name 'blkcached_*.deb' 2>/dev/null | head -n 1)
[ -n "$package" ] || guest_skip "the Debian package: scripts/package"
[ "$package" -nt "$builddir/blkcached" ] || guest_skip "a Debian package of these sources: scripts/package"
guest_enter --memory 1536
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/vm/systemd.sh"
requires_program dpkg qemu-io jq

guest_brd 2 96
guest_modprobe ublk_drv
# Whose files the others are does not matter, and reading the lists of them takes half a minute here.
mkdir -p "$tmpdir/dpkg/info" "$tmpdir/dpkg/updates"
cp /var/lib/dpkg/status /var/lib/dpkg/info/format "$tmpdir/dpkg"
mv "$tmpdir/dpkg/format" "$tmpdir/dpkg/info"
for list in /var/lib/dpkg/info/*.list; do : >"$tmpdir/dpkg/info/${list##*/}"; done
mount --bind "$tmpdir/dpkg" /var/lib/dpkg
rm -f /usr/sbin/policy-rc.d # where the host is a container it forbids to stop a service
systemd_begin
blkcachectl() { /usr/sbin/blkcachectl "$@"; }
blkcachectl_again() { "$builddir/blkcachectl" -s /run/blkcached/control.sock "$@"; }
dpkg_log=$tmpdir/dpkg.log
# Manual pages are not indexed: that takes minutes here.
package_do() { inside env DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --force-unsafe-io "$@" >>"$dpkg_log" 2>&1 || fail "dpkg $*: $(cat "$dpkg_log")"; }
knows_unit() { systemctl cat blkcached.service >/dev/null 2>&1; }

# ---- installed: nothing is served before there is a flash

package_do --install "$package"
getent group blkcached >/dev/null || fail "no group"
knows_unit || fail "systemd does not know the unit"
systemctl is-enabled --quiet blkcached && fail "it is enabled"
[ "$(state ActiveState)" = inactive ] || fail "it is started"
[ "$(blkcached --version)" = "$("$builddir/blkcached" --version)" ] || fail "version"

# ---- as README.Debian says

blkcachectl format /dev/ram0 >/dev/null
sed -i -e 's|^\( *flash *= \).*|\1"/dev/ram0";|' \
    -e 's|^volumes = (|&\n  { name = "a"; backing = "/dev/ram1"; mode = "write-back"; ublk = 0; },|' /etc/blkcached/blkcached.conf
blkcached --check >"$tmpdir/check" || fail "$(cat "$tmpdir/check")"
systemctl enable --now blkcached || fail "start: $(journal)"
guest_wait 30 test -b /dev/ublkb0 || fail "no device: $(journal)"
head -c 4M /dev/urandom >"$tmpdir/data"
dd if="$tmpdir/data" of=/dev/ublkb0 bs=1M oflag=direct conv=fsync status=none || fail "write"
qemu-io -f raw -c "write -P 5 8M 1M" -c flush 'nbd+unix:///a?socket=/run/blkcached/nbd.sock' >"$tmpdir/qemu-io.log" || fail "NBD"
blkcachectl status >/dev/null || fail "status"
systemctl reload blkcached || fail "reload: $(journal)"

# ---- an upgrade leaves the daemon alone

pid=$(state MainPID)
package_do --install "$package"
[ "$(state MainPID) $(state ActiveState)" = "$pid active" ] || fail "an upgrade restarts it: $(journal)"
grep -q '"/dev/ram0"' /etc/blkcached/blkcached.conf || fail "an upgrade takes the configuration away"

# ---- removed: stopped, with the data on flash and the configuration there

package_do --remove blkcached
pgrep -x blkcached >/dev/null && fail "it still runs: $(journal)"
[ ! -e /usr/sbin/blkcached ] || fail "the program is still there"
[ -e /etc/blkcached/blkcached.conf ] || fail "the configuration is gone"
"$builddir/blkcachectl" check /dev/ram0 >"$tmpdir/check" || fail "$(cat "$tmpdir/check")"
"$builddir/blkcached" --foreground -c /etc/blkcached/blkcached.conf >"$tmpdir/again.log" 2>&1 &
daemon_pid=$!
guest_wait 60 blkcachectl_again status || fail "not served again: $(cat "$tmpdir/again.log")"
blkcachectl_again shutdown --flush >/dev/null || fail "shutdown: $(cat "$tmpdir/again.log")"
dd if=/dev/ram1 bs=1M count=4 iflag=direct status=none | cmp - "$tmpdir/data" || fail "the backing store has other data"

# ---- purged

package_do --purge blkcached
[ ! -e /etc/blkcached/blkcached.conf ] || fail "the configuration stays"
knows_unit && fail "the unit stays"
[ -d /var/lib/blkcached ] || fail "the state directory, where a flash file may be, is gone"
