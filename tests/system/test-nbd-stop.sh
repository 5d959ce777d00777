#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stop answers what is in flight, and waits neither for clients that take
# nothing nor for those that do not finish their handshake.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
requires_program python3
requires_built tests/system/nbd-memory-server
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

start_memory_server --cores 2 --delay 500000
python3 - "$tmpdir/memory.sock" "$memory_pid" <<'END'
import os, signal, sys, time
import nbdraw as n

path, pid = sys.argv[1], int(sys.argv[2])
clients = [n.Client(path).enter(b"memory") for _ in range(4)]
silent = [n.Client(path) for _ in range(4)]
for c in clients:
    c.start(n.WRITE, 0, 4096, data=b"w" * 4096)
    for i in range(20):
        c.start(n.READ, i * 4096, 4096)
    # A request that is not complete is not waited for.
    c.send(n.request(n.WRITE, 99, 0, 100000) + b"incomplete")
time.sleep(0.2)
begin = time.monotonic()
os.kill(pid, signal.SIGTERM)
for c in clients:
    assert sorted(c.reply()[0] for _ in range(21)) == list(range(1, 22))
    c.expect_close()
for c in silent:
    try:
        c.receive(18)
        c.expect_close()
    except n.Closed:
        pass
assert time.monotonic() - begin < 3, "it took too long"
END
wait "$memory_pid" || fail "status $?"
expect_counter connections_open 0

# Requests that are here but were not begun are refused, and that is said.
start_memory_server --requests 4 --delay 500000
python3 - "$tmpdir/memory.sock" "$memory_pid" <<'END'
import os, signal, sys, time
import nbdraw as n

path, pid = sys.argv[1], int(sys.argv[2])
c = n.Client(path).enter(b"memory", n.STRUCTURED)
for i in range(40):
    c.start(n.READ, i * 4096, 4096)
time.sleep(0.2)
os.kill(pid, signal.SIGTERM)
errors = [c.reply()[1] for _ in range(40)]
# Those that were under way when the signal came, or before.
assert set(errors) == {0, n.ESHUTDOWN} and errors.count(0) % 4 == 0, errors
c.expect_close()
END
wait "$memory_pid" || fail "status $?"
expect_counter connections_open 0

# Those that have arrived, and for which there is room, are carried out: an error would reach
# whoever waits for the kernel's block device, which can send again what was not answered.
for _ in 1 2 3 4; do
    start_memory_server --cores 2
    python3 - "$tmpdir/memory.sock" "$memory_pid" <<'END'
import os, signal, sys
import nbdraw as n

path, pid = sys.argv[1], int(sys.argv[2])
clients = [n.Client(path).enter(b"memory") for _ in range(8)]
for c in clients:
    c.read(0, 4096)
os.kill(pid, signal.SIGSTOP)
for c in clients:
    for i in range(20):
        c.start(n.READ, i * 4096, 4096)
os.kill(pid, signal.SIGTERM)
os.kill(pid, signal.SIGCONT)
for c in clients:
    assert [c.reply()[1] for _ in range(20)] == [0] * 20
    c.expect_close()
END
    wait "$memory_pid" || fail "status $?"
    expect_counter connections_open 0
done

# A client that negotiates is told, whatever it asks for, and has a second to say goodbye.
start_memory_server
python3 - "$tmpdir/memory.sock" "$memory_pid" <<'END'
import os, signal, sys, time
import nbdraw as n

path, pid = sys.argv[1], int(sys.argv[2])
clients = [n.Client(path) for _ in range(4)]
for c in clients:
    c.greet()
    assert c.option_replies(n.STRUCTURED_REPLY) == [(n.REP_ACK, b"")]
polite, named, rude, silent = clients
bystander = n.Client(path)  # says nothing, and is hung up on at once
bystander.receive(18)
begun = n.Client(path)  # in the middle of an option
begun.greet()
begun.send(n.option(n.GO, n.go_data(b"memory"))[:20])
time.sleep(0.2)
begin = time.monotonic()
os.kill(pid, signal.SIGTERM)
bystander.expect_close()
for number, data in (n.LIST, b""), (n.INFO, n.go_data(b"memory")), (n.GO, n.go_data(b"memory")), (77, b""):
    ((kind, text),) = polite.option_replies(number, data)
    assert kind == n.ERR_SHUTDOWN and b"shutting down" in text, (number, kind)
assert polite.option_replies(n.ABORT) == [(n.REP_ACK, b"")]
polite.expect_close()
begun.send(n.option(n.GO, n.go_data(b"memory"))[20:])
assert begun.option_reply(n.GO)[0] == n.ERR_SHUTDOWN
named.send(n.option(n.EXPORT_NAME, b"memory"))  # has no way to say no
named.expect_close()
rude.send(n.option(n.GO, n.go_data(b"memory")))
assert rude.option_reply(n.GO)[0] == n.ERR_SHUTDOWN
for c in rude, silent, begun:
    c.expect_close()
assert 0.9 < time.monotonic() - begin < 4, time.monotonic() - begin
END
wait "$memory_pid" || fail "status $?"
expect_counter connections_open 0
expect_counter handshakes_failed 0
expect_counter handshake_timeouts 0

# A client that takes nothing is dropped after some seconds.
start_memory_server
python3 - "$tmpdir/memory.sock" "$memory_pid" <<'END'
import os, signal, sys, time
import nbdraw as n

path, pid = sys.argv[1], int(sys.argv[2])
c = n.Client(path).enter(b"memory")
for i in range(100):
    c.start(n.READ, 0, 1 << 20)
time.sleep(0.2)
os.kill(pid, signal.SIGTERM)
for _ in range(150):
    time.sleep(0.1)
    if not os.path.exists(f"/proc/{pid}"):
        sys.exit(0)
sys.exit("the server waits for a client that takes nothing")
END
wait "$memory_pid" || fail "status $?"
expect_counter connections_open 0

# Handshakes have a limit in time.
start_memory_server --timeout 2000
python3 - "$tmpdir/memory.sock" <<'END'
import sys, time
import nbdraw as n

with n.Client(sys.argv[1]).enter(b"memory") as entered:
    begin = time.monotonic()
    clients = [n.Client(sys.argv[1]) for _ in range(4)]
    talks = (b"", b"\0\0\0\3", b"\0\0\0\3IHAVEOPT", b"\0\0\0\3" + n.option(n.LIST, length=1 << 31))
    for c, talk in zip(clients, talks):
        c.send(talk)
    for c in clients:
        c.receive(18)
        c.expect_close()
    assert 1.9 < time.monotonic() - begin < 9  # the default is ten seconds
    time.sleep(1)  # not a limit of what comes after it
    entered.read(0, 1)
END
stop_memory_server
expect_counter handshakes_failed 4
