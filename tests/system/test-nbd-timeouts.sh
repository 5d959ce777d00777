#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients that do nothing, do not take their replies, or do not send what they
# began are dropped in time, each kind is counted, and who goes on is served.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
requires_program python3 jq
requires_built tests/system/nbd-memory-server blkcached blkcachectl
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

start_memory_server --cores 2 --idle 3000
python3 - "$tmpdir/memory.sock" <<'END'
import sys, time
import nbdraw as n

idle = [n.Client(sys.argv[1]).enter(b"memory") for _ in range(3)]
busy = n.Client(sys.argv[1]).enter(b"memory")
for c in idle:
    c.socket.settimeout(0.05)
end = time.monotonic() + 60
while idle:
    assert time.monotonic() < end, "idle clients are not dropped"
    busy.read(0, 512)
    try:
        idle[0].expect_close()
        idle.pop(0)
    except TimeoutError:
        pass
busy.read(0, 512)
END
stop_memory_server
expect_counter idle_timeouts 3

# The default is to wait for ever.
tcp=tcp:127.0.0.1:$(free_port)
start_memory_server --send 3000 --receive 3000 "$tcp"
python3 - "$tmpdir/memory.sock" "$tcp" <<'END'
import sys, time
import nbdraw as n

path, tcp = sys.argv[1:]
idle = n.Client(path).enter(b"memory")
greedy = n.Client(path).enter(b"memory")
for i in range(64):
    greedy.start(n.READ, 0, 1 << 20)
half = [n.Client(path).enter(b"memory") for _ in range(3)]
half[0].send(n.request(n.WRITE, 1, 0, 100000) + b"half of it")
half[1].send(n.request(n.WRITE, 1, 0, 100000))
half[2].send(n.request(n.WRITE, 1, 1 << 40, 100000) + b"refused, and not all of it")
# Slowly, but it goes on.
slow = n.Client(tcp).enter(b"memory")
slow.send(n.request(n.WRITE, 1, 0, 30))
for i in range(30):
    time.sleep(0.2)
    slow.send(b"s")
slow.lengths[1] = (n.WRITE, 0, 30)
assert slow.reply()[1] == 0
for c in half:
    c.socket.settimeout(30)
    try:
        while True:
            c.receive(1)
    except n.Closed:
        pass
try:
    while True:
        greedy.socket.settimeout(30)
        greedy.receive(1)
except n.Closed:
    pass
idle.read(0, 512)
END
stop_memory_server
expect_counter send_timeouts 1
expect_counter receive_timeouts 3
expect_counter idle_timeouts 0

# In the daemon, all limits are configured and told.
truncate -s 16M "$tmpdir/v.img"
format_flash 32M
nbd_settings='connections_max = 7; requests_max = 5; bytes_max = "128K"; handshake_timeout = "1s";
  idle_timeout = "5s"; send_timeout = "1m"; receive_timeout = 0;' \
    write_config "name = \"v\"; backing = \"$tmpdir/v.img\";"
start_daemon
blkcachectl --json stats >"$tmpdir/stats"
jq -e '.nbd.limits == {connections_max: 7, requests_max: 5, bytes_max: 131072, handshake_timeout_seconds: 1,
    idle_timeout_seconds: 5, send_timeout_seconds: 60, receive_timeout_seconds: null}' "$tmpdir/stats" ||
    fail "limits: $(cat "$tmpdir/stats")"
python3 - "$nbd_socket" <<'END'
import sys, time
import nbdraw as n

silent = n.Client(sys.argv[1])
with n.Client(sys.argv[1]).enter(b"v") as c:
    for i in range(20): # few enough for the socket, though the server takes them one by one
        c.start(n.READ, i * 4096, 100000)
    for i in range(20):
        assert c.reply()[1] == 0
    c.expect_close()
silent.receive(18)
silent.expect_close()
END
wait_for_clients 0
blkcachectl --json stats | jq -e '.nbd.counters | .idle_timeouts == 1 and .handshake_timeouts == 1 and
    .requests_in_flight == 0 and .bytes_in_flight == 0 and .connections_open == 0' || fail "counters"
blkcachectl stats | grep -q "requests at present" || fail "stats does not show the server"
stop_daemon
