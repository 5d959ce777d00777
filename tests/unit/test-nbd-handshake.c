/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD handshake: every option, every truncation, hostile lengths.  Each conversation is held
 * several times, with the client's bytes cut differently, and must end the same way.
 */
#include "frontends/nbd/nbd-handshake.h"

#include <stdio.h>
#include <string.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-contexts.h"
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
    ck_assert_uint_lt(index, volumes_used);
    return &volumes[index];
}

static unsigned char client[BYTES_MAX], server[BYTES_MAX];
static size_t client_bytes, server_bytes, server_read;
static struct nbd_handshake handshake;

/* ---- what the client says --------------------------------------------------------------- */

static void say(const void *data, size_t bytes)
{
    ck_assert_uint_le(client_bytes + bytes, sizeof(client));
    if (bytes != 0)
        memcpy(client + client_bytes, data, bytes);
    client_bytes += bytes;
}

static void say16(uint16_t value)
{
    unsigned char wire[2];

    be16_store(wire, value);
    say(wire, sizeof(wire));
}

static void say32(uint32_t value)
{
    unsigned char wire[4];

    be32_store(wire, value);
    say(wire, sizeof(wire));
}

static void say_option_header(uint32_t option, uint32_t length)
{
    say("IHAVEOPT", 8);
    say32(option);
    say32(length);
}

static void say_option(uint32_t option, const void *data, size_t bytes)
{
    say_option_header(option, (uint32_t)bytes);
    say(data, bytes);
}

static void say_info(uint32_t option, const char *name, const uint16_t *wishes, uint16_t count)
{
    say_option_header(option, (uint32_t)(6 + strlen(name) + 2u * count));
    say32((uint32_t)strlen(name));
    say(name, strlen(name));
    say16(count);
    for (unsigned i = 0; i < count; i++)
        say16(wishes[i]);
}

static void say_contexts(uint32_t option, const char *name, const char *const *queries,
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

static const unsigned char *hear(size_t bytes)
{
    const unsigned char *place = server + server_read;

    ck_assert_uint_le(server_read + bytes, server_bytes);
    server_read += bytes;
    return place;
}

static void hear_greeting(void)
{
    ck_assert_mem_eq(hear(16), "NBDMAGICIHAVEOPT", 16);
    ck_assert_uint_eq(be16_load(hear(2)), 3);
}

/* The payload of a reply of that type. */
static const unsigned char *hear_reply(uint32_t option, uint32_t type, size_t *bytes)
{
    const unsigned char *head = hear(NBD_OPTION_REPLY_BYTES);

    ck_assert_uint_eq(be64_load(head), NBD_OPTION_REPLY_MAGIC);
    ck_assert_uint_eq(be32_load(head + 8), option);
    ck_assert_uint_eq(be32_load(head + 12), type);
    *bytes = be32_load(head + 16);
    return hear(*bytes);
}

static void hear_ack(uint32_t option)
{
    size_t bytes;

    hear_reply(option, NBD_REP_ACK, &bytes);
    ck_assert_uint_eq(bytes, 0);
}

static void hear_error(uint32_t option, uint32_t type)
{
    size_t bytes;

    hear_reply(option, type, &bytes);
    ck_assert_uint_gt(bytes, 0); /* says why */
}

static void hear_info_export(uint32_t option, uint64_t size, uint16_t flags)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_INFO, &bytes);

    ck_assert_uint_eq(bytes, 12);
    ck_assert_uint_eq(be16_load(data), NBD_INFO_EXPORT);
    ck_assert_uint_eq(be64_load(data + 2), size);
    ck_assert_uint_eq(be16_load(data + 10), flags);
}

static void hear_info_text(uint32_t option, uint16_t info, const char *text)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_INFO, &bytes);

    ck_assert_uint_eq(bytes, 2 + strlen(text));
    ck_assert_uint_eq(be16_load(data), info);
    ck_assert_mem_eq(data + 2, text, strlen(text));
}

