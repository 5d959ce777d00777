#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The NBD server against a client that knows the document, and clients that do not care.

    nbd-protocol.py SOCKET WRITABLE READ_ONLY BROKEN [TEST...]

The names are exports: a writable one of 64 MiB whose contents may be destroyed, and, where the
server has them (else ""), one that is read-only and one all of whose requests fail.
"""

import os
import random
import socket
import ssl
import struct
import sys
import threading
import time

import nbdraw as n
from nbdraw import Client, Closed

path = sys.argv[1]
writable, read_only, broken = (name.encode() for name in sys.argv[2:5])
random.seed(int(os.environ.get("SEED", "1")))


STYLES = (n.SIMPLE, n.STRUCTURED, n.EXTENDED)


def secret():
    """With TLS=1, everything is said over TLS; whose certificate it is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client(style=n.SIMPLE, name=writable, contexts=()):
    return Client(path).enter(name, style, contexts, secret() if os.environ.get("TLS") else None)


# ---- handshake


def test_abort_is_acknowledged():
    with Client(path) as c:
        c.greet()
        assert c.option_replies(n.ABORT) == [(n.REP_ACK, b"")]
        c.expect_close()


def test_unknown_client_flags_drop_the_connection():
    with Client(path) as c:
        c.greet(flags=4 | 1)
        c.expect_close()


def test_export_name_of_an_unknown_export_drops_the_connection():
    with Client(path) as c:
        c.greet()
        c.send(n.option(n.EXPORT_NAME, b"no such thing"))
        c.expect_close()


def test_export_name_with_zeroes():
    for flags, zeroes in ((n.FIXED_NEWSTYLE, 124), (n.FIXED_NEWSTYLE | n.NO_ZEROES, 0), (0, 124)):
        with Client(path) as c:
            c.greet(flags)
            c.send(n.option(n.EXPORT_NAME, writable))
            c.receive(10)
            assert c.receive(zeroes) == bytes(zeroes)
            c.read(0, 1)


def test_errors_leave_the_handshake_usable():
    with Client(path) as c:
        c.greet()
        assert c.option_replies(n.GO, n.go_data(b"no such thing"))[-1][0] == n.ERR_UNKNOWN
        assert c.option_replies(n.INFO, n.go_data(b"no such thing"))[-1][0] == n.ERR_UNKNOWN
        assert c.option_replies(n.GO, b"")[-1][0] == n.ERR_INVALID
        assert c.option_replies(n.LIST, b"x")[-1][0] == n.ERR_INVALID
        assert c.option_replies(n.LIST, bytes(100000))[-1][0] == n.ERR_TOO_BIG
        assert c.option_replies(12345, bytes(100000))[-1][0] == n.ERR_UNSUP
        assert c.option_replies(n.STARTTLS)[-1][0] == n.ERR_POLICY
        assert c.option_replies(n.GO, n.go_data(writable, (0, 1, 2, 3)))[-1][0] == n.REP_ACK
        assert len(c.read(0, 4096)) == 4096


def test_requests_sent_along_with_go():
    """A client that does not wait for the answer to GO is not to be confused."""
    with Client(path) as c:
        c.greet()
        c.send(
            n.option(n.GO, n.go_data(writable))
            + n.request(n.WRITE, 1, 0, 3) + b"abc" + n.request(n.READ, 2, 4096, 3)
        )
        assert c.option_reply(n.GO)[0] == n.REP_INFO
        assert c.option_reply(n.GO)[0] == n.REP_ACK
        c.lengths[2] = (n.READ, 4096, 3)
        assert sorted(c.reply()[:2] for _ in range(2)) == [(1, 0), (2, 0)]
        assert c.read(0, 3) == b"abc"


def test_too_many_options():
    with Client(path) as c:
        c.greet()
        for _ in range(64):
            assert c.option_replies(n.STRUCTURED_REPLY)[0][0] == n.REP_ACK
        c.send(n.option(n.LIST))
        c.expect_close()


