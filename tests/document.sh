# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Runs what a document says, so that document and test cannot drift apart:
#
#     . "$srcdir/tests/document.sh"
#     document_open docs/cases.md vm      # its blocks vm-*
#     document_replace 64G 128M           # sizes and places that this machine has not
#     document vm-start                   # runs these blocks, in the order of the document
#     document_done                       # fails unless all were run, in order
#
# A block is marked behind the language of its fence: "```sh run=vm-start" is run by
# the calling shell, so that the test's functions stand in for programs; "```conf
# run=vm-start file=/etc/x" becomes that file. Blocks without run= are for the eye.

# document_open FILE PREFIX
document_open() {
    document_file=$srcdir/$1
    document_edits=()
    document_left=$(sed -nE "s/^\`\`\`[a-z]+ run=($2-[a-z0-9-]+)( .*)?$/\1/p" "$document_file" | uniq)
    [ -n "$document_left" ] || fail "$1 has no blocks run=$2-..."
}

# document_replace TEXT OTHER: in every block that is run from now on.
document_replace() {
    grep -qF -- "$1" "$document_file" || fail "${document_file##*/} does not say \"$1\""
    document_edits+=(-e "s|$(sed 's/[][\.*^$|]/\\&/g' <<<"$1")|$2|g")
}

# document_root DIRECTORY: what is said to be in /etc, /run, /srv and /var is there instead.
document_root() {
    document_edits+=(-e "s#(^|[^a-zA-Z0-9.])/(etc|run|srv|var)/#\1$1/\2/#g")
}

# document_script NAME: the blocks of that name as a script.
document_script() {
    awk -v name="$1" '
        /^```/ && !inside {
            inside = 1; wanted = 0; file = ""
            for (i = 2; i <= NF; i++) {
                if ($i == "run=" name) wanted = 1
                if ($i ~ /^file=/) file = substr($i, 6)
            }
            if (wanted && file != "") print "mkdir -p \"$(dirname " file ")\"\ncat >" file " <<\"END OF BLOCK\""
            next
        }
        /^```/ { if (wanted && file != "") print "END OF BLOCK"; inside = wanted = 0; next }
        wanted { print }' "$document_file" | sed -E "${document_edits[@]}" -e ''
}

# document NAME
document() {
    [ "${document_left%%$'\n'*}" = "$1" ] || fail "$1 is not the next block; left: $document_left"
    document_left=$(sed 1d <<<"$document_left")
    document_script "$1" >"$tmpdir/block"
    [ -s "$tmpdir/block" ] || fail "the block $1 is empty"
    # shellcheck source=/dev/null
    . "$tmpdir/block" || fail "$1, that is: $(cat "$tmpdir/block")"
}

document_done() {
    [ -z "$document_left" ] || fail "these blocks were not run: $document_left"
}
