#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Short scripts: an error at every single I/O, on flash and on the backing store.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --script all --every error
