#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-failure-backing-error.sh with a file as backing store, on a file system
# that fails.
export KIND=file
. "$srcdir/tests/system/test-failure-backing-error.sh"
