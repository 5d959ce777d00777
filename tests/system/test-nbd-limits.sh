#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Limits of the NBD front end: connections, requests and bytes in flight.  All
# of it is served all the same, only later; and the counters add up.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
requires_program python3
requires_built tests/system/nbd-memory-server
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1

start_memory_server --connections 4
python3 - "$tmpdir/memory.sock" <<'END'
import sys, time
import nbdraw as n

path = sys.argv[1]
clients = [n.Client(path).enter(b"memory") for _ in range(4)]
with n.Client(path) as refused:
    refused.expect_close()
clients.pop().socket.close()
for _ in range(100):
    try:
        clients.append(n.Client(path).enter(b"memory"))
        break
    except n.Closed:
        time.sleep(0.05)
assert len(clients) == 4
c = clients[0]
for i in range(10):
    c.write(i * 4096, b"w" * 4096)
for i in range(20):
    c.read(i * 4096, 512)
c.call(n.FLUSH)
c.call(n.TRIM, 0, 4096)
c.call(n.CACHE, 0, 4096)
c.call(n.WRITE_ZEROES, 0, 4096)
c.call(n.WRITE_ZEROES, 0, 4096, n.DF)
c.call(99)
END
stop_memory_server
for pair in "requests_write 10" "bytes_written 40960" "requests_read 20" "bytes_read 10240" \
    "requests_flush 1" "requests_trim 1" "requests_cache 1" "requests_zero 1" "requests_refused 2" \
    "requests_failed 0" "protocol_errors 0" "connections_open 0"; do
    # shellcheck disable=SC2086 # two words
    expect_counter $pair
done

for options in "--requests 1" "--requests 3 --delay 500" "--bytes 4K --delay 100" \
    "--requests 7 --bytes 100K --cores 2 --delay 300 --buffers 1M"; do
    echo "==== $options"
    # shellcheck disable=SC2086 # they are words
    start_memory_server $options
    python3 "$srcdir/tests/system/nbd-protocol.py" "$tmpdir/memory.sock" memory "" "" \
        test_pipelined_mix test_write_and_read_back test_disconnect_answers_what_is_in_flight \
        test_refused_writes_are_drained test_half_closed_client_gets_its_replies \
        test_truncated_write_is_not_done || fail "with $options"
    stop_memory_server
    expect_counter connections_open 0
done
