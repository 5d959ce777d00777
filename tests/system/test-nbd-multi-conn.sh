#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# CAN_MULTI_CONN: what is written on one connection is read on all others, and a
# flush on one covers every write that was answered on any, on whichever core:
# after SIGKILL all of that is there, ROUNDS (4) times.
. "$srcdir/tests/functions.sh"
requires_program python3
requires_built blkcached blkcachectl
export PYTHONPATH=$srcdir/tests/system PYTHONDONTWRITEBYTECODE=1
rounds=${ROUNDS:-4}

truncate -s 32M "$tmpdir/back.img" "$tmpdir/through.img"
format_flash 64M --shards 2
volatile_cache=yes ram=4M write_config \
    "name = \"back\"; backing = \"$tmpdir/back.img\"; mode = \"write-back\";" \
    "name = \"through\"; backing = \"$tmpdir/through.img\"; mode = \"write-through\";"

cat >"$tmpdir/client.py" <<'END'
"""client.py write|verify SOCKET RECORD SEED [PID]

write: on six connections, until the daemon is killed, which it does itself after a while.  A block
holds its number and a version.  RECORD is what must be found afterwards: for each block the version
that a flush covered, and the last one that was sent."""
import json, os, random, signal, struct, sys, threading, time
import nbdraw as n

what, path, record, seed = sys.argv[1:5]
random.seed(int(seed))
BLOCKS, CONNECTIONS = 2000, 6


def block(number, version):
    return struct.pack(">QQ", number, version) * 256


def write(volume, begun):
    clients = [n.Client(path).enter(volume) for _ in range(CONNECTIONS)]
    covered, sent, version = [0] * BLOCKS, [0] * BLOCKS, 0
    flushes = 0
    try:
        while True:
            version += 1
            written = random.sample(range(BLOCKS), 3 * CONNECTIONS)
            for i, number in enumerate(written):
                sent[number] = version
                clients[i % CONNECTIONS].start(n.WRITE, number * 4096, 4096, data=block(number, version))
            for i in range(len(written)):
                assert clients[i % CONNECTIONS].reply()[1] == 0
            # Every other connection sees it.
            number, other = random.choice(written), random.choice(clients)
            assert other.read(number * 4096, 4096) == block(number, version), "another connection sees less"
            # The flush goes to one of them.
            error, _ = random.choice(clients).call(n.FLUSH)
            assert error == 0
            for number in range(BLOCKS):
                covered[number] = sent[number]
            flushes += 1
            begun.set()
    except n.Closed:
        return {"covered": covered, "sent": sent, "flushes": flushes}


def run_write():
    results = {}
    begun = {volume: threading.Event() for volume in ("back", "through")}
    threads = [threading.Thread(target=lambda v=v: results.update({v: write(v.encode(), begun[v])})) for v in begun]
    for thread in threads:
        thread.start()
    # Not while they connect, and not before there is something to be lost.
    for volume, event in begun.items():
        assert event.wait(60), f"{volume}: no flush"
    time.sleep(random.uniform(0.1, 1.0))
    os.kill(int(sys.argv[5]), signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert len(results) == 2, "a client found a fault"
    with open(record, "w") as file:
        json.dump(results, file)
    print({volume: result["flushes"] for volume, result in results.items()}, "flushes")


def run_verify():
    with open(record) as file:
        results = json.load(file)
    for volume, result in results.items():
        with n.Client(path).enter(volume.encode()) as c:
            for number in range(BLOCKS):
                data = c.read(number * 4096, 4096)
                told, version = struct.unpack(">QQ", data[:16])
                assert data == data[:16] * 256, f"{volume} {number}: torn"
                assert told == number or version == 0, f"{volume} {number}: that is block {told}"
                low, high = result["covered"][number], result["sent"][number]
                assert low <= version <= high, f"{volume} {number}: {version} is not in {low} to {high}"
            # The next round begins with nothing.
            assert c.call(n.WRITE_ZEROES, 0, BLOCKS * 4096, n.FUA)[0] == 0


run_write() if what == "write" else run_verify()
END

start_daemon
for ((round = 1; round <= rounds; round++)); do
    python3 "$tmpdir/client.py" write "$nbd_socket" "$tmpdir/record" "$round" "$daemon_pid" || fail "round $round"
    wait "$daemon_pid" 2>/dev/null || :
    start_daemon
    python3 "$tmpdir/client.py" verify "$nbd_socket" "$tmpdir/record" "$round" || fail "round $round"
done
stop_daemon
