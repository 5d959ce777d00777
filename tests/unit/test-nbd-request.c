/* SPDX-License-Identifier: Apache-2.0 */
/* NBD requests and replies: parsing, validation and encoding, value by value. */
#include "frontends/nbd/nbd-request.h"

#include <errno.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-reply.h"
#include "io/request.h"
#include "tests/unit/unit.h"

#define EXPORT_BYTES (UINT64_C(1) << 40)

static const struct nbd_rules plain = {.bytes = EXPORT_BYTES};
static const struct nbd_rules structured = {.bytes = EXPORT_BYTES, .style = NBD_STYLE_STRUCTURED};
static const struct nbd_rules extended = {.bytes = EXPORT_BYTES, .style = NBD_STYLE_EXTENDED};
static const struct nbd_rules read_only = {.bytes = EXPORT_BYTES, .read_only = true};

static void wire_request(unsigned char *wire, uint16_t flags, uint16_t type, uint64_t offset,
                         uint32_t length)
{
    be32_store(wire, NBD_REQUEST_MAGIC);
    be16_store(wire + 4, flags);
    be16_store(wire + 6, type);
    memcpy(wire + 8, "cookie!!", 8);
    be64_store(wire + 16, offset);
    be32_store(wire + 24, length);
}

static uint32_t check(const struct nbd_rules *rules, uint16_t type, uint16_t flags, uint64_t offset,
                      uint32_t length)
{
    unsigned char wire[NBD_REQUEST_BYTES];
    struct nbd_request request;
    struct nbd_refusal refusal;

    wire_request(wire, flags, type, offset, length);
    if (!nbd_request_parse(wire, &request))
        ck_abort_msg("the magic is right");
    refusal = nbd_request_check(&request, rules);
    if ((refusal.error == 0) != (refusal.text == NULL) ||
        (refusal.text != NULL && strlen(refusal.text) > NBD_REPLY_TEXT_BYTES_MAX))
        ck_abort_msg("each refusal has a text that fits");
    return refusal.error;
}

START_TEST(parse_all_fields)
{
    unsigned char wire[NBD_REQUEST_BYTES];
    struct nbd_request request;

    wire_request(wire, 0x1234, 0x5678, UINT64_C(0x123456789abcdef0), 0xfedcba98);
    ck_assert(nbd_request_parse(wire, &request));
    ck_assert_uint_eq(request.flags, 0x1234);
    ck_assert_uint_eq(request.type, 0x5678);
    ck_assert_uint_eq(request.offset, UINT64_C(0x123456789abcdef0));
    ck_assert_uint_eq(request.length, 0xfedcba98);
    ck_assert_mem_eq(request.cookie, "cookie!!", 8);
    for (unsigned i = 0; i < 32; i++) { /* every bit of the magic counts */
        wire_request(wire, 0, 0, 0, 0);
        wire[i / 8] ^= (unsigned char)(1u << i % 8);
        ck_assert(!nbd_request_parse(wire, &request));
    }
}
END_TEST

START_TEST(only_a_write_has_a_payload)
{
    struct nbd_request request = {.length = 77};

    for (unsigned type = 0; type < 65536; type++) {
        request.type = (uint16_t)type;
        request.flags = 0xffff;
        ck_assert_uint_eq(nbd_request_payload_bytes(&request, &structured),
                          type == NBD_CMD_WRITE ? 77 : 0);
        ck_assert_uint_eq(nbd_request_payload_bytes(&request, &extended), 77);
        request.flags = 0xffff & ~NBD_CMD_FLAG_PAYLOAD_LEN;
        ck_assert_uint_eq(nbd_request_payload_bytes(&request, &extended), 0);
    }
}
END_TEST

