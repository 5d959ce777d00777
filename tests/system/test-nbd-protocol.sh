#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The NBD front end, alone, answers as the protocol's document says, and
# survives clients that do not care: on one core and on several, with answers
# at once and later, and with hardly any memory for payloads.
. "$srcdir/tests/functions.sh"
. "$srcdir/tests/system/nbd-memory.sh"
requires_program python3
requires_built tests/system/nbd-memory-server

for options in "--cores 1" "--cores 3 --delay 200" "--cores 2 --delay 1000 --buffers 1M"; do
    echo "==== $options"
    # shellcheck disable=SC2086 # they are words
    start_memory_server $options
    PYTHONDONTWRITEBYTECODE=1 GARBAGE_SECONDS=2 python3 "$srcdir/tests/system/nbd-protocol.py" "$tmpdir/memory.sock" \
        memory read-only broken || fail "with $options"
    stop_memory_server
    expect_counter connections_open 0
done
