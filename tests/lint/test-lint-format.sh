#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# C sources are laid out as .clang-format says ("make format" does it).
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files
requires_program clang-format

# Other versions lay out some things differently.
version=$(clang-format --version | sed -E 's/.*version ([0-9]+).*/\1/')
[ "$version" = 14 ] || skip "clang-format 14 (found $version)"

project_files '*.[ch]' >"$tmpdir/files"
cd "$srcdir"
xargs -d '\n' -r clang-format --dry-run <"$tmpdir/files" 2>&1 |
    sed -n 's/^\([^: ]*:[0-9]*\):.*clang-format-violations.*/  \1/p' | uniq |
    expect_nothing "lines that \"make format\" would change"