START_TEST(parse_extended)
{
    unsigned char wire[NBD_EXTENDED_REQUEST_BYTES];
    struct nbd_request request;

    wire_request(wire, 0x1234, 0x5678, UINT64_C(0x123456789abcdef0), 0);
    be32_store(wire, NBD_EXTENDED_REQUEST_MAGIC);
    be64_store(wire + 24, UINT64_C(0xfedcba9876543210));
    ck_assert(nbd_request_parse_extended(wire, &request));
    ck_assert_uint_eq(request.flags, 0x1234);
    ck_assert_uint_eq(request.type, 0x5678);
    ck_assert_uint_eq(request.offset, UINT64_C(0x123456789abcdef0));
    ck_assert_uint_eq(request.length, UINT64_C(0xfedcba9876543210));
    ck_assert_mem_eq(request.cookie, "cookie!!", 8);
    be32_store(wire, NBD_REQUEST_MAGIC); /* the other one is not taken */
    ck_assert(!nbd_request_parse_extended(wire, &request));
    be32_store(wire, NBD_EXTENDED_REQUEST_MAGIC);
    ck_assert(!nbd_request_parse(wire, &request));
}
END_TEST

static uint32_t check_extended(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length)
{
    struct nbd_request request = {.type = type, .flags = flags, .offset = offset, .length = length};

    return nbd_request_check(&request, &extended).error;
}

START_TEST(payload_flag)
{
    const uint16_t flag = NBD_CMD_FLAG_PAYLOAD_LEN;

    ck_assert_uint_eq(check_extended(NBD_CMD_WRITE, flag, 0, 512), NBD_SUCCESS);
    ck_assert_uint_eq(check_extended(NBD_CMD_WRITE, flag | NBD_CMD_FLAG_FUA, 0, 512), NBD_SUCCESS);
    ck_assert_uint_eq(check_extended(NBD_CMD_WRITE, 0, 0, 512), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_READ, flag, 0, 512), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_TRIM, flag, 0, 512), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_FLUSH, flag, 0, 0), NBD_EINVAL);
    /* Compact requests have no such flag. */
    ck_assert_uint_eq(check(&structured, NBD_CMD_WRITE, flag, 0, 512), NBD_EINVAL);
}
END_TEST

START_TEST(lengths_of_64_bits)
{
    ck_assert_uint_eq(check_extended(NBD_CMD_TRIM, 0, 0, EXPORT_BYTES), NBD_SUCCESS);
    ck_assert_uint_eq(check_extended(NBD_CMD_CACHE, 0, 0, EXPORT_BYTES), NBD_SUCCESS);
    ck_assert_uint_eq(check_extended(NBD_CMD_WRITE_ZEROES, 0, 0, EXPORT_BYTES), NBD_SUCCESS);
    ck_assert_uint_eq(check_extended(NBD_CMD_WRITE_ZEROES, 0, 0, EXPORT_BYTES + 1), NBD_ENOSPC);
    ck_assert_uint_eq(check_extended(NBD_CMD_TRIM, 0, 1, EXPORT_BYTES), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_TRIM, 0, 1, UINT64_MAX), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_READ, 0, 0, EXPORT_BYTES), NBD_EINVAL);
    ck_assert_uint_eq(check_extended(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, EXPORT_BYTES),
                      NBD_EOVERFLOW);
}
END_TEST

START_TEST(unknown_commands_are_invalid)
{
    unsigned refused = 0;

    for (unsigned type = 8; type < 65536; type++)
        refused += check(&structured, (uint16_t)type, 0, 0, 1) == NBD_EINVAL;
    ck_assert_uint_eq(refused, 65536 - 8);
}
END_TEST

