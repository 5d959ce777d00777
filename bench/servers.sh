# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The NBD servers that are measured beside each other, each started the same
# way by every benchmark.  Set before sourcing: build (where blkcached is),
# floor (the floor server); before server_start: backing, flash (device or
# file), server_folder (for sockets, logs and settings).

# shellcheck disable=SC2034 # used by who sources this
all_servers="floor floor-no-io nbdkit nbdkit-page-cache qemu-nbd blkcached-flash blkcached-ram"

# shellcheck disable=SC2034
declare -A server_title=(
    [floor]="floor"
    [floor-no-io]="floor without device I/O"
    [nbdkit]="nbdkit file cache=none"
    [nbdkit-page-cache]="nbdkit file"
    [qemu-nbd]="qemu-nbd io_uring"
    [blkcached-flash]="blkcached, from flash"
    [blkcached-ram]="blkcached, from RAM tier"
)

# What each server's process id is, once started.
declare -A server_pid=()

# server_lacks NAME: says what is missing for this server, or fails if nothing.
server_lacks() {
    local program
    case $1 in
    floor*) [ -x "$floor" ] || { echo "the floor server is not built" && return; } ;;
    nbdkit*) command -v nbdkit >/dev/null || { echo "no nbdkit (package nbdkit)" && return; } ;;
    qemu-nbd) command -v qemu-nbd >/dev/null || { echo "no qemu-nbd (package qemu-utils)" && return; } ;;
    blkcached*)
        for program in blkcached blkcachectl; do
            [ -x "$build/$program" ] || { echo "$program is not built in $build" && return; }
        done
        ;;
    esac
    return 1
}

server_version() {
    case $1 in
    nbdkit*) nbdkit --version ;;
    qemu-nbd) qemu-nbd --version ;;
    blkcached*) "$build/blkcached" --version ;;
    *) return ;;
    esac 2>/dev/null | head -n 1
}

server_socket() { echo "$server_folder/$1.sock"; }
server_uri() { echo "nbd+unix:///?socket=$(server_socket "$1")"; }

# server_start NAME: returns once it serves, or says why it does not.
server_start() {
    local name=$1 socket log=$server_folder/$1.log config=$server_folder/$1.conf deadline
    local command=()
    socket=$(server_socket "$name")
    case $name in
    floor) command=("$floor" "$socket" "$backing") ;;
    floor-no-io) command=("$floor" --no-io "$socket" "$backing") ;;
    # Like the others, to the device with each request.
    nbdkit) command=(nbdkit --foreground --unix "$socket" file "$backing" cache=none) ;;
    nbdkit-page-cache) command=(nbdkit --foreground --unix "$socket" file "$backing") ;;
    qemu-nbd)
        command=(qemu-nbd --persistent --format=raw --cache=none --aio=io_uring
            --shared=0 --socket="$socket" "$backing")
        ;;
    blkcached-*)
        local ram=0
        [ "$name" = blkcached-flash ] || ram=${blkcached_ram:-64M}
        # A fresh flash: what is in there comes from the warm passes alone.
        mkdir -p "$server_folder/$name.state"
        # shellcheck disable=SC2086 # options
        "$build/blkcachectl" format --force ${flash_options-} "$flash" >"$log" 2>&1 || {
            cat "$log" >&2
            return 1
        }
        cat >"$config" <<END
daemon = {
  control = "$server_folder/$name.control"; state_dir = "$server_folder/$name.state";
  metrics = ""; cores = [ 0 ];
};
cache = { flash = "$flash"; ram = "$ram"; };
nbd = { listen = ( "unix:$socket" ); };
volumes = (
  { name = "bench"; backing = "$backing"; mode = "write-back"; sequential_cutoff = "0"; }
);
END
        command=("$build/blkcached" --foreground -c "$config")
        ;;
    esac
    rm -f "$socket"
    "${command[@]}" </dev/null >>"$log" 2>&1 &
    server_pid[$name]=$!
    deadline=$((SECONDS + 20))
    until nbdinfo --size "$(server_uri "$name")" >/dev/null 2>&1; do
        if ! kill -0 "${server_pid[$name]}" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            echo "$name does not serve:" >&2
            tail -n 20 "$log" >&2
            return 1
        fi
        sleep 0.05
    done
}

server_stop() {
    local pid=${server_pid[$1]-}
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    unset "server_pid[$1]"
}
