/* SPDX-License-Identifier: Apache-2.0 */
/* Sequential streams: several at a time, among random reads. */
#include "common/hash.h"
#include "io/stream.h"
#include "tests/unit/unit.h"

#define REQUEST_BYTES (32u << 10)
#define APART_BYTES   (UINT64_C(1) << 36) /* from one stream's start to the next one's */
#define RANDOM_BYTES  (UINT64_C(1) << 40) /* where random reads begin */

struct reader {
    struct stream_table table;
    uint64_t randoms;
};

static uint64_t note(struct reader *reader, uint64_t offset, bool *is_run)
{
    return stream_note(&reader->table, offset, REQUEST_BYTES, is_run);
}

/* Random reads are no stream, and no run. */
static void read_at_random(struct reader *reader, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t block = hash_mix64(++reader->randoms) >> 20;
        bool is_run;

        ck_assert_uint_eq(note(reader, RANDOM_BYTES + block * 4096, &is_run), REQUEST_BYTES);
        ck_assert(!is_run);
    }
}

static void stream_on(struct reader *reader, uint64_t stream, uint64_t i)
{
    bool is_run;
    uint64_t bytes = note(reader, stream * APART_BYTES + i * REQUEST_BYTES, &is_run);

    ck_assert_uint_eq(bytes, (i + 1) * REQUEST_BYTES);
    ck_assert(is_run == (bytes > STREAM_RUN_BYTES));
}

/* So many streams in turn, with so many random reads after each of their requests, once each of them
 * has begun with two requests (a single one is like a random read). */
static const struct {
    unsigned streams, randoms;
} mixes[] = {{1, 0}, {1, 100}, {4, 1}, {8, 2}, {12, 1}, {12, 2}, {STREAMS, 0}};

START_TEST(streams_are_told_from_random_reads)
{
    struct reader reader = {.randoms = 0};

    for (uint64_t stream = 0; stream < mixes[_i].streams; stream++)
        for (uint64_t i = 0; i < 2; i++)
            stream_on(&reader, stream, i);
    for (uint64_t i = 2; i < 200; i++)
        for (uint64_t stream = 0; stream < mixes[_i].streams; stream++) {
            read_at_random(&reader, mixes[_i].randoms);
            stream_on(&reader, stream, i);
        }
}
END_TEST

/* Streams that have ended do not keep others out for ever. */
START_TEST(streams_that_ended_are_forgotten)
{
    struct reader reader = {.randoms = 0};
    uint64_t bytes = 0;
    bool is_run = false;

    for (uint64_t i = 0; i < 4; i++)
        for (uint64_t stream = 0; stream < STREAMS; stream++)
            note(&reader, stream * APART_BYTES + i * REQUEST_BYTES, &is_run);
    read_at_random(&reader, STREAMS * STREAMS);
    for (uint64_t i = 0; i < 8; i++) {
        bytes = note(&reader, STREAMS * APART_BYTES + i * REQUEST_BYTES, &is_run);
        read_at_random(&reader, 1);
    }
    ck_assert_uint_eq(bytes, 8 * REQUEST_BYTES);
    ck_assert(is_run);
}
END_TEST

/* A few requests of a stream may be missing, which went to another core or come late. */
START_TEST(streams_have_gaps)
{
    struct reader reader = {.randoms = 0};
    uint64_t bytes = 0;
    bool is_run = false;

    for (uint64_t i = 0; i < 20; i++)
        bytes = note(&reader, 2 * i * REQUEST_BYTES, &is_run);
    ck_assert_uint_eq(bytes, 20 * REQUEST_BYTES);
    ck_assert(is_run);
    bytes = note(&reader, 2 * 20 * REQUEST_BYTES + APART_BYTES, &is_run);
    ck_assert_uint_eq(bytes, REQUEST_BYTES);
    ck_assert(!is_run);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("stream");

    tcase_add_loop_test(cases, streams_are_told_from_random_reads, 0,
                        (int)(sizeof(mixes) / sizeof(*mixes)));
    tcase_add_test(cases, streams_that_ended_are_forgotten);
    tcase_add_test(cases, streams_have_gaps);
    return unit_run("stream", cases);
}
