#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Reload, by blkcachectl and by SIGHUP: volumes come, go and change while the
# clients of others go on; a file that is wrong, or that asks for what needs a
# restart, changes nothing and says why.
. "$srcdir/tests/functions.sh"
requires_program qemu-io jq fio curl nbdinfo python3
requires_free_space 250

truncate -s 32M "$tmpdir/a" "$tmpdir/b" "$tmpdir/c" "$tmpdir/d"
format_flash 128M >/dev/null
a="name = \"a\"; backing = \"$tmpdir/a\"; mode = \"write-back\";"
b="name = \"b\"; backing = \"$tmpdir/b\"; mode = \"write-back\";"
c="name = \"c\"; backing = \"$tmpdir/c\";"
write_config "$a" "$b"
start_daemon

names() { blkcachectl --json volumes | jq -r '[.volumes[].name] | join(" ")'; }
volume() { # NAME KEY
    blkcachectl --json volumes | jq -r ".volumes[] | select(.name == \"$1\") | .$2"
}
# refused TEXT...: a reload is refused, in one line with all of this, and changes nothing.
refused() {
    local before after text
    before=$(blkcachectl --json volumes | jq -S '[.volumes[] | {name, mode, dirty_max_percent, backing}]')
    blkcachectl reload >"$tmpdir/out" 2>"$tmpdir/err" && fail "reloaded: $*"
    [ "$(wc -l <"$tmpdir/err")" = 1 ] || fail "more than one line: $(cat "$tmpdir/err")"
    for text; do grep -q -- "$text" "$tmpdir/err" || fail "no \"$text\": $(cat "$tmpdir/err")"; done
    after=$(blkcachectl --json volumes | jq -S '[.volumes[] | {name, mode, dirty_max_percent, backing}]')
    [ "$before" = "$after" ] || fail "a refused reload changes: $after"
}

fio --name=load --ioengine=nbd --uri="$(nbd_uri a)" --rw=randrw --bs=4k --iodepth=4 --size=16M --io_size=2G \
    --time_based --runtime=300 --rate_iops=800 --verify=crc32c --verify_backlog=64 --verify_fatal=1 >"$tmpdir/fio.log" 2>&1 &
fio_pid=$!
cleanup_fn end_process $fio_pid
wait_until 60 eval '[ "$(blkcachectl --json status | jq .nbd.connections)" -gt 0 ]'

# ---- nothing new

blkcachectl reload | grep -qx 'the configuration is in force' || fail "reload"
[ "$(names)" = "a b" ] || fail "$(names)"

# ---- a volume comes, one changes

write_config "$a dirty_max = 35;" "${b/write-back/write-through}" "$c"
blkcachectl reload >/dev/null || fail "reload"
[ "$(names)" = "a b c" ] || fail "$(names)"
[ "$(volume a dirty_max_percent)" = 35 ] || fail "a did not change"
[ "$(volume b mode)" = write-through ] || fail "b did not change"
qemu-io -f raw -c "write -P 1 0 1M" -c flush "$(nbd_uri c)" >/dev/null

# ---- what is wrong

echo "volumes = (" >>"$config"
refused 'blkcachectl: reload: ' "blkcached.conf:[0-9]*: "
write_config "$a dirty_max = 200;" "$b" "name = \"d\"; baking = \"x\";"
refused 'dirty_max: 200 is out of range' 'did you mean "backing"' 'volumes\[2\].backing: is missing'
write_config "$a dirty_max = 35;" "$b" "name = \"d\"; backing = \"$tmpdir/none\";"
refused 'volume "d": .*/none: cannot open it'
ram=32M write_config "$a read_only = true;" "$b" "$c"
refused 'cache.ram needs a restart' 'volume "a".read_only cannot change in service: blkcachectl detach a first'
write_config "$b" "$c" # a is in use
refused 'volume "a": 1 client is connected to it'
metrics=127.0.0.1:1 write_config "$a" "$b" "name = \"d\"; backing = \"$tmpdir/d\";"
if [ "$(id -u)" -ne 0 ]; then refused 'daemon.metrics: cannot listen'; fi
rm "$config"
refused 'blkcached.conf: cannot be read: No such file'

