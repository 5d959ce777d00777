#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A C source past 600 lines is asking to become two; past 900 it must.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

cd "$srcdir"
project_files '*.[ch]' | while IFS= read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 900 ]; then
        echo "  $file: $lines lines"
    elif [ "$lines" -gt 600 ]; then
        echo "warning: $file has $lines lines" >&2
    fi
done | expect_nothing "sources longer than 900 lines"
