#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A reload reads certificates and keys again and changes nbd.tls: who comes then gets the new ones, who is there
# keeps his; files that cannot be used change nothing.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/pki.sh"
requires_program python3 certtool psktool nbdinfo
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1
make_pki
pki=$tmpdir/pki

truncate -s 16M "$tmpdir/v"
format_flash 64M >/dev/null
configure() { # MODE [MORE]: of nbd.tls
    write_config "name = \"v\"; backing = \"$tmpdir/v\";"
    sed -i "s|^nbd *= *{|& tls = { mode = \"$1\"; certificates = \"$pki\"; ${2-} };|" "$config"
    grep -q 'tls = {' "$config" || fail "the configuration has no nbd section: $(cat "$config")"
}
clear_uri() { nbd_uri v; }
tls_uri() { echo "nbds+unix://${2-}/v?socket=$nbd_socket&tls-certificates=$1"; }

# The serial number of the certificate that is shown, and on request a connection that goes on for ever.
cat >"$tmpdir/client.py" <<'END'
import socket, ssl, sys, time
import nbdraw as n

path, authority, flag, told = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with n.Client(path).enter(b"v", tls=context) as c:
    print(c.socket.getpeercert()["serialNumber"], flush=True)
    if flag == "stay":
        while True:
            c.write(4096, b"x" * 8192)
            assert c.read(4096, 8192) == b"x" * 8192
            open(told, "a").write(".")
            time.sleep(0.02)
END
serial() { python3 "$tmpdir/client.py" "$nbd_socket" "$pki/ca-cert.pem" go "$tmpdir/none"; }
serial_of() { certtool --infile "$1" --certificate-info | sed -n 's/^.*Serial Number (hex): //p' | tr a-f A-F; }

configure on
start_daemon
first=$(serial)
[ "$first" = "$(serial_of "$pki/server-cert.pem")" ] || fail "it shows $first"
nbdinfo --size "$(clear_uri)" >/dev/null || fail "without TLS"
python3 "$tmpdir/client.py" "$nbd_socket" "$pki/ca-cert.pem" stay "$tmpdir/rounds" >/dev/null 2>"$tmpdir/client.log" &
client=$!
cleanup_fn end_process $client
wait_until 20 test -s "$tmpdir/rounds"
goes_on() {
    local before
    before=$(stat -c %s "$tmpdir/rounds")
    wait_until 20 eval "[ \"\$(stat -c %s '$tmpdir/rounds')\" -gt $((before + 1)) ]"
}

# ---- renewed

make_certificate server ca "$pki"
[ "$(serial)" = "$first" ] || fail "a new certificate without a reload"
blkcachectl reload >/dev/null || fail "reload"
second=$(serial)
[ "$second" = "$(serial_of "$pki/server-cert.pem")" ] && [ "$second" != "$first" ] || fail "it still shows $second"
goes_on

# ---- what cannot be used

cp "$pki/server-key.pem" "$tmpdir/kept.pem"
for wrong in 'echo nonsense' 'cat '"$pki/ca-key.pem"; do # the latter is a key, of another certificate
    $wrong >"$pki/server-key.pem"
    blkcachectl_fails 1 "TLS: $pki/server-cert.pem: " reload
    [ "$(serial)" = "$second" ] || fail "a refused reload changes the certificate"
done
rm "$pki/server-key.pem"
blkcachectl_fails 1 "TLS: $pki/server-key.pem: cannot be read" reload
[ "$(serial)" = "$second" ] || fail "a refused reload changes the certificate"
mv "$tmpdir/kept.pem" "$pki/server-key.pem"
goes_on

# ---- other modes

configure require 'verify_clients = true;'
blkcachectl reload >/dev/null || fail "reload"
nbdinfo --size "$(clear_uri)" >/dev/null 2>&1 && fail "TLS is not required"
nbdinfo --size "$(tls_uri "$pki/alone")" >/dev/null 2>&1 && fail "no certificate of clients is required"
nbdinfo --size "$(tls_uri "$pki")" >/dev/null || fail "a client's certificate"
goes_on
configure on "psk = \"$pki/keys.psk\";"
blkcachectl reload >/dev/null || fail "reload"
nbdinfo --size "nbds+unix://alice@/v?socket=$nbd_socket&tls-psk-file=$pki/keys.psk" >/dev/null || fail "a key"
configure off
blkcachectl reload >/dev/null || fail "reload"
nbdinfo --size "$(clear_uri)" >/dev/null || fail "without TLS"
nbdinfo --size "$(tls_uri "$pki/alone")" >/dev/null 2>&1 && fail "TLS is not off"
goes_on # as it came
end_process $client || :
[ ! -s "$tmpdir/client.log" ] || grep -q KeyboardInterrupt "$tmpdir/client.log" || fail "$(cat "$tmpdir/client.log")"
stop_daemon
