#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/cases.md as it is written, under systemd: a database, then a whole file
# system, on slow disks, through ublk.
. "$srcdir/tests/vm/guest.sh"
guest_enter --memory 1536
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/document.sh"
. "$srcdir/tests/vm/systemd.sh"
requires_program sqlite3 mkfs.ext4 e2fsck fsfreeze jq

# Three disks of their own, 2 ms for each request: sda for what is restored, sdb, sdc.
guest_modprobe sd_mod
guest_modprobe scsi_debug dev_size_mb=48 add_host=3 per_host_store=1 ndelay=2000000
guest_wait 30 test -b /dev/sdc || fail "no /dev/sdc"
guest_brd 1 96
mknod /dev/nvme0n1p3 b "$((0x$(stat -c %t /dev/ram0)))" "$((0x$(stat -c %T /dev/ram0)))"
for name in db data; do
    mkdir -p /srv/$name
    mkfs.ext4 -q "/dev/sd$([ $name = db ] && echo b || echo c)"
done
: >/etc/fstab

systemd_install
systemd_begin
blkcachectl() { /usr/sbin/blkcachectl "$@"; }
settled() { [ "$(blkcachectl --json status | jq -r '.volumes[0].ublk.state')" = serving ]; }

# ---- the database

mount /dev/sdb /srv/db
sqlite3 /srv/db/orders.db 'CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT);
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO orders SELECT i, hex(randomblob(32)) FROM n'

document_open docs/cases.md db
document_replace 'ram = "1G"' 'ram = "16M"'
document db-start
document db-mount >"$tmpdir/mount.log"
grep -qx ok "$tmpdir/mount.log" || fail "integrity: $(cat "$tmpdir/mount.log")"
mount /dev/sdb /mnt 2>/dev/null && fail "/dev/sdb can be mounted beside the cache"

# Orders come while the daemon is restarted and killed: each that was committed is there.
(for ((i = 20001; ; i++)); do
    sqlite3 -cmd '.timeout 60000' /srv/db/orders.db "INSERT INTO orders VALUES ($i, 'new')" && echo $i >"$tmpdir/committed"
    [ ! -e "$tmpdir/enough" ] || exit 0
done) >/dev/null 2>"$tmpdir/orders.log" &
orders=$!
guest_wait 60 test -s "$tmpdir/committed" || fail "no order: $(cat "$tmpdir/orders.log")"
more() {  # until there are orders that came after this
    local last
    last=$(cat "$tmpdir/committed")
    guest_wait 120 eval "[ \$(cat $tmpdir/committed) -gt $((last + 2)) ]" || fail "orders stopped: $(cat "$tmpdir/orders.log") $(journal)"
}
more
document db-restart
more
restarts=$(state NRestarts)
kill -KILL "$(pgrep -x blkcached)"
guest_wait 60 eval '[ "$(state NRestarts)" -gt '"$restarts"' ]' || fail "not restarted: $(journal)"
more
touch "$tmpdir/enough"
wait $orders
grep -q . "$tmpdir/orders.log" && fail "$(cat "$tmpdir/orders.log")"
# Nobody can use a volume that goes before the daemon serves again.
guest_wait 60 settled || fail "$(journal)"

document db-leave
document_done
[ "$(sqlite3 /srv/db/orders.db 'PRAGMA integrity_check; SELECT max(id), count(*) FROM orders')" = \
    "ok"$'\n'"$(cat "$tmpdir/committed")|$(cat "$tmpdir/committed")" ] || fail "orders are missing on /dev/sdb"
umount /srv/db
e2fsck -fn /dev/sdb >"$tmpdir/fsck" || fail "$(cat "$tmpdir/fsck")"

# ---- the whole file system

mount /dev/sdc /srv/data
head -c 6M /dev/urandom >/srv/data/old
document_open docs/cases.md fs
document_replace 'ram = "1G"' 'ram = "16M"'
document fs-start
findmnt -n -o SOURCE /srv/data | grep -qx /dev/ublkb0 || fail "mounted: $(findmnt /srv/data)"
for i in {1..40}; do head -c 100K /dev/urandom >/srv/data/new$i; done
(cd /srv/data && sha256sum old new* >"$tmpdir/sums")
document fs-backup
dd if=/srv/backup.img of=/dev/sda bs=1M oflag=direct status=none
mount -o ro /dev/sda /mnt
(cd /mnt && sha256sum --quiet -c "$tmpdir/sums") || fail "the backup differs"
umount /mnt

# As at boot: the mount brings the daemon; at shutdown the daemon stops after it.
systemctl stop blkcached.service
findmnt /srv/data >/dev/null && fail "blkcached stops before what needs it"
systemctl start srv-data.mount
[ "$(state ActiveState)" = active ] || fail "the mount does not bring the daemon: $(journal)"
(cd /srv/data && sha256sum --quiet -c "$tmpdir/sums") || fail "after a restart"
echo last >/srv/data/last
document fs-leave
document_done
findmnt -n -o SOURCE /srv/data | grep -qx /dev/sdc || fail "mounted: $(findmnt /srv/data)"
(cd /srv/data && sha256sum --quiet -c "$tmpdir/sums" && grep -qx last last) || fail "/dev/sdc differs"
umount /srv/data
e2fsck -fn /dev/sdc >"$tmpdir/fsck" || fail "$(cat "$tmpdir/fsck")"
systemctl stop blkcached.service
/usr/sbin/blkcachectl check /dev/ram0 >/dev/null || fail "check"