def test_handshake_truncated_at_every_byte():
    talk = struct.pack(">I", 3) + n.option(n.LIST) + n.option(n.GO, n.go_data(writable))
    for end in range(len(talk)):
        with Client(path) as c:
            c.send(talk[:end])


def test_handshake_byte_by_byte():
    with Client(path) as c:
        for byte in struct.pack(">I", 3) + n.option(n.GO, n.go_data(writable)):
            c.send(bytes([byte]))
        c.receive(18)
        assert c.option_reply(n.GO)[0] == n.REP_INFO
        assert c.option_reply(n.GO)[0] == n.REP_ACK
        c.read(0, 1)


# ---- requests


def test_flags_of_the_export():
    with client() as c:
        assert c.flags == 0xD6D
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style) as c:
            assert c.flags == 0xDED
    if read_only:
        with client(name=read_only) as c:
            assert c.flags == 0x50F


def test_write_and_read_back():
    for style in STYLES:
        with client(style) as c:
            for offset, length in ((0, 1), (1, 511), (4095, 2), (8192, 4096), (12287, 70000),
                                   (1 << 20, 1 << 20), (3 << 20, 32 << 20), (c.bytes - 5, 5)):
                data = random.randbytes(length)
                c.write(offset, data, flags=random.choice((0, n.FUA)))
                assert c.read(offset, length) == data
                assert c.read(offset, length, flags=n.FUA) == data


def test_zero_length_requests_succeed():
    for style in STYLES:
        with client(style) as c:
            for command in (n.READ, n.WRITE, n.TRIM, n.CACHE, n.WRITE_ZEROES):
                for offset in (0, 77, c.bytes):
                    assert c.call(command, offset, 0) == (0, b"")


def test_zeroes_trim_cache_flush():
    with client() as c:
        c.write(0, b"x" * 65536)
        assert c.call(n.WRITE_ZEROES, 1, 4096) == (0, b"")
        assert c.read(0, 4098) == b"x" + bytes(4096) + b"x"
        assert c.call(n.WRITE_ZEROES, 8192, 8192, n.NO_HOLE | n.FUA) == (0, b"")
        assert c.read(8191, 8194) == b"x" + bytes(8192) + b"x"
        assert c.call(n.TRIM, 32768, 4096, n.FUA) == (0, b"")
        assert c.call(n.CACHE, 0, 65536) == (0, b"")
        assert c.call(n.FLUSH) == (0, b"")
        assert c.call(n.FLUSH, flags=n.FUA) == (0, b"")


def test_errors_are_those_of_the_document():
    for style in STYLES:
        with client(style) as c:
            size = c.bytes
            for command, offset, length, flags, expected in (
                (n.READ, size, 1, 0, n.EINVAL),
                (n.READ, size - 1, 2, 0, n.EINVAL),
                (n.READ, 2**64 - 1, 2**32 - 1, 0, n.EINVAL),
                (n.READ, 0, (32 << 20) + 1, 0, n.EINVAL),
                (n.READ, 0, 512, n.NO_HOLE, n.EINVAL),
                (n.READ, 0, 512, 0x8000, n.EINVAL),
                (n.READ, 0, 512, n.DF, 0 if style else n.EINVAL),
                (n.READ, 0, (32 << 20) + 1, n.DF, n.EOVERFLOW if style else n.EINVAL),
                (n.TRIM, size - 1, 2, 0, n.EINVAL),
                (n.CACHE, size - 1, 2, 0, n.EINVAL),
                (n.WRITE_ZEROES, size - 1, 2, 0, n.ENOSPC),
                (n.WRITE_ZEROES, 0, 512, n.FAST_ZERO, n.ENOTSUP),
                (n.FLUSH, 0, 1, 0, n.EINVAL),
                (n.FLUSH, 1, 0, 0, n.EINVAL),
                (7, 0, 512, 0, n.EINVAL),  # BLOCK_STATUS was not negotiated
                (99, 0, 512, 0, n.EINVAL),
            ):
                error, _ = c.call(command, offset, length, flags)
                assert error == expected, (style, command, offset, length, flags, error)