static void hear_context(uint32_t option, uint32_t id, const char *name)
{
    size_t bytes;
    const unsigned char *data = hear_reply(option, NBD_REP_META_CONTEXT, &bytes);

    ck_assert_uint_eq(bytes, 4 + strlen(name));
    ck_assert_uint_eq(be32_load(data), id);
    ck_assert_mem_eq(data + 4, name, strlen(name));
}

static void hear_nothing_more(void)
{
    ck_assert_uint_eq(server_read, server_bytes);
}

/* ---- holding the conversation ----------------------------------------------------------- */

/*
 * Lets the server answer the first `bytes` of what the client says, which arrive `cut` at a time.
 * Each step gets its input in memory of exactly that size, so that sanitizers see every overrun.
 * Returns the result, *used is how much of the client's bytes was consumed.
 */
static enum nbd_handshake_result converse(size_t bytes, size_t cut, size_t *used)
{
    enum nbd_handshake_result result;
    size_t start = 0, end = 0;

    nbd_handshake_init(&handshake, NULL);
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
        if (result != NBD_HANDSHAKE_MORE)
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
static enum nbd_handshake_result converse_all(size_t *used)
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

static enum nbd_handshake_result converse_fully(void)
{
    size_t used;
    enum nbd_handshake_result result = converse_all(&used);

