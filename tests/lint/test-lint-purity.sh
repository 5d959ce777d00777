#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# I9: the engine does no I/O, reads no clock and allocates nothing, and keeps
# no state outside the shard. Its object code refers to nothing that could.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_program "${NM:-nm}" size

library=$builddir/libengine.a
allowed=$srcdir/tests/lint/purity-allowed.txt
[ -e "$library" ] || fail "$library has not been built"

# What the engine's objects define for each other is no dependency.
"${NM:-nm}" -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 { print $3 }' |
    sort -u >"$tmpdir/defined"
"${NM:-nm}" -u "$library" 2>/dev/null | awk 'NF == 2 { print $2 }' |
    sort -u >"$tmpdir/undefined"
comm -13 "$tmpdir/defined" "$tmpdir/undefined" |
    grep -v -x -E -f <(grep -v -e '^#' -e '^$' "$allowed") |
    expect_nothing "the engine refers to symbols that tests/lint/purity-allowed.txt does not allow"

# Sanitizers add writable data of their own.
if [ "$SANITIZER" = none ]; then
    size -A "$library" |
        awk '/^[^ ].*\(ex / { object = $1 }
             ($1 ~ /^\.(data|bss|tdata|tbss)$/ || $1 ~ /^\.(data|bss)\.[^r]/) && $2 > 0 {
                 print "  " object ": " $2 " bytes in " $1 }' |
        expect_nothing "the engine has writable global or static data"
fi
