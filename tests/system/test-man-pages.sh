#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The manual pages, --help, the table of keys and bash's completion name the same
# options, verbs and keys: all that are there, and none that is not.
. "$srcdir/tests/functions.sh"
requires_built blkcached blkcachectl
man=$srcdir/man

# plain FILE: a page without the markup that hides words.
plain() {
    sed -e 's/\\-/-/g' -e 's/\\f[BIR]//g' "$1"
}

# same WHAT A B: two files of lines have the same lines.
same() {
    sort -u "$2" >"$tmpdir/one"
    sort -u "$3" >"$tmpdir/other"
    [ -s "$tmpdir/one" ] || fail "$1: none found"
    diff "$tmpdir/one" "$tmpdir/other" || fail "$1 differ"
}

# ---- options of the two programs

for program in blkcached blkcachectl; do
    "$builddir/$program" --help >"$tmpdir/$program.help"
    plain "$man/$program.8" >"$tmpdir/$program.page"
    sed -n -e '/^Verbs for/q' -e 's/^ *\(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p' "$tmpdir/$program.help" >"$tmpdir/options.help"
    sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/s/^\.B[IR]* \(.*" \)\{0,1\}\(--[a-z-]*\).*/\2/p' "$tmpdir/$program.page" \
        >"$tmpdir/options.page"
    same "options of $program" "$tmpdir/options.help" "$tmpdir/options.page"
done

# ---- verbs, with their usage

sed -n '/^Verbs for/,$s/^  \([a-z].*[^:]\)$/\1/p' "$tmpdir/blkcachectl.help" | grep -v '^format: ' >"$tmpdir/verbs.help"
sed -n '/^\.SH VERBS/,/^\.SH EXIT/s/^\.B \(.*\)/\1/p' "$tmpdir/blkcachectl.page" >"$tmpdir/verbs.page"
same "verbs" "$tmpdir/verbs.help" "$tmpdir/verbs.page"
! grep -q 'not available' "$tmpdir/blkcachectl.help" "$tmpdir/blkcachectl.page" || fail "a verb is not available"

# ---- completion

# complete WORD...: prints what bash would offer for the last one.
complete_words() (
    set +eu +o pipefail # as in a shell of a person
    . "$srcdir/completion/blkcachectl"
    COMP_WORDS=("$builddir/blkcachectl" "$@")
    COMP_CWORD=$#
    _blkcachectl
    printf '%s\n' "${COMPREPLY[@]}"
)
cut -d' ' -f1 "$tmpdir/verbs.help" >"$tmpdir/names.help"
complete_words '' >"$tmpdir/names.completion"
same "verbs that are completed" "$tmpdir/names.help" "$tmpdir/names.completion"
while read -r verb usage; do
    { echo --socket && echo --help && { [ "$verb" = dump ] || echo --json; } && { grep -o -e '--[a-z-]*' <<<"$usage" || :; }; } >"$tmpdir/of.help"
    complete_words "$verb" -- >"$tmpdir/of.completion"
    same "options of $verb that are completed" "$tmpdir/of.help" "$tmpdir/of.completion"
done <"$tmpdir/verbs.help"
truncate -s 16M "$tmpdir/a"
format_flash 64M >/dev/null
write_config "name = \"db\"; backing = \"$tmpdir/a\";"
start_daemon
[ "$(complete_words -s "$control_socket" flush d)" = db ] || fail "volumes are not completed"
stop_daemon

# ---- keys of the configuration, by group

plain "$man/blkcached.conf.5" >"$tmpdir/conf.page"
groups=(DAEMON:DAEMON CACHE:CACHE NBD:NBD TLS:"NBD TLS" VOLUME:VOLUMES)
for group in "${groups[@]}"; do
    sed -n "/^#define CONFIG_${group%%:*}_KEYS/,/^\$/s/.*X(\([a-z_]*\), [a-z]*, .*/\1/p" \
        "$srcdir/daemon/config-keys.h" >"$tmpdir/keys.table"
    sed -n "/^\.SH ${group#*:}\$/,/^\.SH/s/^\.B \(.*\)/\1/p" "$tmpdir/conf.page" >"$tmpdir/keys.page"
    same "keys of ${group#*:}" "$tmpdir/keys.table" "$tmpdir/keys.page"
done

# ---- the pages are well-formed

command -v man >/dev/null || exit 0
for page in "$man"/*.[58]; do
    LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l "$page" 2>"$tmpdir/warnings" >/dev/null || fail "$page"
    [ ! -s "$tmpdir/warnings" ] || fail "$page: $(cat "$tmpdir/warnings")"
done
