#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/flash-format.md describes every field of engine/format.h.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/lint/files.sh"

# The members of each structure, and the constants of each enumeration.
awk '
    /^struct [a-z_]+ \{/ { inside = 1; next }
    /^enum [a-z_]+ \{/ { constants = 1; next }
    /^\}/ { inside = constants = 0 }
    inside && match($0, /[a-z_0-9]+(\[[A-Z_]*[0-9]*\])?;/) {
        name = substr($0, RSTART, RLENGTH); sub(/[[;].*/, "", name); print name
    }
    constants && match($0, /^    [A-Z_]+/) { print substr($0, 5, RLENGTH - 4) }
' "$srcdir/engine/format.h" | sort -u >"$tmpdir/names"
[ "$(wc -l <"$tmpdir/names")" -gt 50 ] || fail "the names are not found in engine/format.h"

while read -r name; do
    case $name in VOLUME_FREE | VOLUME_ACTIVE) continue ;; esac # 0 and 1 of the field state
    grep -q -F -e "\`$name\`" "$srcdir/docs/flash-format.md" || echo "  $name"
done <"$tmpdir/names" | expect_nothing "names of engine/format.h that docs/flash-format.md does not explain"
