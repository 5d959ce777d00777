# SPDX-License-Identifier: Apache-2.0
# Helpers for tests under a real systemd in the guest, behind tests/functions.sh. What is installed is
# gone with the guest.
# shellcheck shell=bash

# systemd_install: programs, unit, socket and group, where systemd looks.
systemd_install() {
    install -m 755 "$builddir/blkcached" "$builddir/blkcachectl" /usr/sbin/
    sed -e 's|@sbindir@|/usr/sbin|g' -e 's|@sysconfdir@|/etc|g' "$srcdir/systemd/blkcached.service.in" \
        >/etc/systemd/system/blkcached.service
    cp "$srcdir/systemd/blkcached.socket" /etc/systemd/system/
    mkdir -p /etc/blkcached
    systemd-sysusers "$srcdir/systemd/sysusers/blkcached.conf"
}

# systemd_begin: systemd as process 1 of a namespace of its own, with nothing of what a machine does when it
# starts: only the unit counts.  Without udev it would wait for devices that nobody announces: with
# /sys read-only, as in a container, it does not.
systemd_begin() {
    local unit
    [ -x /usr/lib/systemd/systemd ] || skip "systemd"
    requires_program unshare nsenter
    # The host may be a container; this is none, or fstab would not count.
    rm -f /.dockerenv /run/.containerenv
    mkdir -p /run/systemd/system /etc/systemd/system-generators
    for unit in /usr/lib/systemd/system-generators/*; do
        [ "${unit##*/}" = systemd-fstab-generator ] || ln -sf /dev/null "/etc/systemd/system-generators/${unit##*/}"
    done
    for unit in /usr/lib/systemd/system/{sysinit,basic,local-fs,network-online}.target.wants/* \
        /etc/systemd/system/{sysinit,basic,sockets,network-online}.target.wants/*; do
        ln -sf /dev/null "/etc/systemd/system/${unit##*/}"
    done
    printf '[Unit]\nDescription=nothing but the unit under test\n' >/etc/systemd/system/test.target
    # There is no journal: what the daemon says goes where failed tests show it.
    mkdir -p /etc/systemd/system/blkcached.service.d
    printf '[Service]\nStandardError=append:%s\n' "$daemon_log" >/etc/systemd/system/blkcached.service.d/log.conf
    mount --make-rshared / # what systemd mounts is seen by the test, and the other way round
    mount -o remount,ro /sys
    env -i PATH="$PATH" unshare --pid --mount --fork --mount-proc --propagation shared \
        /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=info >"$tmpdir/systemd.log" 2>&1 &
    systemd_manager=$!
    cleanup_fn kill -KILL $systemd_manager
    guest_wait 120 test -S /run/systemd/private || fail "systemd does not start: $(cat "$tmpdir/systemd.log")"
    # It has looked at /sys when it has loaded its first unit.
    guest_wait 60 inside systemctl is-active --quiet test.target || fail "systemd does not get to its target"
    mount -o remount,rw /sys
    inside mount -o remount,rw /sys # each mount has a flag of its own
    cleanup_fn timeout 30 nsenter --target "$(systemd_pid)" --mount --pid -- systemctl stop blkcached.socket blkcached.service
}

# The namespace's process 1 is unshare's only child.
systemd_pid() { pgrep -P $systemd_manager | head -n 1; }

inside() { nsenter --target "$(systemd_pid)" --mount --pid -- "$@"; }
systemctl() { inside systemctl "$@"; }

# state PROPERTY: of the service.
state() { systemctl show -p "$1" --value blkcached.service; }

# journal: what there is to read of a failure.
journal() {
    tail -n 20 "$daemon_log"
    systemctl status blkcached.service --no-pager || :
}
