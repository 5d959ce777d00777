# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Helpers of the lint tests.

# Commands that find nothing end with 1, and finding nothing is what is wanted.
set +o pipefail

# project_files PATTERN...: the project's own files that match, one a line,
# relative to the top: tracked ones in a git checkout, all in a tarball.
project_files() {
    cd "$srcdir" || exit
    local patterns=("$@") path pattern
    {
        if [ -e .git ] && git rev-parse --git-dir >/dev/null 2>&1; then
            git ls-files
        else
            find . \( -path ./build -o -path ./build-aux -o -path ./autom4te.cache \) -prune \
                -o -type f -printf '%P\n'
        fi
    } | LC_ALL=C sort | while IFS= read -r path; do
        [ -f "$path" ] || continue
        for pattern in "${patterns[@]}"; do
            # shellcheck disable=SC2053 # patterns, not strings
            if [[ $path == $pattern ]]; then
                printf '%s\n' "$path"
                break
            fi
        done
    done
}

# Prints what is on stdin and fails the test if there was anything; WHAT says
# which rule that broke.
expect_nothing() {
    local found
    found=$(cat)
    [ -z "$found" ] || fail "$1:"$'\n'"$found"
}