def test_refused_writes_are_drained():
    """Whatever follows a refused payload is found."""
    with client() as c:
        before = c.read(0, 4096)
        for offset, length, flags, expected in (
            (c.bytes - 1, 2, 0, n.ENOSPC),
            (c.bytes, 1 << 20, 0, n.ENOSPC),
            (0, 4096, n.NO_HOLE, n.EINVAL),
            (0, (32 << 20) + 1, 0, n.EINVAL),
            (0, 64 << 20, 0, n.EINVAL),
        ):
            error, _ = c.call(n.WRITE, offset, length, flags, data=b"\x25" * length)
            assert error == expected, (offset, length, flags, error)
        assert c.read(0, 4096) == before


def test_enormous_writes_drop_the_connection():
    with client() as c:
        c.start(n.WRITE, 0, (64 << 20) + 1)
        c.expect_close()


def test_bad_magic_drops_the_connection():
    with client() as c:
        c.send(n.request(n.READ, 1, 0, 1, magic=0x25609512))
        c.expect_close()


def test_read_only_export():
    if not read_only:
        return
    with client(name=read_only) as c:
        for command in (n.WRITE, n.TRIM, n.WRITE_ZEROES):
            data = b"d" * 4096 if command == n.WRITE else b""
            assert c.call(command, 0, 4096, data=data)[0] == n.EPERM
        c.read(0, 4096)


def test_engine_errors_reach_the_client():
    if not broken:
        return
    for style in STYLES:
        with client(style, name=broken) as c:
            for command in (n.READ, n.WRITE, n.TRIM, n.CACHE, n.WRITE_ZEROES):
                data = b"d" * 512 if command == n.WRITE else b""
                assert c.call(command, 0, 512, data=data)[0] == n.EIO


def test_structured_errors_carry_text():
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style) as c:
            c.start(n.READ, c.bytes, 1)
            _, error, _, text = c.reply()
            assert error == n.EINVAL and b"beyond the end" in text


def test_failures_say_where():
    if not broken:
        return
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style, name=broken) as c:
            for command in (n.READ, n.WRITE, n.TRIM, n.CACHE, n.WRITE_ZEROES):
                c.start(command, 4096, 512, data=b"d" * 512 if command == n.WRITE else b"")
                _, error, _, text = c.reply()  # checks the offset
                assert (error, text) == (n.EIO, b"input/output error")
                assert [kind for kind, _ in c.chunks] == [0x8002]
            c.start(n.FLUSH)
            assert c.reply()[1] == n.EIO
            assert [kind for kind, _ in c.chunks] == [0x8001]


# ---- zeros


def test_zeroes_are_read_as_holes():
    for style in STYLES:
        with client(style) as c:
            data = random.randbytes(1 << 20)
            c.write(0, data)
            assert c.call(n.WRITE_ZEROES, 8192, 65536)[0] == 0
            expected = data[:8192] + bytes(65536) + data[73728:]
            for offset, length, kinds in (
                (0, 1 << 20, [1, 2, 1]), (8192, 65536, [2]), (8191, 65538, [1, 2, 1]),
                (9000, 1000, [1]), (9000, 8000, [1, 2, 1]), (4096, 8192, [1, 2]),
                (69632, 8192, [2, 1]), (0, 8192, [1]), (12288, 1 << 19, [2, 1]),
            ):
                assert c.read(offset, length) == expected[offset:offset + length]
                if style:
                    found = [kind for kind, _ in c.chunks]
                    assert found == kinds, (offset, length, found)
                    assert c.read(offset, length, n.DF) == expected[offset:offset + length]
                    assert [kind for kind, _ in c.chunks] == [1]


