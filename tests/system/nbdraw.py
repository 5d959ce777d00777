# SPDX-License-Identifier: Apache-2.0
"""A bare NBD client for tests: says what it is told to, right or wrong."""

import socket
import struct

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = 9, 10, 11
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, ERR_TOO_BIG, ERR_EXT_HEADER_REQD = (
    0x80000000 + n for n in (1, 2, 3, 5, 6, 7, 9, 10)
)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 75, 95, 108
SIMPLE, STRUCTURED, EXTENDED = range(3)  # what is negotiated, see Client.enter

REQUEST_MAGIC, SIMPLE_MAGIC, STRUCTURED_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
EXTENDED_REQUEST_MAGIC, EXTENDED_REPLY_MAGIC = 0x21E41C71, 0x6E8A278C


def request(command, cookie, offset=0, length=0, flags=0, magic=REQUEST_MAGIC):
    """The header of a request."""
    layout = ">IHHQQQ" if magic == EXTENDED_REQUEST_MAGIC else ">IHHQQI"
    return struct.pack(layout, magic, flags, command, cookie, offset, length)


def option(number, data=b"", length=None, magic=b"IHAVEOPT"):
    """An option; its length field may lie."""
    return magic + struct.pack(">II", number, len(data) if length is None else length) + data


def go_data(name, wishes=()):
    """The data of INFO and GO."""
    return (
        struct.pack(">I", len(name)) + name + struct.pack(">H", len(wishes))
        + b"".join(struct.pack(">H", wish) for wish in wishes)
    )


def context_data(name, queries):
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""
    return (
        struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries))
        + b"".join(struct.pack(">I", len(query)) + query for query in queries)
    )


class Closed(Exception):
    """The server hung up."""