# ---- a dirty volume goes: destaged first; by a signal

write_config "$a dirty_max = 35;" "$b" "$c"
blkcachectl reload >/dev/null || fail "reload"
qemu-io -f raw -c "write -P 2 0 8M" -c flush "$(nbd_uri b)" >/dev/null
[ "$(volume b dirty_bytes)" -gt 0 ] || fail "nothing is dirty"
write_config "$a dirty_max = 35;" "${c} mode = \"write-back\";" "name = \"d\"; backing = \"$tmpdir/d\";"
wait_for_clients 1
kill -HUP "$daemon_pid"
wait_until 60 eval '[ "$(names)" = "a c d" ]'
cmp -n $((8 << 20)) "$tmpdir/b" <(tr '\0' '\002' </dev/zero | head -c 8M) || fail "b is not complete"
wait_until 60 eval '[ "$(volume c mode)" = write-back ]'
wait_until 60 eval 'blkcachectl events | grep -q "the configuration was read again.*came=1 left=1"'
nbdinfo "$(nbd_uri d)" >/dev/null || fail "d is not exported"

# ---- metrics move, the log level changes

port=$((20000 + RANDOM % 20000))
metrics=127.0.0.1:$port log_level=debug write_config "$a dirty_max = 35;" "$c mode = \"write-back\";" "name = \"d\"; backing = \"$tmpdir/d\";"
if blkcachectl reload >/dev/null 2>"$tmpdir/err"; then
    curl -sf "http://127.0.0.1:$port/metrics" >"$tmpdir/metrics" || fail "no metrics"
    grep -q 'volume="d"' "$tmpdir/metrics" || fail "no metrics of d"
    metrics="" log_level=info write_config "$a dirty_max = 35;" "$c mode = \"write-back\";" "name = \"d\"; backing = \"$tmpdir/d\";"
    blkcachectl reload >/dev/null || fail "reload"
    ! curl -sf "http://127.0.0.1:$port/metrics" >/dev/null || fail "still there"
else
    grep -q 'in use' "$tmpdir/err" || fail "$(cat "$tmpdir/err")" # of the port
    metrics="" write_config "$a dirty_max = 35;" "$c mode = \"write-back\";" "name = \"d\"; backing = \"$tmpdir/d\";"
fi

# ---- addresses come and go; limits change; who is connected notices nothing

listens() { blkcachectl --json status | jq -r '[.nbd.listen[]] | join(" ")'; }
limit() { blkcachectl --json status | jq -r ".nbd.limits.$1"; }
# listening ADDRESS...: the configuration that is the present one, but for nbd.listen.
listening() {
    metrics="" write_config "$a dirty_max = 35;" "$c mode = \"write-back\";" "name = \"d\"; backing = \"$tmpdir/d\";"
    sed -i "s|listen = (.*);|listen = ( $(printf '"%s", ' "$@" | sed 's/, $//') );|" "$config"
}
over() { nbdinfo --size "nbd+unix:///a?socket=$1" >/dev/null 2>&1; }
port=$(free_port)
listening "unix:$nbd_socket" "unix:$tmpdir/second.sock" "tcp:127.0.0.1:$port"
blkcachectl reload >/dev/null || fail "reload"
[ "$(listens)" = "unix:$nbd_socket unix:$tmpdir/second.sock tcp:127.0.0.1:$port" ] || fail "$(listens)"
over "$tmpdir/second.sock" || fail "nobody at the second socket"
nbdinfo --size "nbd://127.0.0.1:$port/a" >/dev/null || fail "nobody at the port"

# A client stays when its address goes: another fio, over the second socket.
fio --name=load --ioengine=nbd --uri="nbd+unix:///c?socket=$tmpdir/second.sock" --rw=randrw --bs=4k --iodepth=4 --offset=8M --size=16M --io_size=2G \
    --time_based --runtime=300 --rate_iops=200 --verify=crc32c --verify_backlog=64 --verify_fatal=1 >"$tmpdir/fio2.log" 2>&1 &
