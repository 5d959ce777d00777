/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD handshake: every option, every truncation, hostile lengths. */
#include "tests/unit/nbd-conversation.h"

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

/* Known and unknown ones, with TLS and without, and those that are too long. */
START_TEST(options_are_refused_when_the_server_stops)
{
    static const uint32_t refused[] = {NBD_OPT_LIST,
                                       NBD_OPT_STARTTLS,
                                       NBD_OPT_STRUCTURED_REPLY,
                                       NBD_OPT_LIST_META_CONTEXT,
                                       NBD_OPT_SET_META_CONTEXT,
                                       NBD_OPT_EXTENDED_HEADERS,
                                       77};
    static unsigned char data[NBD_HANDSHAKE_DATA_BYTES_MAX + 1];
    const size_t count = sizeof(refused) / sizeof(refused[0]);

    stopping = true;
    tls = (enum nbd_tls_mode)_i;
    for (size_t i = 0; i < count; i++)
        say_option(refused[i], NULL, 0);
    say_option(NBD_OPT_LIST, data, sizeof(data));
    say_info(NBD_OPT_INFO, "db", NULL, 0);
    say_info(NBD_OPT_GO, "db", NULL, 0);
    say_option(NBD_OPT_ABORT, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_null(handshake.why);
    hear_greeting();
    for (size_t i = 0; i < count; i++)
        hear_error(refused[i], NBD_REP_ERR_SHUTDOWN);
    hear_error(NBD_OPT_LIST, NBD_REP_ERR_SHUTDOWN);
    hear_error(NBD_OPT_INFO, NBD_REP_ERR_SHUTDOWN);
    hear_error(NBD_OPT_GO, NBD_REP_ERR_SHUTDOWN);
    hear_ack(NBD_OPT_ABORT);
    hear_nothing_more();
}
END_TEST

START_TEST(export_name_closes_when_the_server_stops)
{
    stopping = true;
    say_option(NBD_OPT_EXPORT_NAME, "db", 2);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    ck_assert_ptr_null(handshake.why);
    hear_greeting();
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
    static const uint32_t options[] = {0, 4, 12, 13, 0x7fffffff, UINT32_MAX};
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
    tcase_add_loop_test(cases, options_are_refused_when_the_server_stops, NBD_TLS_OFF,
                        NBD_TLS_REQUIRE + 1);
    tcase_add_test(cases, export_name_closes_when_the_server_stops);
    tcase_add_test(cases, list_names_and_descriptions);
    tcase_add_test(cases, list_of_every_volume);
    tcase_add_test(cases, list_and_structured_reply_take_no_data);
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
