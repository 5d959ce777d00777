# SPDX-License-Identifier: Apache-2.0
"""A bare NBD client for tests: says what it is told to, right or wrong."""

import socket
import struct

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN, ERR_TOO_BIG = (0x80000000 + n for n in (1, 3, 6, 9))
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES = range(7)
FUA, NO_HOLE, DF = 1, 2, 4
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ESHUTDOWN = 1, 5, 22, 28, 75, 108

REQUEST_MAGIC, SIMPLE_MAGIC, STRUCTURED_MAGIC = 0x25609513, 0x67446698, 0x668E33EF


def request(command, cookie, offset=0, length=0, flags=0, magic=REQUEST_MAGIC):
    """The header of a request."""
    return struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length)


def option(number, data=b"", length=None, magic=b"IHAVEOPT"):
    """An option; its length field may lie."""
    return magic + struct.pack(">II", number, len(data) if length is None else length) + data


def go_data(name, wishes=()):
    """The data of INFO and GO."""
    return (
        struct.pack(">I", len(name)) + name + struct.pack(">H", len(wishes))
        + b"".join(struct.pack(">H", wish) for wish in wishes)
    )


class Closed(Exception):
    """The server hung up."""


class Client:
    """One connection, before or after the handshake."""

    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        # Without a timeout, under which a full backlog would be an error.
        self.socket.connect(path)
        self.socket.settimeout(timeout)
        self.lengths = {}  # cookie of a READ -> its length
        self.cookie = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Says it; a server that hung up is noticed when it is listened to."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, count):
        """Exactly so many bytes, or Closed."""
        data = bytearray()
        while len(data) < count:
            try:
                part = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed(bytes(data))
            data += part
        return bytes(data)

    def expect_close(self):
        """Nothing more comes, and the server hangs up."""
        try:
            rest = self.socket.recv(1 << 16)
        except ConnectionResetError:
            rest = b""
        assert rest == b"", f"expected the end, got {rest[:40]!r}"

    # ---- handshake

    def greet(self, flags=FIXED_NEWSTYLE | NO_ZEROES):
        """Until options may be sent."""
        assert self.receive(18) == b"NBDMAGICIHAVEOPT\x00\x03"
        self.send(struct.pack(">I", flags))

    def option_reply(self, number):
        """(type, data) of one reply."""
        magic, told, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == 0x3E889045565A9 and told == number
        return kind, self.receive(length)

    def option_replies(self, number, data=b""):
        """Sends it; all replies until the last."""
        self.send(option(number, data))
        replies = [self.option_reply(number)]
        while replies[-1][0] in (REP_SERVER, REP_INFO):
            replies.append(self.option_reply(number))
        return replies

    def enter(self, name=b"", structured=False):
        """The whole handshake; sets bytes and flags."""
        self.greet()
        if structured:
            assert self.option_replies(STRUCTURED_REPLY) == [(REP_ACK, b"")]
        replies = self.option_replies(GO, go_data(name))
        assert replies[-1] == (REP_ACK, b""), replies
        info, self.bytes, self.flags = struct.unpack(">HQH", replies[0][1])
        assert info == 0
        return self

    # ---- transmission

    def start(self, command, offset=0, length=0, flags=0, data=b""):
        """Sends a request; its cookie."""
        self.cookie += 1
        if command == READ:
            self.lengths[self.cookie] = length
        self.send(request(command, self.cookie, offset, length, flags) + data)
        return self.cookie

    def reply(self):
        """(cookie, error, payload, text) of the next reply, of either style, in one chunk."""
        (magic,) = struct.unpack(">I", self.receive(4))
        if magic == SIMPLE_MAGIC:
            error, cookie = struct.unpack(">IQ", self.receive(12))
            length = self.lengths.pop(cookie, 0)
            return cookie, error, self.receive(length if error == 0 else 0), b""
        assert magic == STRUCTURED_MAGIC, f"{magic:#x} is no reply"
        flags, kind, cookie, length = struct.unpack(">HHQI", self.receive(16))
        body = self.receive(length)
        assert flags == 1, "one chunk"
        expected = self.lengths.pop(cookie, None)
        if kind == 0x8001:
            error, text_bytes = struct.unpack(">IH", body[:6])
            assert error != 0 and len(body) == 6 + text_bytes
            return cookie, error, b"", body[6:]
        if kind == 0:
            assert length == 0
            return cookie, 0, b"", b""
        assert kind == 1 and length > 8 and length == 8 + expected
        return cookie, 0, body[8:], b""

    def call(self, command, offset=0, length=0, flags=0, data=b""):
        """One request and its reply: (error, payload)."""
        cookie = self.start(command, offset, length, flags, data)
        told, error, payload, _ = self.reply()
        assert told == cookie
        return error, payload

    def read(self, offset, length, flags=0):
        """The bytes, or an assertion."""
        error, payload = self.call(READ, offset, length, flags)
        assert error == 0, error
        return payload

    def write(self, offset, data, flags=0):
        """Or an assertion."""
        error, _ = self.call(WRITE, offset, len(data), flags, data)
        assert error == 0, error
