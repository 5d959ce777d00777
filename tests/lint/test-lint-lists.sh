#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test is listed in its folder's module.am, and so runs; every source is
# listed in one, and so gets into a release.  What is listed is there.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

cd "$srcdir"
project_files '*.am' >"$tmpdir/modules"
xargs -d '\n' cat <"$tmpdir/modules" | tr -s ' \t\\' '\n' >"$tmpdir/listed"
project_files '*.c' '*.h' 'tests/*/test-*.sh' | while IFS= read -r file; do
    grep -q -x -F -e "$file" "$tmpdir/listed" || echo "  $file"
done | expect_nothing "files that no module.am lists"

project_files 'tests/*' | LC_ALL=C sort >"$tmpdir/files"
grep -x -E 'tests/[a-z]+/test-[a-z0-9-]+\.sh' "$tmpdir/listed" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$tmpdir/files" |
    expect_nothing "tests that a module.am lists and that are not there"