START_TEST(flags_by_command)
{
    static const uint16_t allowed[] = {
        [NBD_CMD_READ] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF,
        [NBD_CMD_WRITE] = NBD_CMD_FLAG_FUA,
        [NBD_CMD_FLUSH] = NBD_CMD_FLAG_FUA,
        [NBD_CMD_TRIM] = NBD_CMD_FLAG_FUA,
        [NBD_CMD_CACHE] = NBD_CMD_FLAG_FUA,
        [NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    };
    unsigned wrong = 0;

    for (uint16_t type = 0; type <= NBD_CMD_WRITE_ZEROES; type++) {
        uint32_t length = type == NBD_CMD_FLUSH ? 0 : 512;

        if (type == NBD_CMD_DISC)
            continue;
        for (unsigned flags = 0; flags < 65536; flags++) {
            uint32_t expected = (flags & ~(unsigned)allowed[type]) == 0 ? NBD_SUCCESS : NBD_EINVAL;

            wrong += check(&structured, type, (uint16_t)flags, 0, length) != expected;
        }
    }
    ck_assert_uint_eq(wrong, 0);
    /* DF exists only with structured replies. */
    ck_assert_uint_eq(check(&plain, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512), NBD_EINVAL);
}
END_TEST

START_TEST(ranges)
{
    static const struct {
        uint16_t type;
        uint32_t beyond;
    } commands[] = {{NBD_CMD_READ, NBD_EINVAL},
                    {NBD_CMD_WRITE, NBD_ENOSPC},
                    {NBD_CMD_TRIM, NBD_EINVAL},
                    {NBD_CMD_CACHE, NBD_EINVAL},
                    {NBD_CMD_WRITE_ZEROES, NBD_ENOSPC}};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        uint16_t type = commands[i].type;
        uint32_t beyond = commands[i].beyond;

        ck_assert_uint_eq(check(&plain, type, 0, 0, 0), NBD_SUCCESS);
        ck_assert_uint_eq(check(&plain, type, 0, EXPORT_BYTES, 0), NBD_SUCCESS);
        ck_assert_uint_eq(check(&plain, type, 0, EXPORT_BYTES - 1, 1), NBD_SUCCESS);
        ck_assert_uint_eq(check(&plain, type, 0, EXPORT_BYTES - 1, 2), beyond);
        ck_assert_uint_eq(check(&plain, type, 0, EXPORT_BYTES, 1), beyond);
        ck_assert_uint_eq(check(&plain, type, 0, EXPORT_BYTES + 1, 0), beyond);
        ck_assert_uint_eq(check(&plain, type, 0, UINT64_MAX, 1), beyond);
        ck_assert_uint_eq(check(&plain, type, 0, UINT64_MAX, UINT32_MAX), beyond);
        ck_assert_uint_eq(check(&plain, type, 0, UINT64_MAX - UINT32_MAX, UINT32_MAX), beyond);
    }
}
END_TEST

START_TEST(maximum_block_size)
{
    ck_assert_uint_eq(check(&plain, NBD_CMD_READ, 0, 0, REQUEST_BYTES_MAX), NBD_SUCCESS);
    ck_assert_uint_eq(check(&plain, NBD_CMD_WRITE, 0, 0, REQUEST_BYTES_MAX), NBD_SUCCESS);
    ck_assert_uint_eq(check(&plain, NBD_CMD_READ, 0, 0, REQUEST_BYTES_MAX + 1), NBD_EINVAL);
    ck_assert_uint_eq(check(&plain, NBD_CMD_WRITE, 0, 0, REQUEST_BYTES_MAX + 1), NBD_EINVAL);
    ck_assert_uint_eq(check(&structured, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, UINT32_MAX),
                      NBD_EOVERFLOW);
    /* Nothing travels for these. */
    ck_assert_uint_eq(check(&plain, NBD_CMD_TRIM, 0, 0, UINT32_MAX), NBD_SUCCESS);
    ck_assert_uint_eq(check(&plain, NBD_CMD_CACHE, 0, 0, UINT32_MAX), NBD_SUCCESS);
    ck_assert_uint_eq(check(&plain, NBD_CMD_WRITE_ZEROES, 0, 0, UINT32_MAX), NBD_SUCCESS);
}
END_TEST

START_TEST(read_only_export)
{
    ck_assert_uint_eq(check(&read_only, NBD_CMD_READ, 0, 0, 1), NBD_SUCCESS);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_FLUSH, 0, 0, 0), NBD_SUCCESS);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_CACHE, 0, 0, 1), NBD_SUCCESS);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_WRITE, 0, 0, 1), NBD_EPERM);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_TRIM, 0, 0, 1), NBD_EPERM);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_WRITE_ZEROES, 0, 0, 1), NBD_EPERM);
    ck_assert_uint_eq(check(&read_only, NBD_CMD_WRITE, 0, EXPORT_BYTES, 1), NBD_EPERM);
}
END_TEST

