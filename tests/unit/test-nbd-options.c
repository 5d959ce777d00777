/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the NBD handshake that change what comes after: headers, metadata contexts, TLS. */
#include "tests/unit/nbd-conversation.h"

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

/* ---- TLS --------------------------------------------------------------------------------- */

START_TEST(tls_off)
{
    say_option(NBD_OPT_STARTTLS, NULL, 0);
    say_option(NBD_OPT_STARTTLS, "x", 1);
    say_info(NBD_OPT_INFO, "db", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_MORE);
    hear_greeting();
    hear_error(NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
    hear_error(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
    hear_info_export(NBD_OPT_INFO, volumes[1].bytes, FLAGS_WRITABLE);
    hear_ack(NBD_OPT_INFO);
    ck_assert(!handshake.secure);
}
END_TEST

START_TEST(tls_clears_what_was_negotiated)
{
    static const char *const queries[] = {"base:allocation"};

    tls = NBD_TLS_ON;
    say_option(_i == 0 ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    say_contexts(NBD_OPT_SET_META_CONTEXT, "db", queries, 1);
    say_option(NBD_OPT_STARTTLS, NULL, 0);
    say_contexts(NBD_OPT_SET_META_CONTEXT, "db", queries, 1); /* structured replies come first */
    say_option(NBD_OPT_STARTTLS, NULL, 0);
    say_info(NBD_OPT_GO, "db", NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_TRANSMIT);
    hear_greeting();
    hear_ack(_i == 0 ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_EXTENDED_HEADERS);
    hear_context(NBD_OPT_SET_META_CONTEXT, NBD_CONTEXT_ALLOCATION, "base:allocation");
    hear_ack(NBD_OPT_SET_META_CONTEXT);
    hear_ack(NBD_OPT_STARTTLS);
    hear_error(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    hear_error(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID); /* once is enough */
    hear_info_export(NBD_OPT_GO, volumes[1].bytes, FLAGS_WRITABLE);
    hear_ack(NBD_OPT_GO);
    hear_nothing_more();
    ck_assert(handshake.secure);
    ck_assert_int_eq(nbd_handshake_style(&handshake), NBD_STYLE_SIMPLE);
    ck_assert_uint_eq(nbd_handshake_contexts(&handshake, handshake.volume), 0);
}
END_TEST

START_TEST(tls_required)
{
    static const uint32_t refused[] = {NBD_OPT_LIST,
                                       NBD_OPT_INFO,
                                       NBD_OPT_GO,
                                       NBD_OPT_STRUCTURED_REPLY,
                                       NBD_OPT_LIST_META_CONTEXT,
                                       NBD_OPT_SET_META_CONTEXT,
                                       NBD_OPT_EXTENDED_HEADERS,
                                       4,
                                       77};
    static unsigned char data[NBD_HANDSHAKE_DATA_BYTES_MAX + 1];
    const size_t count = sizeof(refused) / sizeof(refused[0]);

    tls = NBD_TLS_REQUIRE;
    for (size_t i = 0; i < count; i++)
        say_option(refused[i], NULL, 0);
    say_option(NBD_OPT_LIST, data, sizeof(data));
    say_option(NBD_OPT_STARTTLS, NULL, 0);
    say_info(NBD_OPT_INFO, "db", NULL, 0);
    say_option(NBD_OPT_ABORT, NULL, 0);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    hear_greeting();
    for (size_t i = 0; i < count; i++)
        hear_error(refused[i], NBD_REP_ERR_TLS_REQD);
    hear_error(NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD);
    hear_ack(NBD_OPT_STARTTLS);
    hear_info_export(NBD_OPT_INFO, volumes[1].bytes, FLAGS_WRITABLE);
    hear_ack(NBD_OPT_INFO);
    hear_ack(NBD_OPT_ABORT);
    hear_nothing_more();
}
END_TEST

START_TEST(tls_required_but_not_used)
{
    tls = NBD_TLS_REQUIRE;
    if (_i == 0)
        say_option(NBD_OPT_ABORT, NULL, 0);
    else
        say_option(NBD_OPT_EXPORT_NAME, "db", 2);
    ck_assert_int_eq(converse_fully(), NBD_HANDSHAKE_CLOSE);
    ck_assert_int_eq(handshake.why == NULL, _i == 0);
    hear_greeting();
    if (_i == 0)
        hear_ack(NBD_OPT_ABORT);
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

int main(void)
{
    TCase *cases = tcase_create("nbd-options");

    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, extended_headers);
    tcase_add_test(cases, extended_headers_alone);
    tcase_add_test(cases, tls_off);
    tcase_add_loop_test(cases, tls_clears_what_was_negotiated, 0, 2);
    tcase_add_test(cases, tls_required);
    tcase_add_loop_test(cases, tls_required_but_not_used, 0, 2);
    tcase_add_test(cases, contexts_are_listed);
    tcase_add_test(cases, contexts_are_selected);
    tcase_add_test(cases, contexts_belong_to_one_export);
    tcase_add_loop_test(cases, each_selection_replaces_the_last, 0, 4);
    tcase_add_test(cases, contexts_malformed);
    return unit_run("nbd-options", cases);
}
