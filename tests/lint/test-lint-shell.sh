#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shell scripts pass shellcheck.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files
requires_program shellcheck

cd "$srcdir"
{
    project_files '*.sh'
    project_files '*' | while IFS= read -r file; do
        if head -n 1 "$file" | tr -d '\0' | grep -q -E '^#! ?/bin/(ba|da)?sh'; then echo "$file"; fi
    done
} | sort -u >"$tmpdir/files"
# Sourced files are checked by themselves.
xargs -d '\n' -r shellcheck --severity=warning --exclude=SC1090,SC1091,SC2154 <"$tmpdir/files" ||
    fail "shellcheck found something"
