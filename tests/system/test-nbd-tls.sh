#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# TLS: a server that offers it and one that requires it, certificates of both
# sides, pre-shared keys, versions, over Unix sockets and TCP; what was said
# before does not count; the whole catalogue of the bare client; broken clients.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
. "$srcdir/tests/system/pki.sh"
requires_program python3 certtool psktool nbdinfo nbdcopy qemu-img
requires_built tests/system/nbd-memory-server blkcached blkcachectl
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1
make_pki
pki=$tmpdir/pki
tcp_port=$(free_port)

# uri EXPORT PARAMETERS: over the Unix socket.
uri() { echo "nbds+unix:///$1?socket=$tmpdir/memory.sock&$2"; }
refused() { if "$@" >/dev/null 2>&1; then fail "not refused: $*"; fi; }

# ---- offered: with and without

start_memory_server --cores 2 --tls on --certificates "$pki" "tcp:127.0.0.1:$tcp_port"
nbdinfo --size "nbd+unix:///memory?socket=$tmpdir/memory.sock" >/dev/null || fail "without TLS"
nbdinfo --size "$(uri memory "tls-certificates=$pki/alone")" >/dev/null || fail "with TLS"
nbdinfo --size "nbds://localhost:$tcp_port/memory?tls-certificates=$pki/alone" >/dev/null || fail "over TCP"
refused nbdinfo --size "nbds://alice@localhost:$tcp_port/memory?tls-psk-file=$pki/keys.psk"
python3 - "$tmpdir/memory.sock" "$pki/ca-cert.pem" <<'END'
import socket, ssl, struct, sys
import nbdraw as n

path, authority = sys.argv[1:]


def context(version):
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = version
    return context


# The versions that the document wants, and none of the others.
for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
    with n.Client(path).enter(b"memory", n.EXTENDED, tls=context(version)) as c:
        assert c.socket.version() == name
        data = bytes(range(256)) * 40000
        c.write(4097, data)
        assert c.read(4097, len(data)) == data
        c.start(n.DISC)
        assert c.socket.recv(1) == b"", "the server ends TLS before it hangs up"
with n.Client(path) as c:
    c.greet()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        c.start_tls(old)
        assert False, "TLS 1.1 was accepted"
    except OSError:
        pass

# What was negotiated in the clear is forgotten.
with n.Client(path) as c:
    c.greet()
    assert c.option_replies(n.STRUCTURED_REPLY) == [(n.REP_ACK, b"")]
    assert len(c.set_contexts(b"memory", (b"base:allocation",))) == 1
    c.start_tls(context(ssl.TLSVersion.TLSv1_3))
    assert c.option_replies(n.STARTTLS)[-1][0] == n.ERR_INVALID
    replies = c.option_replies(n.GO, n.go_data(b"memory"))
    assert not struct.unpack(">HQH", replies[0][1])[2] & 0x80, "DF, without structured replies"
    assert c.call(n.READ, 0, 512)[0] == 0

# What is said in the clear behind STARTTLS is not taken for something said in secret.
with n.Client(path) as c:
    c.greet()
    c.send(n.option(n.STARTTLS) + n.option(n.STRUCTURED_REPLY))
    assert c.option_reply(n.STARTTLS) == (n.REP_ACK, b"")
    try:
        while True:
            c.receive(1)
    except n.Closed:
        pass

