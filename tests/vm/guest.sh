# SPDX-License-Identifier: Apache-2.0
# Helpers for scripts that run in the guest:  . "$GUEST_LIB"
# A test of "make check-vm" begins on the host, and goes on in the guest:
#     . "$srcdir/tests/vm/guest.sh"
#     guest_enter --memory 1024
#
# Nothing in there runs udev: device-mapper nodes are /dev/dm-N, and a node
# may show up a moment after its device.
# shellcheck shell=bash

# guest_enter [OPTION OF run-guest]...: runs the calling script in the guest,
# from its beginning, and ends with its exit code; in the guest, does nothing.
guest_enter() {
    [ -z "${GUEST_LIB-}" ] || return 0
    exec "$srcdir/tests/vm/run-guest" --env srcdir --env builddir --env SANITIZER \
        --env ASAN_OPTIONS --env UBSAN_OPTIONS --env TSAN_OPTIONS "$@" /bin/bash "$0"
}

guest_die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# guest_skip WHY: the test cannot run here.
guest_skip() {
    printf 'SKIP: %s\n' "$*" >&2
    exit 77
}

# guest_needs PROGRAM [PACKAGE]
guest_needs() {
    command -v "$1" >/dev/null || guest_skip "no $1 (package ${2:-$1})"
}

# guest_modprobe MODULE [PARAMETER=VALUE]...
guest_modprobe() {
    modprobe "$@" || guest_die "cannot load module $1"
}

# guest_wait SECONDS COMMAND...: repeats COMMAND until it succeeds.
guest_wait() {
    local end=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# guest_brd COUNT MEBIBYTES: RAM disks /dev/ram0 to /dev/ram(COUNT-1), of that
# size each.  Their memory is taken when written and kept until guest_brd_free.
guest_brd() {
    guest_modprobe brd rd_nr="$1" rd_size="$(($2 * 1024))" max_part=0
    guest_wait 60 test -b "/dev/ram$(($1 - 1))" || guest_die "no /dev/ram$(($1 - 1))"
}

guest_brd_free() {
    rmmod brd
}
