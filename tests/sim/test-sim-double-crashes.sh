#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Short scripts: a power cut, and another one during the recovery from it.
. "$srcdir/tests/functions.sh"

"$builddir/tests/sim/blkcache-sim" --script all --every double --stride 10