# Garbage instead of TLS, and a client that hangs up, or stalls, in the middle of it.
for garbage in (b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n", bytes(100000)):
    with n.Client(path) as c:
        c.greet()
        c.send(n.option(n.STARTTLS))
        c.option_reply(n.STARTTLS)
        c.send(garbage)
with n.Client(path).enter(b"memory", tls=context(ssl.TLSVersion.TLSv1_3)) as c:
    for i in range(30):
        c.start(n.READ, 0, 1 << 20)
    raw = c.socket.detach()
    with socket.socket(fileno=raw) as s:
        s.settimeout(30)
        s.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that was tampered with
        while s.recv(1 << 20):
            pass
END
stop_memory_server
expect_counter connections_open 0
expect_counter tls_handshakes 6
[ "$(awk '$1 == "tls_failures" { print $2 }' "$tmpdir/memory.counters")" -ge 6 ] || fail "failures are not counted"

# ---- the catalogue, over TLS

start_memory_server --cores 2 --tls on --certificates "$pki" --delay 100
# But for what needs a socket without TLS, or one that two threads may use.
mapfile -t tests < <(sed -n 's/^def \(test_[a-z0-9_]*\).*/\1/p' "$srcdir/tests/system/nbd-protocol.py" |
    grep -v -E 'errors_leave|pipelined_mix|half_closed|truncated_write|does_not_read|come_and_go|garbage')
TLS=1 python3 "$srcdir/tests/system/nbd-protocol.py" "$tmpdir/memory.sock" memory read-only broken "${tests[@]}" ||
    fail "over TLS"
stop_memory_server

# ---- required, with certificates of clients, and keys

start_memory_server --tls require --certificates "$pki" --psk "$pki/keys.psk" --verify "tcp:127.0.0.1:$tcp_port"
refused nbdinfo --size "nbd+unix:///memory?socket=$tmpdir/memory.sock"
refused nbdinfo --size "$(uri memory "tls-certificates=$pki/alone")"
refused nbdinfo --size "$(uri memory "tls-certificates=$pki/stranger")"
nbdinfo --size "$(uri memory "tls-certificates=$pki")" >/dev/null || fail "a client's certificate"
for where in "nbds://alice@localhost:$tcp_port/memory?" "nbds+unix://alice@/memory?socket=$tmpdir/memory.sock&"; do
    nbdinfo --size "${where}tls-psk-file=$pki/keys.psk" >/dev/null || fail "a key: $where"
    refused nbdinfo --size "${where/alice/mallory}tls-psk-file=$pki/wrong.psk"
done
head -c 40M /dev/urandom >"$tmpdir/original"
nbdcopy --flush --requests=128 "$tmpdir/original" "$(uri memory "tls-certificates=$pki")"
nbdcopy "nbds://alice@localhost:$tcp_port/memory?tls-psk-file=$pki/keys.psk" "$tmpdir/copy"
cmp -n 41943040 "$tmpdir/original" "$tmpdir/copy" || fail "nbdcopy over TLS"
mkdir "$tmpdir/qemu-psk"
cp "$pki/keys.psk" "$tmpdir/qemu-psk/keys.psk"
truncate -s 64M "$tmpdir/original"
for credentials in "tls-creds-x509,id=t,endpoint=client,dir=$pki" \
    "tls-creds-psk,id=t,endpoint=client,dir=$tmpdir/qemu-psk,username=alice"; do
    qemu-img compare --object "$credentials" --image-opts "driver=raw,file.filename=$tmpdir/original" \
        "driver=nbd,host=localhost,port=$tcp_port,export=memory,tls-creds=t" || fail "qemu-img with $credentials"
done
python3 - "$tmpdir/memory.sock" <<'END'
import sys
import nbdraw as n

with n.Client(sys.argv[1]) as c:
    c.greet()
    for number in (n.LIST, n.INFO, n.GO, n.STRUCTURED_REPLY, n.EXTENDED_HEADERS, 4, 12345):
        assert c.option_replies(number)[-1][0] == n.ERR_TLS_REQD
    assert c.option_replies(n.ABORT) == [(n.REP_ACK, b"")]
    c.expect_close()
with n.Client(sys.argv[1]) as c:
    c.greet()
    c.send(n.option(n.EXPORT_NAME, b"memory"))
    c.expect_close()
END
stop_memory_server

# ---- the daemon

truncate -s 16M "$tmpdir/v.img"
format_flash 32M
nbd_settings="tls = { mode = \"require\"; certificates = \"$pki\"; verify_clients = true; };" \
    write_config "name = \"v\"; backing = \"$tmpdir/v.img\"; mode = \"write-back\";"
start_daemon
head -c 16M "$tmpdir/original" >"$tmpdir/small"
nbdcopy --flush "$tmpdir/small" "nbds+unix:///v?socket=$nbd_socket&tls-certificates=$pki"
nbdcopy "nbds+unix:///v?socket=$nbd_socket&tls-certificates=$pki" "$tmpdir/copy"
cmp "$tmpdir/small" "$tmpdir/copy" || fail "the daemon over TLS"
refused nbdinfo --size "$(nbd_uri v)"
stop_daemon
sed -i "s|certificates = .*pki\"|certificates = \"$tmpdir/nowhere\"|" "$config"
if "$builddir/blkcached" --foreground -c "$config" >"$tmpdir/refused.log" 2>&1; then fail "no certificates"; fi
grep -q "nowhere/server-cert.pem: cannot be read" "$tmpdir/refused.log" || fail "it does not say why"