START_TEST(flush_and_disconnect)
{
    ck_assert_uint_eq(check(&plain, NBD_CMD_FLUSH, 0, 0, 1), NBD_EINVAL);
    ck_assert_uint_eq(check(&plain, NBD_CMD_FLUSH, 0, 1, 0), NBD_EINVAL);
    ck_assert_uint_eq(check(&plain, NBD_CMD_DISC, 0xffff, 1, 2), NBD_SUCCESS);
}
END_TEST

START_TEST(simple_replies)
{
    struct nbd_request request = {.type = NBD_CMD_READ, .length = 4096, .cookie = "cookie!"};
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];

    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_SIMPLE, 0, NULL), 16);
    ck_assert_mem_eq(head, "\x67\x44\x66\x98\0\0\0\0cookie!", 16);
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_SIMPLE, NBD_ENOSPC, "full"), 16);
    ck_assert_mem_eq(head,
                     "\x67\x44\x66\x98\0\0\0\x1c"
                     "cookie!",
                     16);
    request.type = NBD_CMD_WRITE;
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, 0, NULL), 16);
    ck_assert_mem_eq(head, "\x67\x44\x66\x98\0\0\0\0cookie!", 16);
}
END_TEST

START_TEST(structured_replies)
{
    struct nbd_request request = {
        .type = NBD_CMD_READ, .offset = 0x123456789a, .length = 4096, .cookie = "cookie!"};
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];
    char text[100];

    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, 0, NULL), 28);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\1\0\1cookie!\0\0\0\x10\x08", 20);
    ck_assert_mem_eq(head + 20, "\0\0\0\x12\x34\x56\x78\x9a", 8);

    request.length = 0;
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, 0, NULL), 20);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\1\0\0cookie!\0\0\0\0\0", 20);

    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, NBD_EIO, "oh"), 28);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\1\x80\1cookie!\0\0\0\0\x08", 20);
    ck_assert_mem_eq(head + 20, "\0\0\0\5\0\2oh", 8);

    request.type = NBD_CMD_WRITE;
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, NBD_EIO, NULL), 26);

    memset(text, 't', sizeof(text)); /* a text that is too long is cut */
    text[sizeof(text) - 1] = '\0';
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_STRUCTURED, NBD_EIO, text),
                      26 + NBD_REPLY_TEXT_BYTES_MAX);
    ck_assert_uint_eq(be16_load(head + 24), NBD_REPLY_TEXT_BYTES_MAX);
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_EXTENDED, NBD_EIO, text),
                      sizeof(head) - 8);
    ck_assert_uint_eq(be16_load(head + 36), NBD_REPLY_TEXT_BYTES_MAX);
}
END_TEST

/* ---- BLOCK_STATUS ------------------------------------------------------------------------ */

START_TEST(status)
{
    const struct nbd_rules selected = {
        .bytes = EXPORT_BYTES, .style = NBD_STYLE_STRUCTURED, .contexts = 1, .read_only = true};
    const uint16_t type = NBD_CMD_BLOCK_STATUS;

    ck_assert_uint_eq(check(&structured, type, 0, 0, 512), NBD_EINVAL); /* nothing selected */
    ck_assert_uint_eq(check(&selected, type, 0, 0, 512), NBD_SUCCESS);
    ck_assert_uint_eq(check(&selected, type, NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_FUA, 7, 3),
                      NBD_SUCCESS);
    ck_assert_uint_eq(check(&selected, type, NBD_CMD_FLAG_DF, 0, 512), NBD_EINVAL);
    ck_assert_uint_eq(check(&selected, type, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 512), NBD_EINVAL);
    ck_assert_uint_eq(check(&selected, type, 0, 0, 0), NBD_EINVAL);
    ck_assert_uint_eq(check(&selected, type, 0, EXPORT_BYTES, 1), NBD_EINVAL);
    ck_assert_uint_eq(check(&selected, type, 0, 0, UINT32_MAX), NBD_SUCCESS);
}
END_TEST