def test_many_holes_in_one_read():
    for style in STYLES:
        with client(style) as c:
            for holes in (10, 60, 150):
                data = bytearray(random.randbytes(holes * 8192))
                c.write(0, data)
                for i in range(holes):
                    c.start(n.WRITE_ZEROES, i * 8192, 4096)
                    data[i * 8192:i * 8192 + 4096] = bytes(4096)
                for i in range(holes):
                    assert c.reply()[1] == 0
                assert c.read(0, len(data)) == data
                assert c.read(1, len(data) - 2) == data[1:-1]


def test_fast_zero():
    for style in STYLES:
        with client(style) as c:
            c.write(0, b"x" * (1 << 20))
            assert c.call(n.WRITE_ZEROES, 1, 4094, n.FAST_ZERO)[0] == n.ENOTSUP
            assert c.read(0, 4096) == b"x" * 4096, "an answer of ENOTSUP leaves the data alone"
            assert c.call(n.WRITE_ZEROES, 4096, 65536, n.FAST_ZERO) == (0, b"")
            assert c.read(4095, 65538) == b"x" + bytes(65536) + b"x"
            error, _ = c.call(n.WRITE_ZEROES, 0, 32 << 20, n.FAST_ZERO | n.NO_HOLE | n.FUA)
            assert error in (0, n.ENOTSUP)
            if error == 0:
                assert c.read(0, 1 << 20) == bytes(1 << 20)
            assert c.call(n.WRITE_ZEROES, 0, c.bytes, n.FAST_ZERO) == (0, b"")
            assert c.read(0, 1 << 20) == bytes(1 << 20)


# ---- metadata contexts

ALLOCATION, STATE = "base:allocation", "blkcached:state"
BOTH = (ALLOCATION.encode(), STATE.encode())


def test_contexts_are_listed():
    with Client(path) as c:
        c.greet()
        c.option_replies(n.STRUCTURED_REPLY)
        for queries, expected in (
            ((), {ALLOCATION, STATE}), ((b"base:",), {ALLOCATION}), ((b"blkcached:",), {STATE}),
            ((b"base:allocation", b"base:"), {ALLOCATION}), ((b"qemu:", b"x"), set()),
        ):
            assert set(c.set_contexts(writable, queries, n.LIST_META_CONTEXT)) == expected
        data = n.context_data(b"no such thing", ())
        assert c.option_replies(n.LIST_META_CONTEXT, data)[-1][0] == n.ERR_UNKNOWN


def test_contexts_need_structured_replies():
    with Client(path) as c:
        c.greet()
        data = n.context_data(writable, BOTH)
        assert c.option_replies(n.SET_META_CONTEXT, data)[-1][0] == n.ERR_INVALID


def test_wildcards_select_nothing():
    with client(n.STRUCTURED, contexts=(b"base:", b"blkcached:", b"x-other:thing")) as c:
        assert c.contexts == {}
        assert c.call(n.BLOCK_STATUS, 0, 512)[0] == n.EINVAL


def test_contexts_of_another_export_do_not_count():
    if not read_only:
        return
    with Client(path) as c:
        c.style = n.STRUCTURED
        c.greet()
        c.option_replies(n.STRUCTURED_REPLY)
        assert len(c.set_contexts(read_only, BOTH)) == 2
        assert c.option_replies(n.GO, n.go_data(writable))[-1][0] == n.REP_ACK
        assert c.call(n.BLOCK_STATUS, 0, 512)[0] == n.EINVAL


def test_failed_selection_selects_nothing():
    with Client(path) as c:
        c.style = n.STRUCTURED
        c.greet()
        c.option_replies(n.STRUCTURED_REPLY)
        assert len(c.set_contexts(writable, BOTH)) == 2
        data = n.context_data(b"no such thing", BOTH)
        assert c.option_replies(n.SET_META_CONTEXT, data)[-1][0] == n.ERR_UNKNOWN
        assert c.option_replies(n.GO, n.go_data(writable))[-1][0] == n.REP_ACK
        assert c.call(n.BLOCK_STATUS, 0, 512)[0] == n.EINVAL


