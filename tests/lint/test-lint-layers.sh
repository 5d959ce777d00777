#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Layers point one way: common <- engine <- io <- frontends <- daemon, and the
# front ends do not know each other.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"
requires_project_files

project_files '*.[ch]' >"$tmpdir/files"
cd "$srcdir"
xargs -d '\n' -r grep -n -H -E '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' <"$tmpdir/files" |
    awk '
    BEGIN { rank["common"] = 1; rank["engine"] = 2; rank["io"] = 3; rank["frontends"] = 4; rank["daemon"] = 5 }
    {
        split($0, part, ":"); file = part[1]; line = part[2]
        included = $0; sub(/^[^"]*"/, "", included); sub(/".*/, "", included)
        split(file, from, "/"); split(included, to, "/")
        where = "  " file ":" line ": " included
        # Programs beside the daemon (tests, measurements) may use every layer.
        if (!(from[1] in rank)) next
        if (!(to[1] in rank)) { print where " (not named from the top, or not a layer)"; next }
        if (rank[to[1]] > rank[from[1]]) print where " (points up)"
        if (from[1] == "frontends" && to[1] == "frontends" && from[2] != to[2])
            print where " (another front end)"
    }' | expect_nothing "includes that break the layering"
