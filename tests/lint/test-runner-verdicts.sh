#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The test runner: verdicts, reasons, logs of failures, time limit, summary.
. "$srcdir/tests/functions.sh"

mkdir -p "$tmpdir/source/tests" "$tmpdir/build"
cd "$tmpdir/source/tests"
echo 'echo fine' >test-pass.sh
echo 'echo some reason for failing; exit 3' >test-fail.sh
echo 'echo "SKIP: kernel module foo"; exit 77' >test-skip.sh
echo 'sleep 1000' >test-slow.sh
echo 'kill -SEGV $$' >test-crash.sh
# shellcheck disable=SC2016 # for the test's own shell
echo '. "$REAL/tests/functions.sh"; cleanup_fn touch "$MARK"; requires_program no-such-program' >test-lacks.sh

# run_them TEST...: output in $output, exit status in $status.
run_them() {
    status=0
    output=$(env REAL="$srcdir" MARK="$tmpdir/mark" SANITIZER=none TEST_TIMEOUT=5 \
        srcdir="$tmpdir/source" builddir="$tmpdir/build" "$srcdir/tests/run" "$@" 2>&1) || status=$?
    echo "$output"
}
expect() {
    grep -q -x -E -e "$1" <<<"$output" || fail "no line: $1"
}
last_line() {
    [ "$(tail -n 1 <<<"$output")" = "$1" ] || fail "the last line is not: $1"
}

run_them tests/test-pass.sh tests/test-skip.sh
[ $status -eq 0 ] || fail "status $status though nothing failed"
expect 'PASS: tests/test-pass.sh .*'
expect 'SKIP: tests/test-skip.sh: kernel module foo .*'
last_line "1 passed, 0 failed, 1 skipped"

run_them tests/test-pass.sh tests/test-fail.sh tests/test-slow.sh tests/test-crash.sh tests/missing
[ $status -ne 0 ] || fail "status 0 though tests failed"
expect 'FAIL: tests/test-fail.sh .*'
expect 'some reason for failing'
expect 'FAIL: tests/test-slow.sh .*'
expect 'TIMEOUT: killed after 5 seconds'
expect 'FAIL: tests/test-crash.sh .*'
expect 'FAIL: tests/missing .*'
last_line "1 passed, 4 failed, 0 skipped"

run_them tests/test-lacks.sh
expect 'SKIP: tests/test-lacks.sh: program no-such-program .*'
[ -e "$tmpdir/mark" ] || fail "the cleanup of a skipped test did not run"