START_TEST(status_payload)
{
    static const struct {
        uint32_t bytes, first, second;
        uint8_t contexts; /* 0: refused */
    } cases[] = {{12, 1, 0, 1}, {12, 2, 0, 2}, {16, 1, 2, 3}, {16, 2, 1, 3}, {16, 1, 1, 0},
                 {12, 0, 0, 0}, {12, 3, 0, 0}, {12, 4, 0, 0}, {16, 1, 4, 0}, {12, 257, 0, 0},
                 {8, 0, 0, 0},  {0, 0, 0, 0},  {11, 1, 0, 0}, {13, 1, 0, 0}, {4, 0, 0, 0}};
    const struct nbd_rules rules = {
        .bytes = EXPORT_BYTES, .style = NBD_STYLE_EXTENDED, .contexts = 3};
    const struct nbd_rules one = {
        .bytes = EXPORT_BYTES, .style = NBD_STYLE_EXTENDED, .contexts = 1};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char payload[NBD_STATUS_PAYLOAD_BYTES_MAX] = {0};
        struct nbd_request request = {.type = NBD_CMD_BLOCK_STATUS,
                                      .flags = NBD_CMD_FLAG_PAYLOAD_LEN | NBD_CMD_FLAG_REQ_ONE,
                                      .length = cases[i].bytes};

        be64_store(payload, UINT64_C(0x123456789a));
        be32_store(payload + 8, cases[i].first);
        be32_store(payload + 12, cases[i].second);
        ck_assert(nbd_request_status_selects(&request, &rules));
        ck_assert_int_eq(nbd_request_status_payload(&request, &rules, payload),
                         cases[i].contexts != 0);
        if (cases[i].contexts == 0) {
            ck_assert_uint_eq(nbd_request_payload_bytes(&request, &rules), cases[i].bytes);
            ck_assert_uint_eq(nbd_request_check(&request, &rules).error, NBD_EINVAL);
            continue;
        }
        ck_assert_uint_eq(request.contexts, cases[i].contexts);
        ck_assert_uint_eq(request.length, UINT64_C(0x123456789a));
        ck_assert_uint_eq(request.flags, NBD_CMD_FLAG_REQ_ONE);
        ck_assert_uint_eq(nbd_request_check(&request, &rules).error, NBD_SUCCESS);
        request.flags |= NBD_CMD_FLAG_PAYLOAD_LEN; /* only what was selected */
        request.length = cases[i].bytes;
        ck_assert_int_eq(nbd_request_status_payload(&request, &one, payload),
                         cases[i].contexts == 1);
    }
}
END_TEST

START_TEST(extended_replies)
{
    struct nbd_request request = {
        .type = NBD_CMD_READ, .offset = 0x123456789a, .length = 4096, .cookie = "cookie!"};
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];

    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_EXTENDED, 0, NULL), 40);
    ck_assert_mem_eq(head, "\x6e\x8a\x27\x8c\0\1\0\1cookie!\0", 16);
    ck_assert_mem_eq(head + 16, "\0\0\0\x12\x34\x56\x78\x9a\0\0\0\0\0\0\x10\x08", 16);
    ck_assert_mem_eq(head + 32, "\0\0\0\x12\x34\x56\x78\x9a", 8);

    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_EXTENDED, NBD_EIO, "oh"), 40);
    ck_assert_mem_eq(head, "\x6e\x8a\x27\x8c\0\1\x80\1cookie!\0", 16);
    ck_assert_mem_eq(head + 24, "\0\0\0\0\0\0\0\x08\0\0\0\5\0\2oh", 16);

    request.type = NBD_CMD_WRITE; /* there are no simple ones any more */
    ck_assert_uint_eq(nbd_reply_head(head, &request, NBD_STYLE_EXTENDED, 0, NULL), 32);
    ck_assert_mem_eq(head, "\x6e\x8a\x27\x8c\0\1\0\0cookie!\0", 16);
    ck_assert_mem_eq(head + 16, "\0\0\0\x12\x34\x56\x78\x9a\0\0\0\0\0\0\0\0", 16);
}
END_TEST

