#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test is listed in its folder's module.am, and so runs; every source is
# listed in one, and so gets into a release.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

cd "$srcdir"
project_files '*.am' >"$tmpdir/modules"
xargs -d '\n' cat <"$tmpdir/modules" | tr -s ' \t\\' '\n' >"$tmpdir/listed"
project_files '*.c' '*.h' 'tests/*/test-*.sh' | while IFS= read -r file; do
    grep -q -x -F -e "$file" "$tmpdir/listed" || echo "  $file"
done | expect_nothing "files that no module.am lists"
