#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No file names a place that exists on its author's machine only. In tests/vm
# the root home directory is the guest's.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

project_files '*' >"$tmpdir/files"
cd "$srcdir"
xargs -d '\n' -r grep -n -H -I -E '(^|[[:space:]"'\''`=(:,<>[])/(root|work|home)(/|[^[:alnum:]_-]|$)' \
    <"$tmpdir/files" |
    grep -v -E '^tests/vm/[^:]*:[0-9]+:.*/root' |
    sed 's/^/  /' | expect_nothing "paths of one machine"
