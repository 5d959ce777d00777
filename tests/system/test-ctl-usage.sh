#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Exit codes and messages of blkcachectl that need no daemon: 1 failed, 2 wrong
# usage, 3 not reachable; one line on stderr, "blkcachectl: WHAT: WHY".
. "$srcdir/tests/functions.sh"
requires_built blkcachectl

# expect STATUS STDERR ARGUMENT...: exactly this.
expect() {
    local wanted=$1 text=$2 status=0
    shift 2
    "$builddir/blkcachectl" "$@" >"$tmpdir/out" 2>"$tmpdir/err" || status=$?
    [ $status -eq "$wanted" ] || fail "blkcachectl $*: status $status instead of $wanted"
    [ "$(cat "$tmpdir/err")" = "$text" ] || fail "blkcachectl $*: said: $(cat "$tmpdir/err")"
}

expect 2 "blkcachectl: usage: no verb given; see blkcachectl --help"
expect 2 "blkcachectl: --foo: unknown option; see blkcachectl --help" --foo
expect 2 "blkcachectl: -s: needs a value; see blkcachectl --help" -s
expect 2 "blkcachectl: statsu: unknown verb, did you mean \"status\"?; see blkcachectl --help" statsu
expect 2 "blkcachectl: xyzzy: unknown verb; see blkcachectl --help" xyzzy
expect 2 "blkcachectl: status: too many arguments; usage: blkcachectl status" status now
expect 2 "blkcachectl: check: an argument is missing; usage: blkcachectl check PATH" check
expect 2 "blkcachectl: flush: unknown option --now; usage: blkcachectl flush [VOLUME] [--wait]" \
    flush --now

expect 2 "blkcachectl: top: \"0\" is no number of times; usage: blkcachectl top [--count N]" top --count 0

expect 2 "blkcachectl: dump: it is for people, without --json; \"check --json\" is for programs; usage: blkcachectl \
dump [--segment N] PATH" dump --json "$tmpdir"
expect 0 "" flush --wait --help
[ "$(head -n 1 "$tmpdir/out")" = "Usage: blkcachectl flush [VOLUME] [--wait]" ] || fail "flush --help: $(cat "$tmpdir/out")"

# Nobody there, with a socket or without.
none=$tmpdir/none.sock
for arguments in status volumes stats flush shutdown; do
    expect 3 "blkcachectl: $none: No such file or directory; is blkcached running, and is this its daemon.control?" \
        -s "$none" $arguments
done
expect 3 "blkcachectl: $none: No such file or directory; is blkcached running, and is this its daemon.control?" \
    status -s "$none"
expect 3 "blkcachectl: $tmpdir: Connection refused; is blkcached running, and is this its daemon.control?" \
    -s "$tmpdir" status

"$builddir/blkcachectl" --help >"$tmpdir/help" || fail "--help"
for verb in status volumes stats set flush attach detach prefetch invalidate pause-fill \
    resume-fill mrc events top reload shutdown format check dump; do
    grep -q "^  $verb" "$tmpdir/help" || fail "--help does not name $verb"
done
"$builddir/blkcachectl" --version | grep -q '^blkcachectl [0-9]' || fail "--version"
