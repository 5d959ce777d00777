# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Helpers of the tests of failures, around nbd-fault-server.

declare -A store_pid
requires_built blkcached blkcachectl tests/system/nbd-fault-server tests/system/crash-client

# rules NAME [RULE...]: what the server NAME does from now on; without a rule
# everything works.
rules() {
    local name=$1
    shift
    if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi >"$tmpdir/$name.rules.new"
    mv "$tmpdir/$name.rules.new" "$tmpdir/$name.rules"
}

# start_store NAME [OPTION...]: an NBD server of the file $tmpdir/NAME at
# $tmpdir/NAME.sock, which follows "rules NAME".
start_store() {
    local name=$1
    shift
    rm -f "$tmpdir/$name.sock"
    "$builddir/tests/system/nbd-fault-server" --rules "$tmpdir/$name.rules" "$@" \
        "$tmpdir/$name" "unix:$tmpdir/$name.sock" >>"$tmpdir/$name.log" 2>&1 &
    store_pid[$name]=$!
    cleanup_fn end_store "${store_pid[$name]}"
    wait_for_socket "$tmpdir/$name.sock" "${store_pid[$name]}"
}

# end_store PID: what it holds it may hold for ever, so it is not asked.
end_store() {
    kill -KILL "$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || :
}

# kill_store NAME: SIGKILL; nobody listens there any more.
kill_store() {
    end_store "${store_pid[$1]}"
    rm -f "$tmpdir/$1.sock"
}

# store_uri NAME: for a configuration.
store_uri() {
    echo "nbd+unix:///?socket=$tmpdir/$1.sock"
}

# mount_file NAME: what the server NAME serves becomes the file $tmpdir/NAME.mounted,
# through FUSE. "rules NAME" reach the I/O to it. Offsets are the same.
mount_file() {
    local file=$tmpdir/$1.mounted i
    requires_root
    requires_program nbdfuse
    [ -e /dev/fuse ] || skip "/dev/fuse"
    : >"$file"
    nbdfuse "$file" "$(store_uri "$1")" >>"$tmpdir/nbdfuse.log" 2>&1 &
    cleanup_fn unmount_file "$file" $!
    for ((i = 0; i < 1200; i++)); do
        [ -s "$file" ] && return 0
        kill -0 $! 2>/dev/null || skip "FUSE: $(tail -n 1 "$tmpdir/nbdfuse.log")"
        sleep 0.05
    done
    fail "nothing is mounted at $file"
}

unmount_file() { # FILE PID
    umount -l "$1" 2>/dev/null
    end_process "$2"
}

# flash_with_faults SIZE [OPTION...]: the flash becomes a file whose I/O the rules
# of the server "flash.img" reach.
flash_with_faults() {
    local size=$1
    shift
    flash=$tmpdir/flash.img
    format_flash "$size" "$@" >/dev/null
    start_store flash.img
    mount_file flash.img
    # shellcheck disable=SC2034 # for tests/functions.sh
    flash=$tmpdir/flash.img.mounted
}

# crash_client COMMAND URI RECORD ARGUMENT...: see crash-client.c; fails the test
# where it does.
crash_client() {
    "$builddir/tests/system/crash-client" "$@" >"$3.out" 2>&1 || fail "$(cat "$3.out")"
}

# status PATH: a value of the status, as jq finds it.
status() {
    blkcachectl --json status | jq -r "$1"
}

# counter VOLUME NAME: of the statistics.
counter() {
    blkcachectl --json stats "$1" | jq -r ".volumes[0].counters.$2"
}

# expect WHAT VALUE EXPECTED
expect() {
    [ "$2" = "$3" ] || fail "$1 is $2 instead of $3"
}

# client VOLUME COMMAND...: of qemu-io, on a volume of the daemon; all must succeed.
client() {
    local name=$1 arguments=() command log=$tmpdir/qemu-io.$BASHPID.log
    shift
    for command; do arguments+=(-c "$command"); done
    timeout 60 qemu-io -f raw "${arguments[@]}" "$(nbd_uri "$name")" >"$log" 2>&1 ||
        fail "$name: $*: $(tail -n 3 "$log")"
    if grep -q 'failed' "$log"; then
        fail "$name: $*: $(tail -n 3 "$log")"
    fi
}

# client_fails VOLUME COMMAND ERROR: this one command ends with this error.
client_fails() {
    local log=$tmpdir/qemu-io.$BASHPID.log
    timeout 60 qemu-io -f raw -c "$2" "$(nbd_uri "$1")" >"$log" 2>&1 &&
        fail "$1: $2: did not fail"
    grep -q "$3" "$log" || fail "$1: $2: $(tail -n 3 "$log")"
}

# flash_offset BYTE: where the last block full of this byte lies on the flash.
flash_offset() {
    python3 - "$tmpdir/flash.img" "$1" <<'END'
import sys
data, byte = open(sys.argv[1], "rb").read(), bytes([int(sys.argv[2])]) * 4096
found = [at for at in range(0, len(data), 4096) if data[at:at + 4096] == byte]
print(found[-1] if found else "nowhere")
END
}

# flip_flash OFFSET: changes one byte of the flash below everybody.
flip_flash() {
    python3 - "$tmpdir/flash.img" "$1" <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    byte = file.read(1)[0]
    file.seek(int(sys.argv[2]))
    file.write(bytes([byte ^ 16]))
END
}
