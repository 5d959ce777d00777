#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Short scripts: a power cut after every step, and the death of the process after every step.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --script all --every crash --variants 2