    ck_assert_uint_eq(used, client_bytes);
    return result;
}

static void setup(void)
{
    memset(volumes, 0, sizeof(volumes));
    strcpy(volumes[0].name, "hidden");
    volumes[0].bytes = 1;
    strcpy(volumes[1].name, "db");
    strcpy(volumes[1].description, "the database");
    volumes[1].bytes = 123456789;
    volumes[1].nbd = true;
    strcpy(volumes[2].name, "archive");
    volumes[2].bytes = UINT64_C(1) << 45;
    volumes[2].nbd = true;
    volumes[2].read_only = true;
    volumes_used = 3;
    client_bytes = 0;
    say32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

/* Has flags, flush, FUA, trim, write zeroes, multi-conn, cache, fast zero. */
#define FLAGS_WRITABLE   0x0d6d
#define FLAGS_READ_ONLY  0x050f /* has flags, read-only, flush, FUA, multi-conn, cache */
#define FLAGS_STRUCTURED 0x0080 /* DF */

START_TEST(greeting_comes_first)
{
    size_t used;

    ck_assert_int_eq(converse(0, 1, &used), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_nothing_more();
}
END_TEST

START_TEST(unknown_client_flags_close)
{
    for (unsigned bit = 2; bit < 32; bit++) {
        client_bytes = 0;
        say32(UINT32_C(1) << bit | 1);
        ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
        hear_greeting();
        hear_nothing_more();
        ck_assert_ptr_nonnull(handshake.why);
    }
}
END_TEST

START_TEST(export_name)
{
    say_option(NBD_OPT_EXPORT_NAME, "archive", 7);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    ck_assert_uint_eq(be64_load(hear(8)), volumes[2].bytes);
    ck_assert_uint_eq(be16_load(hear(2)), FLAGS_READ_ONLY);
    hear_nothing_more();
    ck_assert_ptr_eq(handshake.volume, &volumes[2]);
    ck_assert_uint_eq(handshake.flags, FLAGS_READ_ONLY);
}
END_TEST

START_TEST(export_name_with_zeroes_and_default)
{
    static const unsigned char zeroes[NBD_EXPORT_ZEROES_BYTES];

    client_bytes = 0;
    say32(NBD_FLAG_FIXED_NEWSTYLE);
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    say_option(NBD_OPT_EXPORT_NAME, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    ck_assert_uint_eq(be64_load(hear(8)), volumes[1].bytes);
    ck_assert_uint_eq(be16_load(hear(2)), FLAGS_WRITABLE | FLAGS_STRUCTURED);
    ck_assert_mem_eq(hear(sizeof(zeroes)), zeroes, sizeof(zeroes));
    hear_nothing_more();
    ck_assert_ptr_eq(handshake.volume, &volumes[1]);
    ck_assert(handshake.structured);
}
END_TEST

START_TEST(export_name_unknown_closes)
{
    static const char *const names[] = {"x", "d", "dbx", "hidden", "DB", "archive "};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        client_bytes = 4;
        say_option(NBD_OPT_EXPORT_NAME, names[i], strlen(names[i]));
        ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
        hear_greeting();
        hear_nothing_more();
        ck_assert_ptr_nonnull(handshake.why);
    }
}
END_TEST

START_TEST(export_name_too_long_closes)
{
    size_t used;

    say_option_header(NBD_OPT_EXPORT_NAME, NBD_HANDSHAKE_DATA_BYTES_MAX + 1);
    ck_assert_int_eq(converse_all(&used), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_nonnull(handshake.why);
}
END_TEST

START_TEST(requests_behind_the_handshake_are_left)
{
    size_t before, used;

    say_info(NBD_OPT_GO, "db", NULL, 0);
    before = client_bytes;
    say("a request that came early", 25);
    ck_assert_int_eq(converse_all(&used), NBD_HANDSHAKE_TRANSMIT);
    ck_assert_uint_eq(used, before);
}
END_TEST

START_TEST(abort_is_acknowledged)
{
    say_option(NBD_OPT_ABORT, "bye", (size_t)_i);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_null(handshake.why);
    hear_greeting();
    hear_ack(NBD_OPT_ABORT);
    hear_nothing_more();
}
END_TEST

START_TEST(list_names_and_descriptions)
{
    const unsigned char *data;
    size_t bytes;

    say_option(NBD_OPT_LIST, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    data = hear_reply(NBD_OPT_LIST, NBD_REP_SERVER, &bytes);
    ck_assert_uint_eq(bytes, 4 + 2 + 12);
    ck_assert_mem_eq(data, "\0\0\0\2dbthe database", bytes);
    data = hear_reply(NBD_OPT_LIST, NBD_REP_SERVER, &bytes);
    ck_assert_uint_eq(bytes, 4 + 7);
    ck_assert_mem_eq(data, "\0\0\0\7archive", bytes);
    hear_ack(NBD_OPT_LIST);
    hear_nothing_more();
}
END_TEST

START_TEST(list_of_every_volume)
{
    size_t bytes;

    for (unsigned i = 0; i < VOLUMES_MAX; i++) { /* the longest names and descriptions */
        memset(volumes[i].name, 'a' + (int)i % 26, sizeof(volumes[i].name) - 1);
        snprintf(volumes[i].name, 8, "%06u", i);
        volumes[i].name[6] = 'x';
        memset(volumes[i].description, 'd', sizeof(volumes[i].description) - 1);
        volumes[i].nbd = true;
    }
    volumes_used = VOLUMES_MAX;
    say_option(NBD_OPT_LIST, NULL, 0);
    say_option(NBD_OPT_LIST, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < VOLUMES_MAX; i++) {
            const unsigned char *data = hear_reply(NBD_OPT_LIST, NBD_REP_SERVER, &bytes);

            ck_assert_uint_eq(bytes, 4 + 127 + 127);
            ck_assert_uint_eq(be32_load(data), 127);
            ck_assert_mem_eq(data + 4, volumes[i].name, 127);
        }
        hear_ack(NBD_OPT_LIST);
    }
    hear_nothing_more();
}
END_TEST

START_TEST(list_and_structured_reply_take_no_data)
{
    say_option(NBD_OPT_LIST, "x", 1);
    say_option(NBD_OPT_STRUCTURED_REPLY, "xy", 2);
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_error(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    hear_error(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    hear_nothing_more();
}
END_TEST

START_TEST(extended_headers)
{
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    say_option(NBD_OPT_EXTENDED_HEADERS, "x", 1);
    say_option(NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0); /* there is no way back */
    say_info(NBD_OPT_GO, "db", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    hear_error(NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID);
    hear_ack(NBD_OPT_EXTENDED_HEADERS);
    hear_error(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
    hear_info_export(NBD_OPT_GO, volumes[1].bytes, FLAGS_WRITABLE | FLAGS_STRUCTURED);
    hear_ack(NBD_OPT_GO);
    hear_nothing_more();
    ck_assert_int_eq(nbd_handshake_style(&handshake), NBD_STYLE_EXTENDED);
}
END_TEST

START_TEST(extended_headers_alone)
{
    say_option(NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    say_info(NBD_OPT_INFO, "db", NULL, 0);
    say_option(NBD_OPT_EXPORT_NAME, "db", 2); /* not allowed any more */
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_nonnull(handshake.why);
    hear_greeting();
    hear_ack(NBD_OPT_EXTENDED_HEADERS);
    hear_info_export(NBD_OPT_INFO, volumes[1].bytes, FLAGS_WRITABLE | FLAGS_STRUCTURED);
    hear_ack(NBD_OPT_INFO);
    hear_nothing_more();
}
END_TEST

START_TEST(contexts_are_listed)
{
    static const char *const queries[] = {
        "base:", "blkcached:", "base:allocation", "x-mine:", "qemu:dirty-bitmap:b", "nonsense", ""};
    const uint32_t option = NBD_OPT_LIST_META_CONTEXT;

    say_contexts(option, "db", NULL, 0);
    say_contexts(option, "", &queries[0], 1);
    say_contexts(option, "db", &queries[1], 1);
    say_contexts(option, "db", &queries[0], 3);
    say_contexts(option, "db", &queries[3], 4);
    say_contexts(option, "hidden", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_context(option, 0, "base:allocation");
    hear_context(option, 0, "blkcached:state");
    hear_ack(option);
    hear_context(option, 0, "base:allocation");
    hear_ack(option);
    hear_context(option, 0, "blkcached:state");
    hear_ack(option);
    hear_context(option, 0, "base:allocation");
    hear_context(option, 0, "blkcached:state");
    hear_ack(option);
    hear_ack(option);
    hear_error(option, NBD_REP_ERR_UNKNOWN);
    hear_nothing_more();
    ck_assert_uint_eq(handshake.contexts, 0);
}
END_TEST

START_TEST(contexts_are_selected)
{
    static const char *const queries[] = {"blkcached:state", "base:", "blkcached:state",
                                          "base:allocatio"};
    const uint32_t option = NBD_OPT_SET_META_CONTEXT;

    say_contexts(option, "db", queries, 4); /* too early */
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    say_contexts(option, "db", queries, 4);
    say_info(NBD_OPT_GO, "", NULL, 0); /* the same volume */
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_error(option, NBD_REP_ERR_INVALID);
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    hear_context(option, NBD_CONTEXT_STATE, "blkcached:state");
    hear_ack(option);
    ck_assert_uint_eq(nbd_handshake_contexts(&handshake, handshake.volume), NBD_CONTEXT_STATE);
}
END_TEST

START_TEST(contexts_belong_to_one_export)
{
    static const char *const queries[] = {"base:allocation", "blkcached:state"};

    say_option(NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    say_contexts(NBD_OPT_SET_META_CONTEXT, "db", queries, 2);
    say_info(NBD_OPT_INFO, "db", NULL, 0);
    say_info(NBD_OPT_GO, "archive", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_ack(NBD_OPT_EXTENDED_HEADERS);
    hear_context(NBD_OPT_SET_META_CONTEXT, NBD_CONTEXT_ALLOCATION, "base:allocation");
    hear_context(NBD_OPT_SET_META_CONTEXT, NBD_CONTEXT_STATE, "blkcached:state");
    hear_ack(NBD_OPT_SET_META_CONTEXT);
    hear_info_export(NBD_OPT_INFO, volumes[1].bytes,
                     FLAGS_WRITABLE | FLAGS_STRUCTURED | NBD_FLAG_BLOCK_STATUS_PAYLOAD);
    hear_ack(NBD_OPT_INFO);
    hear_info_export(NBD_OPT_GO, volumes[2].bytes, FLAGS_READ_ONLY | FLAGS_STRUCTURED);
    hear_ack(NBD_OPT_GO);
    ck_assert_uint_eq(nbd_handshake_contexts(&handshake, handshake.volume), 0);
}
END_TEST

START_TEST(each_selection_replaces_the_last)
{
    static const char *const queries[] = {"base:allocation", "blkcached:state"};
    static unsigned char data[NBD_HANDSHAKE_DATA_BYTES_MAX + 1];
    const uint32_t option = NBD_OPT_SET_META_CONTEXT;

    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    say_contexts(option, "db", queries, 2);
    switch (_i) {
    case 0: say_contexts(option, "db", queries, 0); break;
    case 1: say_contexts(option, "nothing", queries, 2); break;
    case 2: say_option(option, "malformed", 9); break;
    case 3: say_option(option, data, sizeof(data)); break;
    }
    say_info(NBD_OPT_GO, "db", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    ck_assert_uint_eq(nbd_handshake_contexts(&handshake, handshake.volume), 0);
}
END_TEST

START_TEST(contexts_malformed)
{
    static const struct {
        const char *data;
        size_t bytes;
    } bad[] = {
        {"", 0},
        {"\0\0\0", 3},
        {"\0\0\0\0", 4},                            /* no count */
        {"\0\0\0\2db\0\0\0", 9},                    /* half a count */
        {"\0\0\0\2db\0\0\0\1", 10},                 /* no query */
        {"\0\0\0\2db\0\0\0\1\0\0\0\5base", 18},     /* half a query */
        {"\0\0\0\2db\0\0\0\1\0\0\0\4base:", 19},    /* something behind it */
        {"\0\0\0\2db\0\0\0\0x", 11},                /* the same */
        {"\0\0\0\2db\xff\xff\xff\xff", 10},         /* four billion queries */
        {"\xff\xff\xff\xff\0\0\0\0", 8},            /* a long name */
        {"\0\0\0\2db\0\0\0\1\xff\xff\xff\xff", 14}, /* a long query */
        {"\0\0\0\2d\0\0\0\0\0", 10},                /* NUL in the name */
    };

    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        say_option(NBD_OPT_SET_META_CONTEXT, bad[i].data, bad[i].bytes);
    say_option(NBD_OPT_LIST_META_CONTEXT, bad[1].data, bad[1].bytes);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        hear_error(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    hear_error(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID);
    hear_nothing_more();
}
END_TEST

START_TEST(info_with_all_wishes)
{
    static const uint16_t wishes[] = {NBD_INFO_BLOCK_SIZE,  77,   NBD_INFO_NAME, NBD_INFO_EXPORT,
                                      NBD_INFO_DESCRIPTION, 65535};
    const unsigned char *data;
    size_t bytes;

    say_info(NBD_OPT_INFO, "", wishes, 6);
    say_info(NBD_OPT_INFO, "archive", wishes, 6);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_info_export(NBD_OPT_INFO, volumes[1].bytes, FLAGS_WRITABLE);
    hear_info_text(NBD_OPT_INFO, NBD_INFO_NAME, "db");
    hear_info_text(NBD_OPT_INFO, NBD_INFO_DESCRIPTION, "the database");
    data = hear_reply(NBD_OPT_INFO, NBD_REP_INFO, &bytes);
    ck_assert_uint_eq(bytes, 14);
    ck_assert_mem_eq(data, "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", 14); /* 1, 4096, 32 MiB */
    hear_ack(NBD_OPT_INFO);
    hear_info_export(NBD_OPT_INFO, volumes[2].bytes, FLAGS_READ_ONLY);
    hear_info_text(NBD_OPT_INFO, NBD_INFO_NAME, "archive");
    data = hear_reply(NBD_OPT_INFO, NBD_REP_INFO, &bytes); /* it has no description */
    ck_assert_uint_eq(be16_load(data), NBD_INFO_BLOCK_SIZE);
    hear_ack(NBD_OPT_INFO);
    hear_nothing_more();
}
END_TEST

START_TEST(go_after_failures)
{
    say_info(NBD_OPT_GO, "nothing", NULL, 0);
    say_info(NBD_OPT_INFO, "hidden", NULL, 0);
    say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    say_info(NBD_OPT_GO, "db", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_error(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    hear_error(NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
    hear_ack(NBD_OPT_STRUCTURED_REPLY);
    hear_info_export(NBD_OPT_GO, volumes[1].bytes, FLAGS_WRITABLE | FLAGS_STRUCTURED);
    hear_ack(NBD_OPT_GO);
    hear_nothing_more();
    ck_assert_uint_eq(handshake.flags, FLAGS_WRITABLE | FLAGS_STRUCTURED);
}
END_TEST

START_TEST(go_malformed)
{
    static const struct {
        const char *data;
        size_t bytes;
    } bad[] = {
        {"", 0},
        {"\0\0\0\0\0", 5},               /* no room for the count */
        {"\0\0\0\1\0\0", 6},             /* name runs into the count */
        {"\0\0\0\2d\0\0", 7},            /* the same */
        {"\xff\xff\xff\xff\0\0", 6},     /* longer than the option */
        {"\xff\xff\xff\xfa\0\0\0\0", 8}, /* overflows */
        {"\0\0\0\2db\0\1", 8},           /* a wish is missing */
        {"\0\0\0\2db\0\0\0\0", 10},      /* one too many */
        {"\0\0\0\2db\xff\xff", 8},       /* 65535 wishes missing */
        {"\0\0\0\2db\0\1\0", 9},         /* half a wish */
        {"\0\0\0\3d\0b\0\0", 9},         /* NUL in the name */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        say_option(NBD_OPT_GO, bad[i].data, bad[i].bytes);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        hear_error(NBD_OPT_GO, NBD_REP_ERR_INVALID);
    hear_nothing_more();
}
END_TEST

START_TEST(long_options_are_skipped)
{
    static unsigned char data[NBD_HANDSHAKE_DATA_BYTES_MAX + 5000];

    memset(data, 'n', sizeof(data));
    say_option(NBD_OPT_INFO, data, NBD_HANDSHAKE_DATA_BYTES_MAX + 1);
    say_option(NBD_OPT_LIST, data, sizeof(data));
    say_option(NBD_OPT_SET_META_CONTEXT, data, sizeof(data));
    say_option(NBD_OPT_GO, data, NBD_HANDSHAKE_DATA_BYTES_MAX); /* fits, but makes no sense */
    say_option(NBD_OPT_LIST, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_error(NBD_OPT_INFO, NBD_REP_ERR_TOO_BIG);
    hear_error(NBD_OPT_LIST, NBD_REP_ERR_TOO_BIG);
    hear_error(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
    hear_error(NBD_OPT_GO, NBD_REP_ERR_INVALID);
}
END_TEST

START_TEST(hostile_length_waits_without_storing)
{
    size_t used;

    say_option_header(NBD_OPT_LIST, UINT32_MAX);
    client_bytes = 500000;
    ck_assert_int_eq(converse_all(&used), NBD_HANDSHAKE_MORE);
    ck_assert_uint_eq(used, client_bytes);
    hear_greeting();
    hear_nothing_more();
}
END_TEST

START_TEST(unknown_options_are_unsupported)
{
    static const uint32_t options[] = {0, 4, NBD_OPT_STARTTLS, 12, 13, 0x7fffffff, UINT32_MAX};
    static const size_t count = sizeof(options) / sizeof(options[0]);

    for (size_t i = 0; i < count; i++)
        say_option(options[i], "data", i % 5);
    say_option(NBD_OPT_LIST, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    for (size_t i = 0; i < count; i++)
        hear_error(options[i], NBD_REP_ERR_UNSUP);
}
END_TEST

START_TEST(number_of_options_is_bounded)
{
    size_t used;

    for (unsigned i = 0; i < NBD_HANDSHAKE_OPTIONS_MAX; i++)
        say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    say_option(NBD_OPT_GO, "\0\0\0\0\0\0", 6);
    ck_assert_int_eq(converse_all(&used), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_nonnull(handshake.why);
}
END_TEST

START_TEST(bad_option_magic_closes)
{
    for (unsigned i = 0; i < 8; i++) {
        size_t used;

        client_bytes = 4;
        say_option(NBD_OPT_LIST, NULL, 0);
        client[4 + i] ^= 0x20;
        ck_assert_int_eq(converse_all(&used), NBD_HANDSHAKE_CLOSE);
        hear_greeting();
        hear_nothing_more();
    }
}
END_TEST

START_TEST(no_exports_at_all)
{
    volumes_used = 0;
    say_option(NBD_OPT_LIST, NULL, 0);
    say_info(NBD_OPT_GO, "", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_ack(NBD_OPT_LIST);
    hear_error(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    hear_nothing_more();
}
END_TEST

START_TEST(every_truncation_waits)
{
    static const uint16_t wishes[] = {NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE};

    static const char *const queries[] = {"base:allocation", "blkcached:"};

    say_option(NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    say_option(NBD_OPT_LIST, NULL, 0);
    say_contexts(NBD_OPT_LIST_META_CONTEXT, "db", queries, 2);
    say_contexts(NBD_OPT_SET_META_CONTEXT, "db", queries, 2);
    say_info(NBD_OPT_INFO, "archive", wishes, 2);
    say_info(NBD_OPT_GO, "db", wishes, 2);
    for (size_t bytes = 0; bytes < client_bytes; bytes++) {
        size_t used;

        ck_assert_int_eq(converse(bytes, 1, &used), NBD_HANDSHAKE_MORE);
        ck_assert_int_eq(converse(bytes, bytes, &used), NBD_HANDSHAKE_MORE);
    }
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
}
END_TEST

/* Not a fuzzer, but each byte of a good conversation is broken in several ways. */
START_TEST(every_broken_byte_is_survived)
{
    static const unsigned char masks[] = {0x01, 0x02, 0x08, 0x80, 0xff};
    static const uint16_t wishes[] = {NBD_INFO_NAME};
    static const char *const queries[] = {"base:allocation", "blkcached:"};

    say_option(NBD_OPT_LIST, NULL, 0);
    say_contexts(NBD_OPT_LIST_META_CONTEXT, "db", queries, 2);
    say_info(NBD_OPT_INFO, "archive", wishes, 1);
    say_option(NBD_OPT_EXPORT_NAME, "db", 2);
    for (size_t i = 0; i < client_bytes; i++) {
        for (size_t m = 0; m < sizeof(masks); m++) {
            size_t used;

            client[i] ^= masks[m];
            converse_all(&used);
            client[i] ^= masks[m];
        }
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("nbd-handshake");

    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, greeting_comes_first);
    tcase_add_test(cases, unknown_client_flags_close);
    tcase_add_test(cases, export_name);
    tcase_add_test(cases, export_name_with_zeroes_and_default);
    tcase_add_test(cases, export_name_unknown_closes);
    tcase_add_test(cases, export_name_too_long_closes);
    tcase_add_test(cases, requests_behind_the_handshake_are_left);
    tcase_add_loop_test(cases, abort_is_acknowledged, 0, 3);
    tcase_add_test(cases, list_names_and_descriptions);
    tcase_add_test(cases, list_of_every_volume);
    tcase_add_test(cases, list_and_structured_reply_take_no_data);
    tcase_add_test(cases, extended_headers);
    tcase_add_test(cases, extended_headers_alone);
    tcase_add_test(cases, contexts_are_listed);
    tcase_add_test(cases, contexts_are_selected);
    tcase_add_test(cases, contexts_belong_to_one_export);
    tcase_add_loop_test(cases, each_selection_replaces_the_last, 0, 4);
    tcase_add_test(cases, contexts_malformed);
    tcase_add_test(cases, info_with_all_wishes);
    tcase_add_test(cases, go_after_failures);
    tcase_add_test(cases, go_malformed);
    tcase_add_test(cases, long_options_are_skipped);
    tcase_add_test(cases, hostile_length_waits_without_storing);
    tcase_add_test(cases, unknown_options_are_unsupported);
    tcase_add_test(cases, number_of_options_is_bounded);
    tcase_add_test(cases, bad_option_magic_closes);
    tcase_add_test(cases, no_exports_at_all);
    tcase_add_test(cases, every_truncation_waits);
    tcase_add_test(cases, every_broken_byte_is_survived);
    return unit_run("nbd-handshake", cases);
}
