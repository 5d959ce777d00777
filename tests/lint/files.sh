# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Helpers of the lint tests.

# Commands that find nothing end with 1, and finding nothing is what is wanted.
set +o pipefail

# requires_project_files: skip where it is unknown which files are the project's
# and which were generated, as in a release tarball.
requires_project_files() {
    cd "$srcdir" || exit
    if [ -e .git ] && git ls-files >"$tmpdir/project-files" 2>/dev/null; then
        :
    elif [ -e .project-files ]; then # left by scripts/build in its copy
        cp .project-files "$tmpdir/project-files"
    else
        skip "a git checkout"
    fi
}

# project_files PATTERN...: the project's own files that match, one a line,
# relative to the top. Call requires_project_files first.
project_files() {
    local patterns=("$@") path pattern
    while IFS= read -r path; do
        [ -f "$srcdir/$path" ] || continue
        for pattern in "${patterns[@]}"; do
            # shellcheck disable=SC2053 # patterns, not strings
            if [[ $path == $pattern ]]; then
                printf '%s\n' "$path"
                break
            fi
        done
    done <"$tmpdir/project-files"
}

# Prints what is on stdin and fails the test if there was anything; WHAT says
# which rule that broke.
expect_nothing() {
    local found
    found=$(cat)
    [ -z "$found" ] || fail "$1:"$'\n'"$found"
}
