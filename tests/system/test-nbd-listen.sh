#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Addresses to listen on: the files of dead servers are replaced, those of
# living ones and other files are not, and mistakes are explained.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
requires_program python3 nbdinfo
requires_built tests/system/nbd-memory-server
server=$builddir/tests/system/nbd-memory-server

# refused ADDRESS TEXT: the server does not start, and says TEXT.
refused() {
    local status=0
    timeout 10 "$server" "$1" 2>"$tmpdir/refused" || status=$?
    [ $status -eq 1 ] || fail "$1: status $status"
    grep -q -F -e "$2" "$tmpdir/refused" || fail "$1: $(cat "$tmpdir/refused")"
}

refused "bogus:1" "must begin with unix: or tcp:"
refused "unix:relative" "must begin with a slash"
refused "unix:/$(printf 'x%.0s' {1..110})" "too long"
refused "unix:$tmpdir/no/such/directory" "No such file or directory"
refused "tcp:10809" "it is not tcp:HOST:PORT"
refused "tcp:::1:10809" "it is not tcp:HOST:PORT"
refused "tcp:127.0.0.1:" "it is not tcp:HOST:PORT"
refused "tcp:127.0.0.1:no-such-service" "cannot listen on"
refused "tcp:192.0.2.1:0" "Cannot assign requested address"

touch "$tmpdir/file"
refused "unix:$tmpdir/file" "not a socket"
[ -f "$tmpdir/file" ] || fail "a file that is not a socket was removed"

# A server that lives keeps its socket, also when its backlog is full.
start_memory_server
first=$memory_pid
refused "unix:$tmpdir/memory.sock" "another server listens there"
nbdinfo --size "nbd+unix:///memory?socket=$tmpdir/memory.sock" >/dev/null ||
    fail "the first server lost its socket"
[ "$(stat -c %a "$tmpdir/memory.sock")" = 660 ] || fail "mode of the socket's file"
refused "tcp:127.0.0.1:0 " "cannot listen on"

# One that was killed leaves a file behind, which the next one replaces.
kill -KILL "$first"
wait "$first" || :
[ -S "$tmpdir/memory.sock" ] || fail "the dead server's file is gone"
"$server" "unix:$tmpdir/memory.sock" "tcp:localhost:0" "unix:$tmpdir/second.sock" \
    >"$tmpdir/memory.counters" 2>"$tmpdir/addresses.log" &
memory_pid=$!
cleanup_fn end_process "$memory_pid"
wait_until 30 test -S "$tmpdir/second.sock"
wait_until 30 grep -q "second.sock" "$tmpdir/addresses.log"
tcp=$(sed -n 's/.*address=tcp:\([^ ]*\)$/\1/p' "$tmpdir/addresses.log" | head -n 1)
[ -n "$tcp" ] || fail "no TCP address was logged"
for uri in "nbd+unix:///memory?socket=$tmpdir/memory.sock" \
    "nbd+unix:///memory?socket=$tmpdir/second.sock" "nbd://$tcp/memory"; do
    [ "$(nbdinfo --size "$uri")" = 67108864 ] || fail "$uri"
done

# One that is about to go, as the ring of a killed daemon is, is waited for.
stop_memory_server
python3 -c 'import socket, sys, time
for family, name in ((socket.AF_UNIX, sys.argv[1]), (socket.AF_INET, ("127.0.0.1", 0))):
    one = socket.socket(family); one.bind(name); one.listen(); globals()[str(family)] = one
print("port", one.getsockname()[1], flush=True)
time.sleep(0.5)' "$tmpdir/going.sock" >"$tmpdir/going.log" &
going=$!
wait_until 30 grep -q port "$tmpdir/going.log"
"$server" "unix:$tmpdir/going.sock" "tcp:127.0.0.1:$(awk '{ print $2 }' "$tmpdir/going.log")" "unix:$tmpdir/second.sock" \
    >"$tmpdir/memory.counters" 2>"$tmpdir/addresses.log" &
memory_pid=$!
cleanup_fn end_process "$memory_pid"
wait_until 30 test -S "$tmpdir/second.sock"
wait "$going"

# Nor is one waited for whose process has ended, though its socket still takes connections.
stop_memory_server
python3 -c 'import os, socket, sys, time
if os.fork() == 0:
    one = socket.socket(socket.AF_UNIX); one.bind(sys.argv[1]); one.listen()
    if os.fork() == 0:
        print(os.getpid(), flush=True); time.sleep(60)
    os._exit(0)
os.wait()' "$tmpdir/memory.sock" >"$tmpdir/holder.log" &
wait "$!"
wait_until 30 test -s "$tmpdir/holder.log"
holder=$(cat "$tmpdir/holder.log")
cleanup_fn kill "$holder"
rm -f "$tmpdir/second.sock"
start_memory_server "unix:$tmpdir/second.sock"
wait_until 30 test -S "$tmpdir/second.sock"
nbdinfo --size "nbd+unix:///memory?socket=$tmpdir/memory.sock" >/dev/null || fail "a dead server's socket"

# A file that has become another server's is left alone.
rm "$tmpdir/second.sock"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$tmpdir/second.sock"
stop_memory_server
[ -S "$tmpdir/second.sock" ] || fail "the file of another server was removed"