def test_status_of_data_and_zeros():
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style, contexts=BOTH) as c:
            assert c.call(n.WRITE_ZEROES, 0, c.bytes) == (0, b"")
            c.write(8192, b"d" * 16384)
            c.write(100001, b"d")
            expected = [(8192, 2), (16384, 0), (73728, 2), (4096, 0), (c.bytes - 102400, 2)]
            for flags in (0, n.REQ_ONE, n.FUA):
                found = []
                for size, state in c.map(ALLOCATION, 0, c.bytes, flags):
                    state &= 2  # whether it is a hole, too, is for the backing store to say
                    if found and found[-1][1] == state:
                        size += found.pop()[0]
                    found.append((size, state))
                assert found == expected, found
            assert sum(size for size, _ in c.map(STATE, 0, c.bytes)) == c.bytes
            # What begins or ends in the middle of a block.
            found = c.status(8193, 5)
            assert found[ALLOCATION] == [(5, 0)]
            assert sum(size for size, _ in found[STATE]) == 5


def test_status_of_every_second_block():
    """More extents than one reply holds."""
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style, contexts=BOTH) as c:
            assert c.call(n.WRITE_ZEROES, 0, 6 << 20) == (0, b"")
            for i in range(0, 1536, 2):
                c.start(n.WRITE, i * 4096, 4096, data=b"d" * 4096)
                if i % 64 == 62:
                    for _ in range(32):
                        assert c.reply()[1] == 0
            found = c.map(ALLOCATION, 0, 6 << 20)
            assert [(size, state & 2) for size, state in found] == [(4096, 0), (4096, 2)] * 768


def test_status_errors():
    for style in (n.STRUCTURED, n.EXTENDED):
        with client(style, contexts=BOTH) as c:
            for offset, length, flags in (
                (c.bytes, 1, 0), (c.bytes - 1, 2, 0), (0, 0, 0), (0, 512, n.DF), (0, 512, n.NO_HOLE),
            ):
                assert c.call(n.BLOCK_STATUS, offset, length, flags)[0] == n.EINVAL
            assert sum(size for size, _ in c.status(c.bytes - 1, 1)[STATE]) == 1


def test_status_payload_selects_contexts():
    with client(n.EXTENDED, contexts=BOTH) as c:
        assert c.flags & 1 << 12
        c.write(0, b"p" * 4096)
        for contexts in ((ALLOCATION,), (STATE,), (STATE, ALLOCATION)):
            assert c.status(0, 4096, contexts=contexts)[contexts[0]][0][0] == 4096
        c.contexts["unknown"] = 77
        good = struct.pack(">QI", 4096, c.contexts[STATE])
        for data in (
            b"", good[:8], good[:11], good + b"x", good + struct.pack(">I", 77),
            good + good[8:], good + good[8:] + good[8:], struct.pack(">QI", 0, c.contexts[STATE]),
            struct.pack(">QI", c.bytes + 1, c.contexts[STATE]), bytes(1 << 20),
        ):
            error, _ = c.call(n.BLOCK_STATUS, 0, len(data), n.PAYLOAD_LEN, data)
            assert error == n.EINVAL, data[:20]
        # Byte by byte, and behind a large write.
        c.write(1 << 20, bytes(1 << 20))
        cookie = c.start(n.WRITE, 1 << 20, 1 << 20, data=bytes(1 << 20))
        head = n.request(n.BLOCK_STATUS, 99, 0, 12, n.PAYLOAD_LEN, n.EXTENDED_REQUEST_MAGIC)
        for byte in head + good:
            c.send(bytes([byte]))
        c.lengths[99] = (n.BLOCK_STATUS, 0, 4096)
        assert sorted(c.reply()[:2] for _ in range(2)) == [(cookie, 0), (99, 0)]
        c.read(0, 512)
    with client(n.EXTENDED) as c:
        assert not c.flags & 1 << 12
        assert c.call(n.BLOCK_STATUS, 0, 12, n.PAYLOAD_LEN, bytes(12))[0] == n.EINVAL


