#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sockets that a service manager passes, and one client on standard input and
# output: as a socket, which is how libnbd starts a server, and as pipes.
. "$srcdir/tests/functions.sh"
requires_program python3 nbdinfo nbdcopy
requires_built blkcached blkcachectl
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

truncate -s 16M "$tmpdir/v.img"
format_flash 32M
write_config "name = \"v\"; backing = \"$tmpdir/v.img\"; mode = \"write-back\";"
flash_used=yes
head -c 16M /dev/urandom >"$tmpdir/original"

# refused TEXT: the daemon said so in refused.log, and nothing worse.
refused() {
    grep -q "$1" "$tmpdir/refused.log" || fail "$(cat "$tmpdir/refused.log")"
    if grep "Sanitizer" "$tmpdir/refused.log"; then
        fail "$(cat "$tmpdir/refused.log")"
    fi
}

# ---- LISTEN_FDS: a Unix socket and a TCP one, not blocking, as systemd makes them

cat >"$tmpdir/activate.py" <<'END'
"""activate.py SOCKET COMMAND...: runs it with two sockets that listen; prints the port."""
import os, socket, sys

unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
tcp = socket.create_server(("127.0.0.1", 0))
for number, one in enumerate((unix, tcp), 3):
    one.listen(16)
    one.setblocking(False)
with open(sys.argv[1] + ".port", "w") as port:
    print(tcp.getsockname()[1], file=port)
first, second = os.dup(unix.fileno()), os.dup(tcp.fileno())
os.dup2(first, 3)
os.dup2(second, 4)
os.set_inheritable(3, True)
os.set_inheritable(4, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.argv[2], sys.argv[2:])
END
python3 "$tmpdir/activate.py" "$tmpdir/active.sock" "$builddir/blkcached" --foreground -c "$config" \
    >>"$daemon_log" 2>&1 &
daemon_pid=$!
cleanup_fn end_process "$daemon_pid"
# The socket takes clients before the daemon does.
wait_for_socket "$tmpdir/active.sock" "$daemon_pid"
nbdcopy --flush "$tmpdir/original" "nbd+unix:///v?socket=$tmpdir/active.sock"
nbdcopy "nbd://127.0.0.1:$(cat "$tmpdir/active.sock.port")/v" "$tmpdir/copy"
cmp "$tmpdir/original" "$tmpdir/copy" || fail "through a socket that was passed"
[ ! -e "$nbd_socket" ] || fail "it listens on the configured socket, too"
blkcachectl status | grep -q -F "unix:$tmpdir/active.sock, tcp:127.0.0.1:" || fail "status does not show the addresses"
stop_daemon
[ -S "$tmpdir/active.sock" ] || fail "it removed a socket that is not its own"

# What is passed must be a socket that listens.
if python3 - "$builddir/blkcached" "$config" 2>"$tmpdir/refused.log" <<'END'
import os, sys
file = os.open("/dev/null", os.O_RDONLY)
os.dup2(file, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[1], [sys.argv[1], "--foreground", "-c", sys.argv[2]])
END
then fail "it listens on /dev/null"; fi
refused "no socket that listens"

# libnbd's tools start a server in this way.
server=("$builddir/blkcached" --foreground -c "$config")
nbdcopy -- [ "${server[@]}" ] "$tmpdir/copy" 2>"$tmpdir/single.log"
cmp "$tmpdir/original" "$tmpdir/copy" || fail "started by nbdcopy"
nbdinfo --size -- [ "${server[@]}" ] 2>>"$tmpdir/single.log" | grep -q -x 16777216 || fail "started by nbdinfo"
if nbdinfo --size -- [ "${server[@]}" --single ] 2>"$tmpdir/refused.log"; then fail "both ways at once"; fi
refused "single is not possible"

# ---- one client on standard input and output

single=("$builddir/blkcached" --single -c "$config")
python3 - "${single[@]}" <<'END' 2>>"$tmpdir/single.log" || fail "on a socket: $(tail -n 20 "$tmpdir/single.log")"
import socket, subprocess, sys
import nbdraw as n

ours, theirs = socket.socketpair()
theirs.setblocking(False)
server = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs)
theirs.close()
c = n.Client.__new__(n.Client)
c.socket, c.lengths, c.style, c.cookie, c.peeked = ours, {}, n.SIMPLE, 0, b""
c.enter(b"v", n.STRUCTURED)
c.write(0, b"single" * 1000, n.FUA)
assert c.read(0, 6000) == b"single" * 1000
assert server.poll() is None
c.start(n.DISC)
c.expect_close()
assert server.wait(30) == 0
END

# Through pipes; the daemon stops when its client has gone, and not before.
python3 - "${single[@]}" <<'END' 2>>"$tmpdir/single.log" || fail "through pipes: $(tail -n 20 "$tmpdir/single.log")"
import socket, subprocess, sys, threading
import nbdraw as n

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class Pipes:
    def sendall(self, data):
        server.stdin.write(data)
        server.stdin.flush()

    def recv(self, count):
        return server.stdout.read1(count)


c = n.Client.__new__(n.Client)
c.socket, c.lengths, c.style, c.cookie, c.peeked = Pipes(), {}, n.SIMPLE, 0, b""
c.enter(b"v", n.EXTENDED)
assert server.poll() is None
data = bytes(range(256)) * 20000
c.write(12345, data)
assert c.read(12345, len(data)) == data
for i in range(64):
    c.start(n.READ, 0, 1 << 17)
c.start(n.DISC)
for i in range(64):
    assert c.reply()[1] == 0
assert server.stdout.read() == b"", "something else on standard output"
assert server.wait(30) == 0
END
stopped=$SECONDS
"${single[@]}" </dev/null >"$tmpdir/out" 2>>"$tmpdir/single.log" || fail "a client that says nothing: status $?"
[ $((SECONDS - stopped)) -lt 60 ] || fail "it waits for a client that has gone"
[ "$(head -c 8 "$tmpdir/out")" = NBDMAGIC ] || fail "no greeting"
# Of the servers whose end others waited for.
if grep "Sanitizer" "$tmpdir/single.log"; then
    fail "$(tail -n 50 "$tmpdir/single.log")"
fi
