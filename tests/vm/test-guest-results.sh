#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run-guest hands over arguments, output and exit code, keeps the host's files
# as they are but for shared folders and disks, and notices a crash.
. "$srcdir/tests/functions.sh"

run_guest=$srcdir/tests/vm/run-guest
"$run_guest" --prepare || exit

cat >"$tmpdir/script" <<'END'
#!/bin/bash
echo "out <$1> <$2> $VALUE $(nproc)"
echo "err" >&2
echo changed >"$(dirname "$0")/private" || exit 1
echo changed >"$(dirname "$0")/shared/file" || exit 1
echo changed | dd of=/dev/vda conv=fsync status=none || exit 1
case $1 in crash) echo c >/proc/sysrq-trigger ;; sleep) sleep 1000 ;; esac
exit 42
END
chmod +x "$tmpdir/script"
mkdir "$tmpdir/shared"
truncate -s 1M "$tmpdir/disk"
export VALUE="a  b"

status=0
"$run_guest" --timeout 120 --smp 2 --env VALUE --share "$tmpdir/shared" --disk "$tmpdir/disk" \
    "$tmpdir/script" "x y" '*' >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
cat "$tmpdir/out" "$tmpdir/err"
[ $status = 42 ] || fail "exit code $status, not 42"
[ "$(cat "$tmpdir/out")" = "out <x y> <*> a  b 2" ] || fail "wrong output"
[ "$(cat "$tmpdir/err")" = "err" ] || fail "wrong error output"
[ ! -e "$tmpdir/private" ] || fail "the guest wrote to the host"
[ "$(cat "$tmpdir/shared/file")" = changed ] || fail "nothing in the shared folder"
[ "$(head -c 7 "$tmpdir/disk")" = changed ] || fail "nothing on the disk"

status=0
"$run_guest" --timeout 120 --share "$tmpdir/shared" --disk "$tmpdir/disk" \
    "$tmpdir/script" crash x >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
[ $status = 125 ] || fail "exit code $status after a crash, not 125"
grep -q 'sysrq' "$tmpdir/err" || fail "the console of the crash was not shown"

grep -q 'booting again' "$tmpdir/err" && fail "a script that crashed the guest was run again"

# A kernel that dies while it boots is tried three times, and no more.
status=0
"$run_guest" --timeout 120 --append 'rdinit=/nothing init=/nothing' "$tmpdir/script" x x \
    >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
[ $status = 125 ] || fail "exit code $status after three failed boots, not 125"
[ "$(grep -c 'booting again' "$tmpdir/err")" = 2 ] || fail "not booted three times: $(cat "$tmpdir/err")"

status=0
"$run_guest" --timeout 15 --share "$tmpdir/shared" --disk "$tmpdir/disk" \
    "$tmpdir/script" sleep x >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
[ $status = 124 ] || fail "exit code $status after the time limit, not 124"

# No kernel and no way to get one: a reason, and the code for skipped tests.
mkdir "$tmpdir/bin"
printf '#!/bin/sh\necho "E: no network" >&2\nexit 100\n' >"$tmpdir/bin/apt-get"
chmod +x "$tmpdir/bin/apt-get"
status=0
PATH=$tmpdir/bin:$PATH BLKCACHED_VM_CACHE=$tmpdir/cache \
    "$run_guest" "$tmpdir/script" 2>"$tmpdir/err" || status=$?
[ $status = 77 ] || fail "exit code $status without a kernel, not 77"
grep -q '^SKIP: ' "$tmpdir/err" || fail "no reason for skipping"