# ---- extended headers


def test_extended_headers_take_precedence():
    with Client(path) as c:
        c.greet()
        assert c.option_replies(n.STRUCTURED_REPLY) == [(n.REP_ACK, b"")]
        assert c.option_replies(n.EXTENDED_HEADERS, b"x")[-1][0] == n.ERR_INVALID
        assert c.option_replies(n.EXTENDED_HEADERS) == [(n.REP_ACK, b"")]
        assert c.option_replies(n.STRUCTURED_REPLY)[-1][0] == n.ERR_EXT_HEADER_REQD
        assert c.option_replies(n.GO, n.go_data(writable))[-1][0] == n.REP_ACK
        c.style = n.EXTENDED
        c.write(4096, b"extended")
        assert c.read(4096, 8) == b"extended"


def test_export_name_after_extended_headers_drops_the_connection():
    with Client(path) as c:
        c.greet()
        assert c.option_replies(n.EXTENDED_HEADERS) == [(n.REP_ACK, b"")]
        c.send(n.option(n.EXPORT_NAME, writable))
        c.expect_close()


def test_compact_request_on_an_extended_connection_drops_it():
    with client(n.EXTENDED) as c:
        c.send(n.request(n.READ, 1, 0, 512) + bytes(4))
        c.expect_close()


def test_extended_request_on_a_compact_connection_drops_it():
    with client(n.STRUCTURED) as c:
        c.send(n.request(n.READ, 1, 0, 512, magic=n.EXTENDED_REQUEST_MAGIC))
        c.expect_close()


def test_effect_length_of_64_bits():
    with client(n.EXTENDED) as c:
        for command in (n.TRIM, n.CACHE):
            assert c.call(command, 0, 1 << 40)[0] == n.EINVAL
        assert c.call(n.WRITE_ZEROES, 0, 1 << 40)[0] == n.ENOSPC
        assert c.call(n.READ, 0, (1 << 32) + 512)[0] == n.EINVAL  # not taken for 512
        c.write(0, b"x" * 8192)
        assert c.call(n.WRITE_ZEROES, 0, c.bytes) == (0, b"")
        assert c.read(0, 8192) == bytes(8192)


def test_payload_of_other_commands_is_consumed():
    with client(n.EXTENDED) as c:
        for command in (n.READ, n.TRIM, n.CACHE, n.WRITE_ZEROES, n.BLOCK_STATUS, 99):
            for length in (1, 512, 1 << 20):
                error, _ = c.call(command, 0, length, n.PAYLOAD_LEN, data=b"\x21" * length)
                assert error == n.EINVAL, (command, length, error)
        c.read(0, 512)


def test_write_without_payload_flag_is_refused():
    with client(n.EXTENDED) as c:
        cookie = c.start(n.READ, 0, 0)
        assert c.reply()[0] == cookie
        c.lengths[77] = (n.WRITE, 0, 512)
        c.send(n.request(n.WRITE, 77, 0, 512, magic=n.EXTENDED_REQUEST_MAGIC))
        assert c.reply()[:2] == (77, n.EINVAL)
        c.read(0, 512)


def test_payload_flag_of_a_compact_write_is_refused():
    with client(n.STRUCTURED) as c:
        assert c.call(n.WRITE, 0, 512, n.PAYLOAD_LEN, data=bytes(512))[0] == n.EINVAL
        c.read(0, 512)


def test_enormous_extended_payload_drops_the_connection():
    for command in (n.WRITE, n.TRIM):
        with client(n.EXTENDED) as c:
            c.start(command, 0, 1 << 40, n.PAYLOAD_LEN)
            c.expect_close()


# ---- many requests


def test_requests_byte_by_byte():
    with client() as c:
        talk = n.request(n.WRITE, 1, 5, 6) + b"abcdef" + n.request(n.READ, 2, 5000, 8)
        for byte in talk:
            c.send(bytes([byte]))
        c.lengths[2] = (n.READ, 5000, 8)
        assert sorted(c.reply()[:2] for _ in range(2)) == [(1, 0), (2, 0)]
        assert c.read(5, 6) == b"abcdef"


