#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients of the control socket that do not care cost themselves only.
. "$srcdir/tests/functions.sh"
requires_program python3
requires_built blkcached blkcachectl
requires_free_space 100

truncate -s 16M "$tmpdir/a"
format_flash 32M >/dev/null
write_config "name = \"a\"; backing = \"$tmpdir/a\";"
start_daemon

python3 - "$control_socket" <<'PYTHON' || fail "a hostile client was not answered as it should be"
import json, random, socket, sys

path = sys.argv[1]

def connect():
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.settimeout(10)
    return client

def receive(client):
    data = b""
    while not data.endswith(b"\n"):
        more = client.recv(65536)
        if not more:
            return None
        data += more
    return json.loads(data)

def ask(line):
    client = connect()
    client.sendall(line)
    return receive(client)

def refused(line, why):
    reply = ask(line)
    assert reply is not None, line[:80]
    assert reply["ok"] is False and why in reply["error"]["why"], (line[:80], reply)

refused(b"\n", "no JSON object")
refused(b"hello\n", "no JSON object")
refused(b"[]\n", "no JSON object")
refused(b"{\n", "no JSON object")
refused(b"\x00\xff\xfe\n", "no JSON object")
refused(b'{"verb": "a", "verb": "b"}\n', "no JSON object")
refused(b"[" * 5000 + b"\n", "no JSON object")
refused(b"{}\n", "no verb")
refused(b'{"verb": 3}\n', "no verb")
refused(b'{"verb": "bogus"}\n', "not available")
refused(b'{"verb": "flush", "volume": 3}\n', "no such volume")
refused(b'{"verb": "flush", "volume": ""}\n', "no such volume")
refused(b'{"verb": "stats", "volume": "' + b"x" * 60000 + b'"}\n', "no such volume")

# Too long, in one piece and without an end.
client = connect()
client.sendall(b"x" * 65536)
assert "too long" in receive(client)["error"]["why"]
assert client.recv(1) == b""

# In pieces, several at once, and gone without reading.
client = connect()
for byte in b'{"verb": "volumes"}\n':
    client.sendall(bytes([byte]))
assert receive(client)["ok"]
client.sendall(b'{"verb": "volumes"}\n' * 3)
replies = b""
while replies.count(b"\n") < 3:
    replies += client.recv(65536)
for _ in range(50):
    client = connect()
    client.sendall(b'{"verb": "status"}\n' * 100)
    client.close()
random.seed(1)
for _ in range(200):
    client = connect()
    client.sendall(random.randbytes(random.randrange(2000)) + b"\n")
    client.close()

# One that asks and never reads, and more idle ones than there are places, but for one.
greedy = connect()
greedy.setblocking(False)
try:
    while True:
        greedy.send(b'{"verb": "status"}\n' * 100)
except BlockingIOError:
    pass
idle = [connect() for _ in range(13)]
assert ask(b'{"verb": "volumes"}\n')["ok"]
PYTHON
blkcachectl status >/dev/null || fail "an honest client is not served"
stop_daemon
