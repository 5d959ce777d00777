#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Statistics that add up: in each mode, a load whose own account is known, and
# a cache too small for it. What came from the tiers is what was read, what was
# written went to one place, each request is in one histogram, the metrics say
# what the statistics say, and a reset begins at 0. What the flash did is no
# volume's, and stays when one leaves.
. "$srcdir/tests/functions.sh"
requires_program fio jq curl qemu-io python3
requires_free_space 300

modes="write-back write-through write-around pass-through"
volumes=()
for mode in $modes; do
    truncate -s 48M "$tmpdir/$mode"
    volumes+=("name = \"$mode\"; backing = \"$tmpdir/$mode\"; mode = \"$mode\";")
done
format_flash 32M --segment-size 256K >/dev/null
port=$(free_port)
metrics=127.0.0.1:$port ram=4M write_config "${volumes[@]}"
start_daemon

for mode in $modes; do
    fio --name=load --ioengine=nbd --uri="$(nbd_uri "$mode")" --rw=randrw --bssplit=4k/60:16k/20:256k/20 --iodepth=8 \
        --size=48M --number_ios=1500 --fsync=64 --output-format=json >"$tmpdir/fio.$mode.json" 2>"$tmpdir/fio.log" ||
        fail "fio: $(cat "$tmpdir/fio.log")"
    # Known to the block: unaligned, zeroed, trimmed, read back.
    qemu-io -f raw "$(nbd_uri "$mode")" -c 'write -P 1 512 1k' -c 'write -z 1M 64k' -c 'discard 2M 128k' \
        -c 'read 1M 64k' -c flush >"$tmpdir/qemu-io.log" || fail "$(cat "$tmpdir/qemu-io.log")"
done
wait_for_clients 0
blkcachectl flush --wait >/dev/null
# A block is counted when it is put into a batch, the batch when it has landed, and what nobody waits for waits for
# company for a second (CLEAN_BATCH_AGE_NS): nothing counts any more when two looks two seconds apart say the same.
before=
for ((i = 0; i < 15; i++)); do
    blkcachectl --json stats >"$tmpdir/stats.json"
    now=$(jq -c '.volumes[].counters, .flash.counters' "$tmpdir/stats.json")
    [[ $now == "$before" ]] && break
    before=$now
    sleep 2
done
[[ $now == "$before" ]] || fail "the counters do not come to rest: $now"
curl -sSf "http://127.0.0.1:$port/metrics" >"$tmpdir/metrics"
blkcachectl --json status >"$tmpdir/status.json"

cp "$0" "$tmpdir/test"
python3 - "$tmpdir" $modes <<'END'
import json, re, sys
folder, modes = sys.argv[1], sys.argv[2:]
answer = json.load(open(folder + "/stats.json"))
stats = {v["name"]: v for v in answer["volumes"]}
nbd, flash = answer["nbd"]["counters"], answer["flash"]["counters"]
status = json.load(open(folder + "/status.json"))
metrics, bare = {}, {}
for line in open(folder + "/metrics"):
    found = re.match(r'(\w+)\{([^}]*)\} (\S+)$', line)
    if found:
        metrics[found[1], found[2]] = float(found[3])
    found = re.match(r'(\w+) (\S+)$', line)
    if found:
        bare[found[1]] = float(found[2])

def is_(what, found, wanted):
    assert found == wanted, (what, found, wanted)

def is_within(what, found, least, most):
    assert least <= found <= most, (what, found, least, most)

