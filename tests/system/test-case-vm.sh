#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/cases.md as it is written: VM images behind NBD. A qemu boots from the
# image on the "share" through the cache, and writes to it.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/document.sh"
requires_program qemu-nbd qemu-img qemu-io qemu-system-x86_64 as ld jq
[ "$(uname -m)" = x86_64 ] || skip "a boot sector for $(uname -m)"
requires_free_space 500

root=$tmpdir/root
mkdir -p "$root"/{etc/blkcached,run/blkcached,var/lib/blkcached,srv/nfs,srv/ceph}
# shellcheck disable=SC2034 # of functions.sh
config=$root/etc/blkcached/blkcached.conf flash=$root/var/lib/blkcached/flash nbd_socket=$root/run/blkcached/nbd.sock
document_open docs/cases.md vm
document_root "$root"
document_replace 64G 128M
document_replace 'ram = "4G"' 'ram = "16M"'
# Where there is a /dev/kvm that does not work, qemu would not fall back.
document_replace accel=kvm:tcg accel=tcg
document_replace rbd:vms/vm2 "$root/srv/ceph/vm2.raw"

# What the commands are here: those of this build, and a daemon without systemd.
systemctl() {
    [ "$*" = "start blkcached" ] || fail "systemctl $*"
    start_daemon
}
blkcached() { "$builddir/blkcached" -c "$config" "$@"; }
qemu-system-x86_64() { # without the network, whose firmware takes seconds
    timeout 200 qemu-system-x86_64 -nographic -nic none "$@" >"$tmpdir/serial.log" </dev/null || fail "qemu: $?"
}

# ---- a disk that boots: copies its second sector to the fourth, turns the machine off

cat >"$tmpdir/boot.s" <<'END'
.code16
.globl _start
_start: xor %ax,%ax; mov %ax,%ds; mov %ax,%es; mov %ax,%ss; mov $0x7c00,%sp
        mov $read,%si; call disk
        mov $read,%si; movb $3,8(%si); mov $0x43,%ah; call disk_as
        mov $0x604,%dx; mov $0x2000,%ax; outw %ax,%dx
3:      hlt; jmp 3b
disk:   mov $0x42,%ah
disk_as: mov $0x80,%dl; mov $0,%al; int $0x13; jc 3b; ret
read:   .byte 16,0; .word 1; .word 0x7e00,0; .quad 1
.org 510
        .word 0xaa55
.ascii "the guest has booted"
.org 1024
END
as --32 -o "$tmpdir/boot.o" "$tmpdir/boot.s"
ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$tmpdir/boot" "$tmpdir/boot.o"
cp "$tmpdir/boot" "$root/srv/nfs/vm1.raw"
truncate -s 64M "$root/srv/nfs/vm1.raw" "$root/srv/ceph/vm2.raw"
{
    cat "$tmpdir/boot"
    head -c 12M /dev/urandom
} >"$tmpdir/golden"
truncate -s 64M "$tmpdir/golden"
qemu-img convert -f raw -O qcow2 "$tmpdir/golden" "$root/srv/golden.qcow2"

# ---- the document

document vm-start
cleanup_fn end_process "$(cat "$root/run/vm2.pid")"
# The defaults that need root.
printf 'daemon = { control = "%s"; state_dir = "%s"; metrics = ""; };\n' "$control_socket" "$root/var/lib/blkcached" >>"$config"
document vm-boot
blkcachectl flush vm1 --wait
dd if="$root/srv/nfs/vm1.raw" bs=512 skip=3 count=1 status=none | grep -qa "the guest has booted" || fail "the guest did not boot, or what it wrote is not in the image"
document vm-image >"$tmpdir/image"
grep -q "Images are identical" "$tmpdir/image" || fail "$(cat "$tmpdir/image")"
document vm-backup
qemu-img compare -f raw -F qcow2 "$tmpdir/golden" "$root/srv/vm2-backup.qcow2" >/dev/null || fail "the backup differs"
document vm-leave
document_done

# ---- the images are complete, and everything of them is where it was

[ "$(blkcachectl --json volumes | jq -r '[.volumes[].name] | join(" ")')" = vm2 ] || fail "vm1 is still there"
blkcachectl flush vm2 --wait
cmp "$root/srv/ceph/vm2.raw" "$tmpdir/golden" || fail "vm2"
stop_daemon