def test_cut_everywhere():
    """However the bytes are cut in two, the requests are the same."""
    talk = (
        n.request(n.WRITE, 1, 100, 50) + bytes(range(50)) + n.request(n.WRITE, 2, 150, 5) + b"hello"
        + n.request(n.WRITE, 3, 1 << 30, 7) + b"refused" + n.request(n.READ, 4, 100, 55)
    )
    with client() as c:
        for cut in range(len(talk)):
            c.send(talk[:cut])
            if cut % 7 == 0:
                time.sleep(0.001)
            c.send(talk[cut:])
            c.lengths[4] = (n.READ, 100, 55)
            replies = {}
            for _ in range(4):
                cookie, error, payload, _ = c.reply()
                replies[cookie] = (error, payload)
            assert replies[3] == (n.ENOSPC, b"")
            assert replies[4][0] == 0
            assert c.read(100, 55) == bytes(range(50)) + b"hello"


def test_pipelined_mix():
    """More requests than the server takes at once, of all sizes, many times over."""
    with client() as c:
        for size in (16, 512, 4096, 20000, 300000):
            talk, contents, sent = bytearray(), {}, {}
            for i in range(400 if size < 300000 else 40):
                data = random.randbytes(random.randint(1, size))
                offset = i * (64 << 10) % (32 << 20) if size <= 20000 else i << 20
                contents[offset] = data
                talk += n.request(n.WRITE, i, offset, len(data)) + data
                sent[i] = True
            # From a thread: a server may wait with receiving until replies are taken.
            sender = threading.Thread(target=c.send, args=(talk,))
            sender.start()
            while sent:
                cookie, error, _, _ = c.reply()
                assert error == 0
                del sent[cookie]
            sender.join()
            for offset, data in contents.items():
                sent[c.start(n.READ, offset, len(data))] = data
                if len(sent) == 64:
                    expect_reads(c, sent)
            expect_reads(c, sent)


def expect_reads(c, sent):
    while sent:
        cookie, error, payload, _ = c.reply()
        assert error == 0 and payload == sent[cookie]
        del sent[cookie]


def test_disconnect_answers_what_is_in_flight():
    with client() as c:
        data = random.randbytes(1 << 20)
        cookies = {c.start(n.WRITE, 0, len(data), data=data)}
        cookies |= {c.start(n.READ, i * 4096, 4096) for i in range(100)}
        c.start(n.DISC)
        while cookies:
            cookie, error, _, _ = c.reply()
            assert error == 0
            cookies.remove(cookie)
        c.expect_close()


def test_half_closed_client_gets_its_replies():
    with client() as c:
        cookies = {c.start(n.READ, i * 4096, 4096) for i in range(50)}
        c.socket.shutdown(socket.SHUT_WR)
        while cookies:
            cookies.remove(c.reply()[0])
        c.expect_close()


def test_truncated_write_is_not_done():
    for sent in (0, 1, 27, 28, 29, 5000, 99999):
        with client() as c:
            c.write(0, bytes(100000))
            c.send((n.request(n.WRITE, 1, 0, 100000) + b"\xff" * 100000)[:sent])
        with client() as c:
            assert c.read(0, 100000) == bytes(100000)


# ---- hostile and slow clients cost only themselves


def test_client_that_does_not_read():
    with client() as greedy, client() as honest:
        for i in range(1000):
            greedy.socket.settimeout(0.2)
            try:
                greedy.socket.sendall(n.request(n.READ, i, 0, 1 << 20))
            except (socket.timeout, TimeoutError):
                break
        for i in range(100):
            honest.write(i * 4096, b"h" * 4096)
            assert honest.read(i * 4096, 4096) == b"h" * 4096


