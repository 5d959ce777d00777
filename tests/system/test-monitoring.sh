#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The alert rules and the dashboard in conf/ speak of metrics and labels that
# /metrics has; promtool, where there is one, accepts the rules and the metrics.
. "$srcdir/tests/functions.sh"
requires_program curl jq qemu-io python3

truncate -s 16M "$tmpdir/a"
format_flash 64M >/dev/null
port=$(free_port)
metrics=127.0.0.1:$port write_config "name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
start_daemon
qemu-io -f raw "$(nbd_uri a)" -c 'write 0 1M' -c flush -c 'read 0 2M' >/dev/null
blkcachectl flush --wait >/dev/null
curl -sSf "http://127.0.0.1:$port/metrics" >"$tmpdir/metrics"
stop_daemon

jq -e '.uid == "blkcached" and (.panels | length) > 10 and all(.panels[]; .title != "" and (.targets | length) > 0)' \
    "$srcdir/conf/grafana-dashboard.json" >/dev/null || fail "the dashboard"
python3 - "$tmpdir/metrics" "$srcdir/conf" <<'END'
import json, re, sys
known = {}
for line in open(sys.argv[1]):
    found = re.match(r'(blkcached_\w+)(?:\{([^}]*)\})? ', line)
    if found:
        known.setdefault(found[1], set()).update(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))

def check(where, expression):
    names = re.findall(r'(blkcached_\w+)(?:\{([^}]*)\})?', expression)
    assert names or "up{" in expression, (where, expression)
    for name, labels in names:
        assert name in known, f"{where}: there is no metric {name}"
        for label, value in re.findall(r'(\w+)="([^"$]*)"', labels):
            assert (label, value) in known[name], f"{where}: {name} has no {label}={value}"
    for by in re.findall(r'by \(([^)]*)\)', expression):
        for label in re.split(r'[, ]+', by):
            assert label in ("instance", "le") or any(label == l for name, _ in names for l, _ in known[name]), f"{where}: no label {label}"

dashboard = json.load(open(sys.argv[2] + "/grafana-dashboard.json"))
for panel in dashboard["panels"]:
    for target in panel["targets"]:
        check(panel["title"], target["expr"])
for variable in dashboard["templating"]["list"]:
    if variable["type"] == "query":
        check(variable["name"], variable["query"])
rules = open(sys.argv[2] + "/prometheus-alerts.yml", encoding="utf-8").read()
alerts = re.findall(r'- alert: (\w+)\n\s+expr: (.*)\n', rules)
assert len(alerts) == rules.count("- alert:") > 5
for name, expression in alerts:
    check(name, expression)
END

command -v promtool >/dev/null || exit 0
promtool check rules "$srcdir/conf/prometheus-alerts.yml" || fail "promtool: rules"