START_TEST(errors_with_offset)
{
    struct nbd_request request = {
        .type = NBD_CMD_WRITE, .offset = 0x1000, .length = 4096, .cookie = "cookie!"};
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];
    char text[100] = {0};

    ck_assert_uint_eq(
        nbd_reply_head_at(head, &request, NBD_STYLE_STRUCTURED, NBD_EIO, "oh", 0x1234), 36);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\1\x80\2cookie!\0\0\0\0\x10", 20);
    ck_assert_mem_eq(head + 20, "\0\0\0\5\0\2oh\0\0\0\0\0\0\x12\x34", 16);
    memset(text, 't', sizeof(text) - 1);
    ck_assert_uint_eq(nbd_reply_head_at(head, &request, NBD_STYLE_EXTENDED, NBD_EIO, text, 0x1234),
                      sizeof(head));
    ck_assert_mem_eq(head + sizeof(head) - 8, "\0\0\0\0\0\0\x12\x34", 8);
    ck_assert_uint_eq(nbd_reply_head_at(head, &request, NBD_STYLE_SIMPLE, NBD_EIO, text, 0x1234),
                      16);
}
END_TEST

START_TEST(chunks_that_are_not_the_last)
{
    struct nbd_request request = {
        .type = NBD_CMD_READ, .offset = 0x1000, .length = 4096, .cookie = "cookie!"};
    unsigned char head[NBD_REPLY_HEAD_BYTES_MAX];

    ck_assert_uint_eq(nbd_reply_data(head, &request, NBD_STYLE_STRUCTURED, 0x1100, 5), 28);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\0\0\1cookie!\0\0\0\0\x0d", 20);
    ck_assert_mem_eq(head + 20, "\0\0\0\0\0\0\x11\0", 8);
    ck_assert_uint_eq(nbd_reply_hole(head, &request, NBD_STYLE_STRUCTURED, 0x1100, 5), 32);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\0\0\2cookie!\0\0\0\0\x0c", 20);
    ck_assert_mem_eq(head + 20, "\0\0\0\0\0\0\x11\0\0\0\0\5", 12);
    nbd_reply_done(head);
    ck_assert_mem_eq(head, "\x66\x8e\x33\xef\0\1\0\2", 8);
    ck_assert_uint_eq(nbd_reply_hole(head, &request, NBD_STYLE_EXTENDED, 0x1100, 5), 44);
    ck_assert_mem_eq(head + 16, "\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x0c", 16);
}
END_TEST

START_TEST(errors_by_errno)
{
    static const struct {
        int error;
        uint32_t reply;
    } pairs[] = {{0, 0},       {-EPERM, 1},   {-EROFS, 1},       {-EACCES, 1},
                 {-EIO, 5},    {-ENOMEM, 12}, {-EINVAL, 22},     {-ENOSPC, 28},
                 {-EFBIG, 28}, {-EDQUOT, 28}, {-ESHUTDOWN, 108}, {-EOPNOTSUPP, 95}};

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        ck_assert_uint_eq(nbd_reply_error(pairs[i].error), pairs[i].reply);
    /* What the document reserves for special cases, or does not know, is an I/O error. */
    ck_assert_uint_eq(nbd_reply_error(-EOVERFLOW), NBD_EIO);
    ck_assert_uint_eq(nbd_reply_error(-ETIMEDOUT), NBD_EIO);
    ck_assert_uint_eq(nbd_reply_error(-ENODEV), NBD_EIO);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("nbd-request");

    tcase_add_test(cases, parse_all_fields);
    tcase_add_test(cases, only_a_write_has_a_payload);
    tcase_add_test(cases, parse_extended);
    tcase_add_test(cases, payload_flag);
    tcase_add_test(cases, lengths_of_64_bits);
    tcase_add_test(cases, unknown_commands_are_invalid);
    tcase_add_test(cases, flags_by_command);
    tcase_add_test(cases, ranges);
    tcase_add_test(cases, maximum_block_size);
    tcase_add_test(cases, read_only_export);
    tcase_add_test(cases, flush_and_disconnect);
    tcase_add_test(cases, simple_replies);
    tcase_add_test(cases, structured_replies);
    tcase_add_test(cases, status);
    tcase_add_test(cases, status_payload);
    tcase_add_test(cases, extended_replies);
    tcase_add_test(cases, errors_with_offset);
    tcase_add_test(cases, chunks_that_are_not_the_last);
    tcase_add_test(cases, errors_by_errno);
    return unit_run("nbd-request", cases);
}
