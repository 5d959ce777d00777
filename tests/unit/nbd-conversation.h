/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation with the NBD handshake, for its tests: what the client says is put together first,
 * then held several times, with the client's bytes cut differently, and must end the same way; then
 * what the server said is looked at, piece by piece.  One volume is not exported, one is writable,
 * one read-only.
 */
#ifndef TESTS_UNIT_NBD_CONVERSATION_H
#define TESTS_UNIT_NBD_CONVERSATION_H

#include <stdio.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-contexts.h"
#include "frontends/nbd/nbd-handshake.h"
#include "frontends/nbd/nbd-protocol.h"
#include "io/request.h"
#include "io/volume.h"
#include "tests/unit/unit.h"

#define BYTES_MAX (1u << 20)

static struct volume volumes[VOLUMES_MAX];
static unsigned volumes_used;

unsigned volume_count(struct cache *cache)
{
    (void)cache;
    return volumes_used;
}

struct volume *volume_at(struct cache *cache, unsigned index)
{
    (void)cache;
    return index < volumes_used ? &volumes[index] : NULL;
}

static unsigned char client[BYTES_MAX], server[BYTES_MAX];
static size_t client_bytes, server_bytes, server_read;
static struct nbd_handshake handshake;
static enum nbd_tls_mode tls;
static bool stopping;

/* ---- what the client says --------------------------------------------------------------- */

static inline void say(const void *data, size_t bytes)
{
    ck_assert_uint_le(client_bytes + bytes, sizeof(client));
    if (bytes != 0)
        memcpy(client + client_bytes, data, bytes);
    client_bytes += bytes;
}

static inline void say16(uint16_t value)
{
    unsigned char wire[2];

    be16_store(wire, value);
    say(wire, sizeof(wire));
}

static inline void say32(uint32_t value)
{
    unsigned char wire[4];

    be32_store(wire, value);
    say(wire, sizeof(wire));
}

static inline void say_option_header(uint32_t option, uint32_t length)
{
    say("IHAVEOPT", 8);
    say32(option);
    say32(length);
}

static inline void say_option(uint32_t option, const void *data, size_t bytes)
{
    say_option_header(option, (uint32_t)bytes);
    say(data, bytes);
}

static inline void say_info(uint32_t option, const char *name, const uint16_t *wishes,
                            uint16_t count)
{
    say_option_header(option, (uint32_t)(6 + strlen(name) + 2u * count));
    say32((uint32_t)strlen(name));
    say(name, strlen(name));
    say16(count);
    for (unsigned i = 0; i < count; i++)
        say16(wishes[i]);
}

static inline void say_contexts(uint32_t option, const char *name, const char *const *queries,
                                uint32_t count)
{
    size_t bytes = 8 + strlen(name);

    for (uint32_t i = 0; i < count; i++)
        bytes += 4 + strlen(queries[i]);
    say_option_header(option, (uint32_t)bytes);
    say32((uint32_t)strlen(name));
    say(name, strlen(name));
    say32(count);
    for (uint32_t i = 0; i < count; i++) {
        say32((uint32_t)strlen(queries[i]));
        say(queries[i], strlen(queries[i]));
    }
}

/* ---- what the server answers ------------------------------------------------------------ */

static inline const unsigned char *hear(size_t bytes)
{
    const unsigned char *place = server + server_read;

    ck_assert_uint_le(server_read + bytes, server_bytes);
    server_read += bytes;
    return place;
}

static inline void hear_greeting(void)
{
    ck_assert_mem_eq(hear(16), "NBDMAGICIHAVEOPT", 16);
    ck_assert_uint_eq(be16_load(hear(2)), 3);
}

/* The payload of a reply of that type. */
static inline const unsigned char *hear_reply(uint32_t option, uint32_t type, size_t *bytes)
{
    const unsigned char *head = hear(NBD_OPTION_REPLY_BYTES);

    ck_assert_uint_eq(be64_load(head), NBD_OPTION_REPLY_MAGIC);
    ck_assert_uint_eq(be32_load(head + 8), option);
    ck_assert_uint_eq(be32_load(head + 12), type);
    *bytes = be32_load(head + 16);
    return hear(*bytes);
}

static inline void hear_ack(uint32_t option)
{
    size_t bytes;

    hear_reply(option, NBD_REP_ACK, &bytes);
    ck_assert_uint_eq(bytes, 0);
}

static inline void hear_error(uint32_t option, uint32_t type)
{
    size_t bytes;

    hear_reply(option, type, &bytes);
    ck_assert_uint_gt(bytes, 0); /* says why */
}

static inline void hear_info_export(uint32_t option, uint64_t size, uint16_t flags)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_INFO, &bytes);

    ck_assert_uint_eq(bytes, 12);
    ck_assert_uint_eq(be16_load(data), NBD_INFO_EXPORT);
    ck_assert_uint_eq(be64_load(data + 2), size);
    ck_assert_uint_eq(be16_load(data + 10), flags);
}

