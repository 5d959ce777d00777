#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# /metrics: OpenMetrics that a parser accepts, and after a known workload every
# figure is what it must be.  Also the other paths, and what is refused.
. "$srcdir/tests/functions.sh"
requires_program curl jq python3 qemu-io
requires_built blkcached blkcachectl
requires_free_space 200
python=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; then
        python=$candidate
    fi
done
[ -n "$python" ] || skip "no OpenMetrics parser (package python3-prometheus-client)"

truncate -s 64M "$tmpdir/a" "$tmpdir/b"
format_flash 64M --segment-size 512K >/dev/null # so large that nothing waits, and is destaged early
port=$(free_port)
metrics=127.0.0.1:$port
write_config "name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";" \
    "name = \"b\"; backing = \"$tmpdir/b\"; mode = \"write-back\";"
start_daemon
url=http://$metrics

# ---- a known workload: 256 blocks written, 4 of them twice and one in part,
# 16 zeroed, 100 read of which 44 were never written.

qemu-io -f raw "$(nbd_uri a)" -c 'write -P 1 0 1M' -c 'write -P 2 0 16k' -c 'write -P 3 512 1k' \
    -c 'write -z 512k 64k' -c flush -c 'read 800k 400k' >"$tmpdir/qemu-io.log"
wait_for_clients 0
blkcachectl flush a --wait >/dev/null

curl -sSf -D "$tmpdir/headers" "$url/metrics" >"$tmpdir/metrics"
grep -qi '^content-type: application/openmetrics-text; version=1.0.0' "$tmpdir/headers" || fail "content type"
"$python" - "$tmpdir/metrics" <<'END'
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

values = {}
for family in text_string_to_metric_families(open(sys.argv[1], encoding="utf-8").read()):
    for sample in family.samples:
        assert sample.name.startswith("blkcached_"), sample
        key = (sample.name[len("blkcached_"):],) + tuple(sorted(sample.labels.items()))
        assert key not in values, key
        values[key] = sample.value

def is_(name, value, **labels):
    found = values[(name,) + tuple(sorted(labels.items()))]
    assert found == value, (name, labels, found, value)

KIB = 1024
is_("written_bytes_total", (256 + 4 + 1) * 4 * KIB, volume="a")
is_("merged_blocks_total", 1, volume="a")
is_("zeroed_bytes_total", 64 * KIB, volume="a")
is_("read_bytes_total", 224 * KIB, volume="a", tier="flash")
is_("read_bytes_total", 176 * KIB, volume="a", tier="backing")
is_("read_bytes_total", 0, volume="a", tier="ram")
is_("filled_bytes_total", 176 * KIB, volume="a")
is_("overrun_bytes_total", 0, volume="a")
is_("flash_data_bytes_total", (256 + 4 + 1) * 4 * KIB, volume="a", why="write")
is_("dirty_bytes", 0, volume="a")
assert values[("destage_lag_seconds", ("volume", "a"))] < 60
is_("nbd_requests_in_flight", 0)
is_("nbd_in_flight_bytes", 0)
is_("volume_size_bytes", 64 << 20, volume="a")
is_("backing_up", 1, volume="a")
is_("destage_errors_total", 0, volume="a")
for result in ("healed", "lost"):
    is_("crc_failures_total", 0, volume="a", result=result)
is_("request_seconds_count", 3, volume="a", op="write", tier="flash")
is_("request_seconds_count", 1, volume="a", op="read", tier="backing")
is_("request_seconds_bucket", 3, volume="a", op="write", tier="flash", le="+Inf")
is_("nbd_requests_write_total", 3)
is_("nbd_requests_zero_total", 1)
is_("nbd_received_bytes_total", (1024 + 16 + 1) * KIB)
is_("nbd_sent_bytes_total", 400 * KIB)
is_("flash_up", 1)
is_("recovery_clean", 1)
is_("time_to_clean_seconds", 0)
is_("written_bytes_total", 0, volume="b")

# What was written back: each block, and none more often than it was written.
destaged = values[("destaged_bytes_total", ("volume", "a"))]
assert 1024 * KIB <= destaged <= (1024 + 16 + 4 + 64) * KIB, destaged
written = values[("flash_written_bytes_total",)]
assert written >= values[("flash_data_bytes_total", ("volume", "a"), ("why", "write"))], written
END

# ---- the other paths

curl -sSf "$url/status" | jq -e '.volumes[0].name == "a"' >/dev/null || fail "/status"
curl -sSf "$url/stats" | jq -e '.volumes[0].counters.write_blocks == 261' >/dev/null || fail "/stats"
history() { curl -sSf "$url/history" | jq -e '(.rows | length) > 1 and (.rows[-1] | length) == (.columns | length)'; }
wait_until 20 history
curl -sSf "$url/" >"$tmpdir/page"
grep -q '<title>blkcached</title>' "$tmpdir/page" || fail "the page"
code() { curl -s -o /dev/null -w '%{http_code}' "$@"; }
[ "$(code "$url/nothing")" = 404 ] || fail "/nothing"
[ "$(code "$url/../etc/passwd" --path-as-is)" = 404 ] || fail "/.."
[ "$(code -X POST -d x "$url/status")" = 405 ] || fail "POST"
[ "$(code -I "$url/metrics")" = 200 ] || fail "HEAD"

# ---- clients that say nothing, or nonsense, cost themselves only

python3 - "$port" <<'END'
import socket, sys
port = int(sys.argv[1])
idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
with socket.create_connection(("127.0.0.1", port)) as rude:
    rude.sendall(b"\0\xff" * 10000)
END
curl -sSf --max-time 10 "$url/metrics" >/dev/null || fail "not served beside rude clients"

# ---- a port that is taken: the cache serves all the same, and says so

stop_daemon
python3 -c '
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); print("ready", flush=True); time.sleep(60)' "$port" >"$tmpdir/taken" &
taken=$!
cleanup_fn end_process $taken
wait_until 30 grep -q ready "$tmpdir/taken"
start_daemon
grep -q 'cannot listen at .*choose another port' "$daemon_log" || fail "$(cat "$daemon_log")"
stop_daemon
