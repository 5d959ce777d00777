#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""loop-limit.py DEVICE BYTES: lets a loop device that is in use end after BYTES, as if the rest had
been torn out; 0: it has its full size, and its content, again."""
import fcntl
import os
import sys

LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
SIZE, LIMIT = 232, 32  # of struct loop_info64, and where its lo_sizelimit is

device = os.open(sys.argv[1], os.O_RDONLY)
info = bytearray(SIZE)
fcntl.ioctl(device, LOOP_GET_STATUS64, info)
info[LIMIT:LIMIT + 8] = int(sys.argv[2]).to_bytes(8, "little")
fcntl.ioctl(device, LOOP_SET_STATUS64, bytes(info))