second=$!
cleanup_fn end_process $second
wait_until 60 eval '[ "$(blkcachectl --json status | jq .nbd.connections)" = 2 ]'
nbd_settings="connections_max = 3; requests_max = 2; idle_timeout = \"2s\";"
listening "tcp:127.0.0.1:$port" "unix:$nbd_socket"
blkcachectl reload >/dev/null || fail "reload"
[ -e "$tmpdir/second.sock" ] && fail "the socket that went has left its file"
over "$tmpdir/second.sock" && fail "the second socket still answers"
over "$nbd_socket" || fail "the first socket does not answer"
[ "$(limit connections_max) $(limit requests_max) $(limit idle_timeout_seconds)" = "3 2 2" ] || fail "limits: $(blkcachectl --json status)"
writes() { blkcachectl --json stats c | jq '.volumes[0].counters.write_pieces'; }
count=$(writes)
goes_on() { [ "$(writes)" -gt $((count + 50)) ]; }
wait_until 60 goes_on
# The third connection is the last one that is let in; it obeys the new limits, to its end.
wait_for_clients 2
python3 - "$srcdir/tests/system" "$nbd_socket" <<'END' || fail "connections_max or idle_timeout"
import sys, time
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import nbdraw as n
begin = time.monotonic()
with n.Client(sys.argv[2]) as third:
    third.enter(b"a")
    with n.Client(sys.argv[2]) as refused:
        refused.expect_close()
    third.socket.settimeout(60)
    third.expect_close()
    assert time.monotonic() - begin > 1, "dropped early"
END

# What cannot be had changes nothing.
python3 -c "import socket, time
s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(120)" >"$tmpdir/port" &
cleanup_fn end_process $!
wait_until 60 test -s "$tmpdir/port"
nbd_settings="requests_max = 5;"
listening "unix:$tmpdir/third.sock" "tcp:127.0.0.1:$(cat "$tmpdir/port")"
refused "cannot listen on \"tcp:127.0.0.1:$(cat "$tmpdir/port")\"" 'reload without it first'
[ -e "$tmpdir/third.sock" ] && fail "a refused reload leaves a socket"
[ "$(limit requests_max)" = 2 ] || fail "a refused reload changes limits"
over "$nbd_socket" || fail "a refused reload closes a socket"

# Nowhere, and back.
nbd_settings=
listening "unix:$nbd_socket"
sed -i 's|listen = (.*);|listen = ( );|' "$config"
blkcachectl reload >/dev/null || fail "reload"
[ -z "$(listens)" ] || fail "$(listens)"
over "$nbd_socket" && fail "it answers where it should not listen"
listening "unix:$nbd_socket"
blkcachectl reload >/dev/null || fail "reload"
over "$nbd_socket" || fail "the socket does not come back"
[ "$(limit connections_max)" = 1024 ] || fail "limits"
kill -INT $second
wait $second || :
grep -q ': err= 0:' "$tmpdir/fio2.log" || fail "fio: $(cat "$tmpdir/fio2.log")"

# ---- a detached volume comes back

blkcachectl detach d >/dev/null
[ "$(names)" = "a c" ] || fail "$(names)"
blkcachectl reload >/dev/null || fail "reload"
[ "$(names)" = "a c d" ] || fail "$(names)"

# ---- what was set counts until the file says otherwise

blkcachectl set c dirty_max 20 >/dev/null
blkcachectl reload >/dev/null
[ "$(volume c dirty_max_percent)" = 20 ] || fail "set is forgotten"
write_config "$a dirty_max = 35;" "$c mode = \"write-back\"; dirty_max = 25;" "name = \"d\"; backing = \"$tmpdir/d\";"
blkcachectl reload >/dev/null
[ "$(volume c dirty_max_percent)" = 25 ] || fail "the file does not count"

kill -INT $fio_pid
wait $fio_pid || :
grep -q ': err= 0:' "$tmpdir/fio.log" || fail "fio: $(cat "$tmpdir/fio.log")"
qemu-io -f raw -c "read -P 1 0 1M" "$(nbd_uri c)" | grep -q 'read 1048576' || fail "c"
stop_daemon
start_daemon
[ "$(names)" = "a c d" ] || fail "$(names)"
stop_daemon
