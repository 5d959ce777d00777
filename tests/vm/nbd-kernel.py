# SPDX-License-Identifier: Apache-2.0
"""The kernel's NBD client, told over netlink what nbd-client 3.24 cannot tell it.

nbd-kernel.py INDEX patience SECONDS           requests wait so long for a new connection when
                                               all are dead
nbd-kernel.py INDEX reconnect SOCKET EXPORT N  new connections in the place of N dead ones
"""
import errno
import os
import socket
import struct
import sys

import nbdraw

NETLINK_GENERIC, CONTROL_FAMILY, CONTROL_GET_FAMILY = 16, 16, 3
ATTRIBUTE_FAMILY_ID, ATTRIBUTE_FAMILY_NAME = 1, 2
REQUEST, ACKNOWLEDGE, ERROR, NESTED = 1, 4, 2, 0x8000
RECONFIGURE = 3
INDEX, SOCKETS, DEAD_CONNECTION_TIMEOUT, SOCKET_ITEM, SOCKET_FD = 1, 7, 8, 1, 1


def attribute(kind, data):
    """One attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def ask(netlink, family, command, attributes):
    """Sends a message; what comes before the acknowledgement.  OSError if it is refused."""
    body = struct.pack("=BBH", command, 1, 0) + attributes
    head = struct.pack("=IHHII", len(body) + 16, family, REQUEST | ACKNOWLEDGE, 1, 0)
    netlink.send(head + body)
    answers = b""
    while True:
        data = netlink.recv(1 << 16)
        while data:
            length, kind = struct.unpack("=IH", data[:6])
            if kind == ERROR:
                (error,) = struct.unpack("=i", data[16:20])
                if error:
                    raise OSError(-error, os.strerror(-error))
                return answers
            answers += data[20:length]
            data = data[(length + 3) & ~3 :]


def family_of(netlink, name):
    """The number of a family of messages."""
    data = ask(netlink, CONTROL_FAMILY, CONTROL_GET_FAMILY,
               attribute(ATTRIBUTE_FAMILY_NAME, name + b"\0"))
    while data:
        length, kind = struct.unpack("=HH", data[:4])
        if kind == ATTRIBUTE_FAMILY_ID:
            return struct.unpack("=H", data[4:6])[0]
        data = data[(length + 3) & ~3 :]
    raise OSError(errno.ENOENT, "no such family")


def main(index, what, *arguments):
    """See above."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as netlink:
        family = family_of(netlink, b"nbd")
        device = attribute(INDEX, struct.pack("=I", int(index)))
        if what == "patience":
            ask(netlink, family, RECONFIGURE, device + attribute(
                DEAD_CONNECTION_TIMEOUT, struct.pack("=Q", int(arguments[0]))))
            return
        path, export, count = arguments
        for _ in range(int(count)):
            client = nbdraw.Client(path).enter(export.encode())
            client.socket.settimeout(None)  # and with it O_NONBLOCK
            item = attribute(SOCKET_ITEM | NESTED, attribute(
                SOCKET_FD, struct.pack("=I", client.socket.fileno())))
            ask(netlink, family, RECONFIGURE, device + attribute(SOCKETS | NESTED, item))


main(*sys.argv[1:])
