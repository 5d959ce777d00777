#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every source says its license in its first lines.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

cd "$srcdir"
{
    project_files '*.c' '*.h' '*.am' '*.ac' '*.sh' '*.py' '*.awk' '*.js' '*.service*' '*.socket*' .clang-format
    # Scripts are known by their first two bytes.
    project_files '*' | while IFS= read -r file; do
        if [ "$(head -c 2 "$file" | tr -d '\0')" = '#!' ]; then echo "$file"; fi
    done
} | sort -u | while IFS= read -r file; do
    head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' || echo "  $file"
done | expect_nothing "files without the line \"SPDX-License-Identifier: Apache-2.0\""
