# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Certificates and keys for tests of TLS, made with GnuTLS's tools.

# make_pki: $tmpdir/pki with a CA, certificates of a server (localhost) and of a
# client, one of another CA's client, and pre-shared keys.
make_pki() {
    local pki=$tmpdir/pki name
    mkdir -p "$pki" "$pki/stranger" "$pki/alone"
    for name in ca other; do
        certtool --generate-privkey --key-type ecdsa --outfile "$pki/$name-key.pem" 2>/dev/null
        printf 'cn = "%s of the tests"\nca\ncert_signing_key\nexpiration_days = 30\n' $name >"$pki/$name.info"
        certtool --generate-self-signed --load-privkey "$pki/$name-key.pem" \
            --template "$pki/$name.info" --outfile "$pki/$name-cert.pem" 2>/dev/null
    done
    printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nsigning_key\nexpiration_days = 30\n' \
        >"$pki/server.info"
    printf 'cn = somebody\ntls_www_client\nsigning_key\nexpiration_days = 30\n' >"$pki/client.info"
    make_certificate server ca "$pki"
    make_certificate client ca "$pki"
    make_certificate client other "$pki/stranger"
    cp "$pki/ca-cert.pem" "$pki/stranger/"
    cp "$pki/ca-cert.pem" "$pki/alone/"
    psktool --username alice --pskfile "$pki/keys.psk" >/dev/null 2>&1
    psktool --username mallory --pskfile "$pki/wrong.psk" >/dev/null 2>&1
}

# make_certificate NAME CA DIRECTORY: NAME-cert.pem and NAME-key.pem there.
make_certificate() {
    local pki=$tmpdir/pki
    certtool --generate-privkey --key-type ecdsa --outfile "$3/$1-key.pem" 2>/dev/null
    certtool --generate-certificate --load-privkey "$3/$1-key.pem" \
        --load-ca-certificate "$pki/$2-cert.pem" --load-ca-privkey "$pki/$2-key.pem" \
        --template "$pki/$1.info" --outfile "$3/$1-cert.pem" 2>/dev/null
}