static inline void hear_info_text(uint32_t option, uint16_t info, const char *text)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_INFO, &bytes);

    ck_assert_uint_eq(bytes, 2 + strlen(text));
    ck_assert_uint_eq(be16_load(data), info);
    ck_assert_mem_eq(data + 2, text, strlen(text));
}

static inline void hear_context(uint32_t option, uint32_t id, const char *name)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_META_CONTEXT, &bytes);

    ck_assert_uint_eq(bytes, 4 + strlen(name));
    ck_assert_uint_eq(be32_load(data), id);
    ck_assert_mem_eq(data + 4, name, strlen(name));
}

static inline void hear_nothing_more(void)
{
    ck_assert_uint_eq(server_read, server_bytes);
}

/* ---- holding the conversation ----------------------------------------------------------- */

/*
 * Lets the server answer the first `bytes` of what the client says, which arrive `cut` at a time.
 * Each step gets its input in memory of exactly that size, so that sanitizers see every overrun.
 * Returns the result, *used is how much of the client's bytes was consumed.
 */
static inline enum nbd_handshake_result converse(size_t bytes, size_t cut, size_t *used)
{
    enum nbd_handshake_result result;
    size_t start = 0, end = 0;

    nbd_handshake_init(&handshake, NULL);
    handshake.tls = tls;
    handshake.stopping = stopping;
    server_bytes = server_read = 0;
    for (;;) {
        size_t consumed, answered;
        unsigned char *input = malloc(end - start + 1),
                      *output = malloc(NBD_HANDSHAKE_OUTPUT_BYTES);

        memcpy(input, client + start, end - start);
        result = nbd_handshake_step(&handshake, input, end - start, &consumed, output, &answered);
        ck_assert_uint_le(consumed, end - start);
        ck_assert_uint_le(answered, NBD_HANDSHAKE_OUTPUT_BYTES);
        ck_assert_uint_le(server_bytes + answered, sizeof(server));
        memcpy(server + server_bytes, output, answered);
        server_bytes += answered;
        start += consumed;
        free(input);
        free(output);
        *used = start;
        if (result == NBD_HANDSHAKE_SECURE) /* our TLS is a good one: nobody sees a difference */
            nbd_handshake_secured(&handshake);
        else if (result != NBD_HANDSHAKE_MORE)
            return result;
        if (answered != 0)
            continue;
        /* The input that waits never needs more room than the header promises. */
        ck_assert_uint_le(end - start, NBD_HANDSHAKE_DATA_BYTES_MAX + NBD_OPTION_HEADER_BYTES);
        if (end == bytes)
            return result;
        end = bytes - end < cut ? bytes : end + cut;
    }
}

/* Holds it with all cuts from 1 byte to everything at once; all must come out the same. */
static inline enum nbd_handshake_result converse_all(size_t *used)
{
    static unsigned char expected[BYTES_MAX];
    enum nbd_handshake_result result = converse(client_bytes, 4096, used);
    size_t expected_bytes = server_bytes;
    static const size_t cuts[] = {1, 2, 3, 7, 16, 17, 100, 4095};

    memcpy(expected, server, server_bytes);
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        size_t other;

        if (client_bytes / cuts[i] > 2000)
            continue; /* takes long, and shows no more */
        ck_assert_int_eq(converse(client_bytes, cuts[i], &other), result);
        ck_assert_uint_eq(other, *used);
        ck_assert_uint_eq(server_bytes, expected_bytes);
        ck_assert_mem_eq(server, expected, expected_bytes);
    }
    server_read = 0;
    return result;
}

static inline enum nbd_handshake_result converse_fully(void)
{
    size_t used;
    enum nbd_handshake_result result = converse_all(&used);

    ck_assert_uint_eq(used, client_bytes);
    return result;
}

static inline void setup(void)
{
    memset(volumes, 0, sizeof(volumes));
    strcpy(volumes[0].name, "hidden");
    volumes[0].bytes = 1;
    strcpy(volumes[1].name, "db");
    strcpy(volumes[1].description, "the database");
    volumes[1].bytes = 123456789;
    volumes[1].nbd = volumes[1].unnamed = true;
    strcpy(volumes[2].name, "archive");
    volumes[2].bytes = UINT64_C(1) << 45;
    volumes[2].nbd = true;
    volumes[2].read_only = true;
    volumes_used = 3;
    tls = NBD_TLS_OFF;
    stopping = false;
    client_bytes = 0;
    say32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

/* Has flags, flush, FUA, trim, write zeroes, multi-conn, cache, fast zero. */
#define FLAGS_WRITABLE   0x0d6d
#define FLAGS_READ_ONLY  0x050f /* has flags, read-only, flush, FUA, multi-conn, cache */
#define FLAGS_STRUCTURED 0x0080 /* DF */

#endif