def test_client_that_reads_slowly():
    with client() as slow, client() as honest:
        data = random.randbytes(8 << 20)
        honest.write(0, data)
        cookies = {slow.start(n.READ, i << 20, 1 << 20): i for i in range(8)}
        while cookies:
            cookie, error, payload, _ = slow.reply()
            i = cookies.pop(cookie)
            assert error == 0 and payload == data[i << 20:(i + 1) << 20]
            assert honest.read(0, 4096) == data[:4096]
            time.sleep(0.02)


def test_many_connections_at_once():
    clients = [client() for _ in range(100)]
    for i, c in enumerate(clients):
        c.start(n.WRITE, i * 4096, 4096, data=bytes([i]) * 4096)
    for c in clients:
        assert c.reply()[1] == 0
    for i, c in enumerate(clients):
        assert clients[-1 - i].read(i * 4096, 4096) == bytes([i]) * 4096
    for c in clients:
        c.socket.close()


def test_connections_that_come_and_go():
    for i in range(500):
        with Client(path) as c:
            if i % 5 > 0:
                c.greet()
            if i % 5 > 1:
                c.send(n.option(n.GO, n.go_data(writable)))
            if i % 5 > 2:
                c.send(n.request(n.READ, 1, 0, 1 << 20) + n.request(n.WRITE, 2, 0, 1 << 20))
            if i % 5 > 3:
                c.send(b"w" * 500000)


def test_garbage():
    """Random bytes at random places of a good conversation, for a while."""
    end = time.monotonic() + float(os.environ.get("GARBAGE_SECONDS", "3"))
    rounds = 0
    with client() as honest:
        while time.monotonic() < end:
            rounds += 1
            talk = bytearray(struct.pack(">I", 3))
            option = random.choice((0, n.STRUCTURED_REPLY, n.EXTENDED_HEADERS))
            talk += n.option(option) if option else b""
            if option and random.random() < 0.5:
                talk += n.option(n.SET_META_CONTEXT, n.context_data(writable, BOTH))
            magic = n.EXTENDED_REQUEST_MAGIC if option == n.EXTENDED_HEADERS else n.REQUEST_MAGIC
            talk += n.option(n.GO, n.go_data(writable))
            for i in range(random.randint(1, 20)):
                length = random.choice((1, 512, 4096, 70000))
                command = random.randrange(8)
                flags = random.choice((0, 0, 1, 2, 4, 8, 16))
                if option == n.EXTENDED_HEADERS and command == n.WRITE:
                    flags |= n.PAYLOAD_LEN
                talk += n.request(command, i, random.randrange(1 << 26), length, flags, magic)
                talk += random.randbytes(length) if command == n.WRITE else b""
            if rounds % 4 > 0:
                for _ in range(random.randint(1, 8)):
                    talk[random.randrange(len(talk))] = random.randrange(256)
            if rounds % 8 == 7:
                talk = random.randbytes(random.randint(1, 2000))
            with Client(path, timeout=5) as c:
                c.socket.setblocking(False)
                sent = 0
                try:
                    while sent < len(talk):
                        sent += c.socket.send(talk[sent:sent + random.randint(1, 100000)])
                    c.socket.recv(1 << 20)
                except OSError:
                    pass
            # Garbage may write anywhere, so what is there is not compared.
            honest.write(1 << 20, b"honest")
            honest.read(1 << 20, 6)


def main():
    only = sys.argv[5:]
    failures = 0
    assert set(only) <= set(globals()), "no such test"
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (only and name not in only):
            continue
        begin = time.monotonic()
        try:
            test()
            verdict = "ok"
        except (AssertionError, Closed, OSError, struct.error) as error:
            failures += 1
            line = error.__traceback__
            while line.tb_next:
                line = line.tb_next
            verdict = f"FAILED: {error!r} at line {line.tb_lineno}"
            inner = error.__traceback__.tb_next
            if inner:
                verdict += f" (of the test: {inner.tb_lineno})"
        print(f"{name}: {verdict} ({time.monotonic() - begin:.2f} s)", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