requests = {"read": 0, "write": 0, "flush": 0}
received = sent = 0
for mode in modes:
    text = open(f"{folder}/fio.{mode}.json").read()
    job = json.loads(text[text.index("{"):])["jobs"][0] # behind what its NBD engine says
    one = stats[mode]
    c, reads, latency = one["counters"], one["reads"], one["latency"]
    count = lambda op: sum(tier["count"] for tier in latency[op].values())
    # What was read came from somewhere, once.
    is_(mode + " blocks read", c["read_blocks"], job["read"]["io_bytes"] // 4096 + 16)
    is_(mode + " tiers", c["ram_hit_blocks"] + c["flash_hit_blocks"] + c["zero_hit_blocks"] + c["miss_blocks"], c["read_blocks"])
    is_(mode + " reads", [reads[k] for k in ("from_ram", "from_flash", "from_zeros", "from_backing")],
        [c[k] for k in ("ram_hit_blocks", "flash_hit_blocks", "zero_hit_blocks", "miss_blocks")])
    hits = c["read_blocks"] - c["miss_blocks"]
    assert abs(reads["hit_ratio"] - hits / c["read_blocks"]) < 1e-9, reads
    # What was written: each block once more, the one in part merged.
    is_(mode + " blocks written", c["write_blocks"], job["write"]["io_bytes"] // 4096 + 1)
    is_(mode + " merged", c["merge_blocks"], 1)
    is_(mode + " zeroed", c["zero_blocks"], 16 + 32)
    if mode in ("write-back", "write-through"):
        is_(mode + " logged", c["flash_write_blocks"], c["write_blocks"])
        is_(mode + " around", c["around_blocks"], 0)
    else:
        is_(mode + " logged", c["flash_write_blocks"], 0)
        is_(mode + " around", c["around_blocks"], c["write_blocks"] + c["zero_blocks"])
    if mode == "write-back":
        assert 0 < c["destage_blocks"] <= c["write_blocks"] + c["zero_blocks"], c
    if mode == "pass-through":
        is_("pass-through hits", hits, 0)
        is_("pass-through on flash", c["flash_fill_blocks"], 0)
    # A piece is what a request has of a 256 KiB region; what enters the RAM tier was missed.
    is_within(mode + " read pieces", c["read_pieces"], count("read"), 2 * count("read"))
    is_within(mode + " write pieces", c["write_pieces"], count("write"), 2 * count("write") + 2)
    is_within(mode + " filled", c["fill_blocks"], 0, c["miss_blocks"])
    is_within(mode + " promoted", c["flash_promote_blocks"], 0, c["flash_fill_blocks"])
    is_within(mode + " overrun", c["overrun_blocks"], 0, c["miss_blocks"])
    is_within(mode + " destage writes", c["destage_writes"], c["destage_blocks"] > 0, c["destage_blocks"])
    is_within(mode + " stalled", c["stalled_pieces"], 0, c["write_pieces"])
    # Each request is in one histogram.
    is_(mode + " read requests", count("read"), job["read"]["total_ios"] + 1)
    is_(mode + " write requests", count("write"), job["write"]["total_ios"] + 1)
    is_(mode + " zero requests", count("zero"), 2)
    for name in ("healed_blocks", "lost_blocks", "destage_errors"):
        is_(f"{mode} {name}", c[name], 0)
    # The metrics say the same.
    for metric, value in (("written_bytes_total", c["write_blocks"] * 4096), ("zeroed_bytes_total", c["zero_blocks"] * 4096)):
        is_(f"{mode} {metric}", metrics["blkcached_" + metric, f'volume="{mode}"'], value)
    is_(mode + " metrics read", sum(v for (name, labels), v in metrics.items()
        if name == "blkcached_read_bytes_total" and f'volume="{mode}"' in labels), c["read_blocks"] * 4096)
    is_(mode + " metrics requests", sum(v for (name, labels), v in metrics.items()
        if name == "blkcached_request_seconds_count" and f'volume="{mode}"' in labels and 'op="read"' in labels), count("read"))
    requests["read"] += count("read")
    requests["write"] += count("write")
    requests["flush"] += count("flush")
    sent += job["read"]["io_bytes"] + 65536
    received += job["write"]["io_bytes"] + 1024

# What was written to the flash: data, a header for each batch, marks, and headers and footers of segments, of one
# block each in segments this small.
total = lambda name: sum(v["counters"][name] for v in stats.values())
data = total("flash_write_blocks") + total("flash_fill_blocks") + total("flash_reinsert_blocks")
is_("bytes on flash", flash["flash_bytes"], 4096 * (data + flash["flash_batches"] + flash["flash_metadata_writes"]))
is_within("batches", flash["flash_batches"], data / 49, data + total("zero_blocks") + total("around_blocks"))
is_within("segments reclaimed", flash["segments_reclaimed"], 1, flash["flash_metadata_writes"])
is_within("segments kept", flash["segments_kept"], 0, flash["flash_metadata_writes"])
is_("segments retired", flash["segments_retired"], 0)
is_("the flash in status", status["flash"]["counters"], flash)
for name, value in flash.items():
    is_("metrics " + name, bare[f"blkcached_{'flash_written_bytes' if name == 'flash_bytes' else name}_total"], value)

# Every counter is looked at here: a new one needs an account, too.
looked_at = open(sys.argv[1] + "/test").read()
for name in [*stats[modes[0]]["counters"], *flash]:
    assert f'"{name}"' in looked_at, f"no account of {name}"

# The front end counted the same requests.
is_("NBD reads", nbd["requests_read"], requests["read"])
is_("NBD writes", nbd["requests_write"], requests["write"])
is_("NBD flushes", nbd["requests_flush"], requests["flush"])
is_("NBD zeroes", nbd["requests_zero"] + nbd["requests_trim"], 2 * len(modes))
is_("bytes sent", nbd["bytes_read"], sent)
is_("bytes received", nbd["bytes_written"], received)
is_("in flight", nbd["requests_in_flight"], 0)
is_("failed", nbd["requests_failed"] + nbd["requests_refused"], 0)
is_("dirty", status["flash"]["dirty_bytes"], 0)
is_("dirty by volume", sum(v["dirty_bytes"] for v in status["volumes"]), 0)
END

# ---- a reset

blkcachectl stats --reset >/dev/null
blkcachectl --json stats | jq -e '[.flash.counters[], (.volumes[] | .counters[], (.latency[][]? | .count))] | all(. == 0)' >/dev/null ||
    fail "not 0 after a reset: $(blkcachectl --json stats)"
qemu-io -f raw "$(nbd_uri write-back)" -c 'read 0 64k' >/dev/null
blkcachectl --json stats write-back | jq -e '.volumes[0].counters.read_blocks == 16 and ([.volumes[0].latency.read[].count] | add) == 1' >/dev/null ||
    fail "$(blkcachectl --json stats write-back)"

# ---- volumes leave: no sum goes down, nor does a rate go below 0

wait_for_clients 0
for mode in write-back pass-through; do
    blkcachectl detach "$mode" >/dev/null || fail "detach $mode"
done
qemu-io -f raw "$(nbd_uri write-through)" -c 'write -P 3 0 64k' >/dev/null
curl -sSf "http://127.0.0.1:$port/metrics" >"$tmpdir/metrics.later"
curl -sSf "http://127.0.0.1:$port/status" >"$tmpdir/status.later"
sleep 1.1 # a sample
curl -sSf "http://127.0.0.1:$port/history" >"$tmpdir/history"
python3 - "$tmpdir" <<'END'
import json, sys
folder = sys.argv[1]
def sums(name):
    lines = (line.split() for line in open(f"{folder}/{name}") if "_total " in line)
    return {metric: float(value) for metric, value in lines}
before, later = sums("metrics"), sums("metrics.later")
assert before.keys() == later.keys() and len(before) > 10, (before, later)
for metric in before:
    assert later[metric] >= before[metric], (metric, before[metric], later[metric])
assert later["blkcached_flash_written_bytes_total"] > before["blkcached_flash_written_bytes_total"]
before, later = (json.load(open(f"{folder}/status.{which}"))["flash"]["counters"] for which in ("json", "later"))
for name in before:
    assert later[name] >= before[name], (name, before[name], later[name])
history = json.load(open(folder + "/history"))
for column, name in enumerate(history["columns"]):
    for row, following in zip(history["rows"], history["rows"][1:]):
        assert name == "dirty_bytes" or following[column] >= row[column], (name, row, following)
END
stop_daemon