class Client:
    """One connection, before or after the handshake."""

    def __init__(self, path, timeout=30):
        # Without a timeout, under which a full backlog would be an error.
        if path.startswith("tcp:"):
            host, port = path[4:].rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
        self.socket.settimeout(timeout)
        self.lengths = {}  # cookie of a request -> its command, offset and length
        self.style = SIMPLE
        self.peeked = b""  # what the next receive begins with
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
        data = bytearray(self.peeked)
        self.peeked = b""
        while len(data) < count:
            try:
                part = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed(bytes(data[:40]))
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
        while replies[-1][0] in (REP_SERVER, REP_INFO, REP_META_CONTEXT):
            replies.append(self.option_reply(number))
        return replies

    def enter(self, name=b"", style=SIMPLE, contexts=(), tls=None):
        """The whole handshake; sets style, bytes, flags, and contexts: their ids by name."""
        self.style = int(style)
        self.greet()
        if tls:
            self.start_tls(tls)
        if style:
            option_number = EXTENDED_HEADERS if style == EXTENDED else STRUCTURED_REPLY
            assert self.option_replies(option_number) == [(REP_ACK, b"")]
        self.contexts = self.set_contexts(name, contexts) if contexts else {}
        replies = self.option_replies(GO, go_data(name))
        assert replies[-1] == (REP_ACK, b""), replies
        (export,) = (data for kind, data in replies if kind == REP_INFO and data[:2] == b"\0\0")
        self.bytes, self.flags = struct.unpack(">QH", export[2:])
        return self

    def set_contexts(self, name, queries, number=SET_META_CONTEXT):
        """Selects contexts, or lists them: their ids by name."""
        replies = self.option_replies(number, context_data(name, queries))
        assert replies[-1] == (REP_ACK, b""), replies
        assert all(kind == REP_META_CONTEXT for kind, _ in replies[:-1])
        return {data[4:].decode(): struct.unpack(">I", data[:4])[0] for _, data in replies[:-1]}

    def start_tls(self, context, early=b""):
        """STARTTLS with that ssl.SSLContext; early: what is said along with it, unprotected."""
        self.send(option(STARTTLS) + early)
        assert self.option_reply(STARTTLS) == (REP_ACK, b"")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    # ---- transmission

    def start(self, command, offset=0, length=0, flags=0, data=b"", cookie=None):
        """Sends a request; its cookie."""
        self.cookie += 1
        cookie = self.cookie if cookie is None else cookie
        self.lengths[cookie] = (command, offset, length)
        if self.style == EXTENDED:
            flags |= PAYLOAD_LEN if command == WRITE else 0
            head = request(command, cookie, offset, length, flags, EXTENDED_REQUEST_MAGIC)
        else:
            head = request(command, cookie, offset, length, flags)
        self.send(head + data)
        return cookie

    def chunk(self):
        """(cookie, flags, type, body) of the next chunk of a structured or extended reply."""
        (magic,) = struct.unpack(">I", self.receive(4))
        if self.style == EXTENDED:
            assert magic == EXTENDED_REPLY_MAGIC, f"{magic:#x} is no extended reply"
            flags, kind, cookie, offset, length = struct.unpack(">HHQQQ", self.receive(28))
            assert offset == self.lengths[cookie][1], "the offset is that of the request"
        else:
            assert magic == STRUCTURED_MAGIC, f"{magic:#x} is no reply"
            flags, kind, cookie, length = struct.unpack(">HHQI", self.receive(16))
        assert flags in (0, 1)
        return cookie, flags, kind, self.receive(length)

    def simple_next(self):
        """Is the next reply a simple one?"""
        if self.style == EXTENDED:
            return False
        self.peeked = self.receive(4)
        return self.peeked == struct.pack(">I", SIMPLE_MAGIC)

    def reply(self):
        """(cookie, error, payload, text) of the next reply, of any style, whose chunks are not
        mixed with those of others.  What it was made of is in chunks: (type, body)."""
        self.chunks = []
        if self.simple_next():
            _, error, cookie = struct.unpack(">IIQ", self.receive(16))
            command, _, length = self.lengths.pop(cookie, (None, 0, 0))
            length = length if error == 0 and command == READ else 0
            assert command != READ or self.style == SIMPLE
            return cookie, error, self.receive(length), b""
        assert self.style != SIMPLE
        first, flags = None, 0
        while not flags:
            cookie, flags, kind, body = self.chunk()
            assert first in (None, cookie), "chunks of two requests are mixed"
            first = cookie
            self.chunks.append((kind, body))
        return (cookie, *self.judge(*self.lengths.pop(cookie)))

    def judge(self, command, offset, length):
        """(error, payload, text) of the chunks."""
        error, text, parts = 0, b"", []
        for kind, body in self.chunks:
            if kind in (0x8001, 0x8002):
                error, text_bytes = struct.unpack(">IH", body[:6])
                assert error != 0 and len(body) == 6 + text_bytes + (8 if kind == 0x8002 else 0)
                text = body[6 : 6 + text_bytes]
                if kind == 0x8002:
                    (at,) = struct.unpack(">Q", body[-8:])
                    assert offset <= at < offset + length
            elif kind == 1:
                assert command == READ and len(body) > 8
                parts.append((*struct.unpack(">Q", body[:8]), body[8:]))
            elif kind == 2:
                at, hole = struct.unpack(">QI", body)
                assert command == READ and hole > 0
                parts.append((at, bytes(hole)))
            elif kind in (5, 6):
                assert command == BLOCK_STATUS
                assert kind == 5 or self.style == EXTENDED
            else:
                assert kind == 0 and body == b""
        parts.sort()
        at = offset
        for start, data in parts:
            assert start == at, "a hole in the reply, or two chunks overlap"
            at += len(data)
        assert error or command != READ or at == offset + length
        return error, b"".join(data for _, data in parts), text

    def status(self, offset, length, flags=0, contexts=None):
        """The extents of BLOCK_STATUS by the name of their context: pairs of length and flags.
        contexts: names, to be sent as a payload."""
        if contexts is None:
            cookie = self.start(BLOCK_STATUS, offset, length, flags)
        else:
            data = struct.pack(">Q", length)
            data += b"".join(struct.pack(">I", self.contexts[name]) for name in contexts)
            cookie = self.start(BLOCK_STATUS, offset, len(data), flags | PAYLOAD_LEN, data)
        self.lengths[cookie] = (BLOCK_STATUS, offset, length)
        told, error, _, text = self.reply()
        assert told == cookie and error == 0, (error, text)
        names = {number: name for name, number in self.contexts.items()}
        found = {}
        for kind, body in self.chunks:
            if kind == 5:
                (number,) = struct.unpack(">I", body[:4])
                extents = list(struct.iter_unpack(">II", body[4:]))
            else:
                assert kind == 6, kind
                number, count = struct.unpack(">II", body[:8])
                wide = list(struct.iter_unpack(">QII", body[8:]))
                assert count in (0, len(wide)) and all(padding == 0 for _, padding, _ in wide)
                extents = [(size, state) for size, _, state in wide]
            assert extents and all(size > 0 for size, _ in extents)
            assert sum(size for size, _ in extents[:-1]) < length
            assert not flags & REQ_ONE or (len(extents) == 1 and extents[0][0] <= length)
            assert names[number] not in found
            found[names[number]] = extents
        assert set(found) == set(self.contexts if contexts is None else contexts)
        return found

    def map(self, name, offset, length, flags=0):
        """The whole range in one context, neighbours with the same flags joined."""
        extents, end = [], offset + length
        while offset < end:
            for size, state in self.status(offset, end - offset, flags)[name]:
                offset += size
                if extents and extents[-1][1] == state:
                    size += extents.pop()[0]
                extents.append((size, state))
        return extents

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
