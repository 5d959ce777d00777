#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tests that documents name are there, and so are the documents; each complaint in
# docs/operations.md has a command and a test.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

cd "$srcdir" || exit
project_files '*.md' >"$tmpdir/documents"
[ -s "$tmpdir/documents" ] || fail "no documents"

xargs -d '\n' grep -o -E '\btest-[a-z0-9]+(-[a-z0-9]+)*\b' <"$tmpdir/documents" | sort -u | while IFS=: read -r document name; do
    [ -n "$(compgen -G "tests/*/$name.*")" ] || echo "  $document: $name"
done | expect_nothing "tests that are named and not there"

project_files 'tests/*.py' 'tests/*.c' | xargs -d '\n' cat >"$tmpdir/sources"
xargs -d '\n' grep -o -E '\btest_[a-z0-9_]+\b' <"$tmpdir/documents" | grep -v '_\(programs\|scripts\|helpers\)$' | sort -u | while IFS=: read -r document name; do
    grep -q -E "\b$name\b" "$tmpdir/sources" || echo "  $document: $name"
done | expect_nothing "test cases that are named and not there"

xargs -d '\n' grep -o -E '\b(docs|bench|conf|tests)/[a-z0-9/-]+\.(md|sh|yml|json|conf|py)\b' <"$tmpdir/documents" | sort -u | while IFS=: read -r document name; do
    [ -e "$name" ] || echo "  $document: $name"
done | expect_nothing "files that are named and not there"

sed -n '/^| complaint/,/^$/p' docs/operations.md | sed 1,2d | grep . >"$tmpdir/complaints"
[ "$(wc -l <"$tmpdir/complaints")" -ge 9 ] || fail "complaints are missing"
grep -v -E '^\| [^|]+ \| [^|]+ \| (test-[a-z0-9-]+(, )?)+ \|$' "$tmpdir/complaints" |
    expect_nothing "complaints without a command or a test"
