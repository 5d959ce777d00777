# SPDX-License-Identifier: Apache-2.0
# Helpers for tests of ublk devices in the guest:
#     . "$srcdir/tests/vm/guest.sh"
#     guest_enter
#     . "$srcdir/tests/vm/ublk.sh"
# The flash is /dev/ram0, the backing stores are /dev/ram1 and up.
# shellcheck shell=bash
. "$srcdir/tests/functions.sh"
flash=/dev/ram0

# ublk_disks COUNT MEBIBYTES: the module, and RAM disks, the first one formatted.
ublk_disks() {
    guest_modprobe ublk_drv
    guest_brd "$1" "$2"
    "$builddir/blkcachectl" format "$flash" >/dev/null
}

# ublk_daemon: start blkcached with $config; ublk_serves waits until it serves.
ublk_daemon() {
    flash_used=yes
    rm -f "$nbd_socket" "$control_socket"
    "$builddir/blkcached" --foreground -c "$config" >>"$daemon_log" 2>&1 &
    daemon_pid=$!
    cleanup_fn end_process "$daemon_pid"
}

ublk_state() {
    blkcachectl --json status 2>/dev/null | jq -r ".volumes[${1:-0}].ublk.state"
}

# ublk_is STATE [INDEX OF THE VOLUME]
ublk_is() { [ "$(ublk_state "${2:-0}")" = "$1" ]; }

# ublk_start [VOLUMES]: the daemon, until that many volumes serve.
ublk_start() {
    local i
    ublk_daemon
    for ((i = 0; i < ${1:-1}; i++)); do
        wait_until 90 ublk_is serving "$i"
    done
    [ -b /dev/ublkb0 ] || fail "no /dev/ublkb0"
}

# ublk_crash: SIGKILL and a new daemon, which takes the device over.
ublk_crash() {
    kill_daemon
    ublk_start "$@"
}

# said TEXT: the daemon's log has it.
said() { grep -qF -- "$1" "$daemon_log"; }

# counter NAME: of the first volume's device.
counter() {
    blkcachectl --json status | jq ".volumes[0].ublk.counters.$1"
}
