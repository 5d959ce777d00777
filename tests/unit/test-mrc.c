/* SPDX-License-Identifier: Apache-2.0 */
/* Estimated miss ratio curves against an exact LRU, on generated traces. */
#include "engine/mrc.h"

#include <math.h>
#include <stdlib.h>

#include "common/hash.h"
#include "tests/unit/unit.h"

#define BLOCKS   200000u
#define ACCESSES 600000u
#define SIZES    12u
#define SHARDS   4u

struct trace {
    uint32_t blocks[ACCESSES];
    bool reads[ACCESSES];
};

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((hash_mix64(random_state) >> 32) * limit >> 32);
}

/* Skewed: a power of a uniform number. */
static uint32_t skewed(double power)
{
    return (uint32_t)(pow((double)random_below(1u << 30) / (1u << 30), power) * BLOCKS);
}

static struct trace *trace_new(int kind)
{
    struct trace *trace = malloc(sizeof(*trace));

    random_state = (uint64_t)kind + 1;
    for (uint32_t i = 0; i < ACCESSES; i++) {
        trace->reads[i] = kind != 3 || random_below(100) < 40;
        switch (kind) {
        case 0: trace->blocks[i] = skewed(5); break;
        case 1: trace->blocks[i] = i % (BLOCKS * 7 / 24); break; /* a loop: all or nothing */
        case 2: trace->blocks[i] = random_below(BLOCKS); break;
        default: /* a skewed mixture with a scan and writes */
            trace->blocks[i] = i % 3 == 0 ? BLOCKS + i / 3 : skewed(3);
        }
    }
    return trace;
}

/* The classic algorithm: a Fenwick tree over all accesses. */
static void exact(const struct trace *trace, double ratios[SIZES])
{
    uint32_t *last = calloc(BLOCKS + ACCESSES, sizeof(*last));
    uint32_t *tree = calloc(ACCESSES + 1, sizeof(*tree)), distinct = 0;
    double hits[SIZES] = {0}, reads = 0;

    for (uint32_t i = 1; i <= ACCESSES; i++) {
        uint32_t block = trace->blocks[i - 1], before = last[block], distance = UINT32_MAX;

        if (before > 0) {
            distance = distinct;
            for (uint32_t k = before; k > 0; k &= k - 1)
                distance -= tree[k];
            for (uint32_t k = before; k <= ACCESSES; k += k & -k)
                tree[k]--;
        } else {
            distinct++;
        }
        for (uint32_t k = i; k <= ACCESSES; k += k & -k)
            tree[k]++;
        last[block] = i;
        reads += trace->reads[i - 1];
        for (unsigned s = 0; s < SIZES; s++)
            hits[s] += trace->reads[i - 1] && distance < BLOCKS * (s + 1) / SIZES;
    }
    for (unsigned s = 0; s < SIZES; s++)
        ratios[s] = 1 - hits[s] / reads;
    free(last);
    free(tree);
}

static double error_of(int kind, uint32_t shards, uint32_t samples)
{
    struct trace *trace = trace_new(kind);
    struct mrc *mrcs[SHARDS];
    struct mrc_sum *sum = calloc(1, sizeof(*sum));
    double ratios[SIZES], error = 0;

    for (uint32_t i = 0; i < shards; i++)
        mrcs[i] = mrc_init(malloc(mrc_bytes(samples)), samples);
    for (uint32_t i = 0; i < ACCESSES; i++)
        mrc_access(mrcs[hash_mix64(trace->blocks[i] / 64) & (shards - 1)], trace->blocks[i],
                   trace->reads[i]);
    for (uint32_t i = 0; i < shards; i++) {
        mrc_add(mrcs[i], sum, shards == 4 ? 2 : 0);
        free(mrcs[i]);
    }
    exact(trace, ratios);
    for (unsigned s = 0; s < SIZES; s++)
        error += fabs(ratios[s] - mrc_miss_ratio(sum, (double)BLOCKS * (s + 1) / SIZES)) / SIZES;
    free(sum);
    free(trace);
    return error;
}

START_TEST(curves_are_right)
{
    double error = error_of(_i / 2, _i % 2 ? SHARDS : 1, _i % 2 ? 4096 : 16384);

    ck_assert_msg(error < .02, "trace %d: mean error %f", _i / 2, error);
}
END_TEST

START_TEST(few_blocks_are_enough)
{
    struct mrc *mrc = mrc_init(malloc(mrc_bytes(4096)), 4096);
    struct mrc_sum sum = {0};

    for (int round = 0; round < 100; round++)
        for (uint64_t block = 0; block < 2000; block++)
            mrc_access(mrc, block, true);
    mrc_add(mrc, &sum, 0);
    ck_assert_double_eq_tol(sum.reads, 200000, 1e-6);
    ck_assert_double_eq_tol(mrc_miss_ratio(&sum, 2600), .01, .005); /* the first round */
    ck_assert_double_eq_tol(mrc_miss_ratio(&sum, 1400), 1, .03);
    free(mrc);
}
END_TEST

START_TEST(nothing_read_is_no_miss)
{
    struct mrc *mrc = mrc_init(malloc(mrc_bytes(64)), 64);
    struct mrc_sum sum = {0};

    for (uint64_t block = 0; block < 10000; block++)
        mrc_access(mrc, block, false);
    mrc_add(mrc, &sum, 0);
    ck_assert_double_eq_tol(mrc_miss_ratio(&sum, 100), 0, 1e-9);
    free(mrc);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("mrc");

    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, curves_are_right, 0, 8);
    tcase_add_test(cases, few_blocks_are_enough);
    tcase_add_test(cases, nothing_read_is_no_miss);
    return unit_run("mrc", cases);
}
