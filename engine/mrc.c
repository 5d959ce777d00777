/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Miss ratio curves: SHARDS with a fixed number of samples.
 *
 *   nodes     the sampled blocks, chained by hash
 *   heap      the same by hash, largest first
 *   times     which node was accessed at each point of time; a point is free when its node was
 *             accessed again.  When they are used up they are numbered anew
 *   tree      a Fenwick tree over the points in use: how many lie before a point
 */
#include "engine/mrc.h"

#include <assert.h>
#include <string.h>

#include "common/hash.h"

#define NONE             UINT32_MAX
#define TIMES_PER_SAMPLE 4u
#define BINS_PER_OCTAVE  16u
#define RATE_ONE         (UINT64_C(1) << 32)
#define RATE_FIRST       (RATE_ONE / 8) /* all blocks of a small volume would cost too much */
#define WEIGHT_MAX       262144.0 /* sampled reads; then all counts are halved: old ones fade */

struct node {
    uint64_t block;
    uint32_t hash, time, next;
};

struct mrc {
    uint32_t samples, count;
    uint32_t now;       /* the next point of time */
    uint64_t threshold; /* sampled: hash < threshold; of 2^32 */
    double reads;       /* all, sampled or not */
    double cold;        /* sampled, at the present rate */
    double bins[MRC_BINS];
    struct node *nodes;
    uint32_t *buckets, *heap, *times, *tree;
};

size_t mrc_bytes(uint32_t samples)
{
    size_t words = 2 + 2 * TIMES_PER_SAMPLE;

    return sizeof(struct mrc) + samples * (sizeof(struct node) + words * sizeof(uint32_t));
}

struct mrc *mrc_init(void *memory, uint32_t samples)
{
    struct mrc *mrc = memory;

    assert(samples >= 64 && samples <= 1u << 20 && (samples & (samples - 1)) == 0);
    memset(memory, 0, mrc_bytes(samples));
    mrc->samples = samples;
    mrc->threshold = RATE_FIRST;
    mrc->nodes = (void *)(mrc + 1);
    mrc->buckets = (void *)(mrc->nodes + samples);
    mrc->heap = mrc->buckets + samples;
    mrc->times = mrc->heap + samples;
    mrc->tree = mrc->times + (size_t)TIMES_PER_SAMPLE * samples;
    memset(mrc->buckets, 0xff, samples * sizeof(uint32_t));
    memset(mrc->times, 0xff, TIMES_PER_SAMPLE * samples * sizeof(uint32_t));
    return mrc;
}

/* ---- time ----------------------------------------------------------------------------------- */

static void tree_add(struct mrc *mrc, uint32_t time, uint32_t change)
{
    for (uint32_t i = time + 1; i <= TIMES_PER_SAMPLE * mrc->samples; i += i & -i)
        mrc->tree[i - 1] += change;
}

/* Points in use up to and including `time`. */
static uint32_t tree_sum(const struct mrc *mrc, uint32_t time)
{
    uint32_t sum = 0;

    for (uint32_t i = time + 1; i > 0; i &= i - 1)
        sum += mrc->tree[i - 1];
    return sum;
}

static void time_renumber(struct mrc *mrc)
{
    uint32_t all = TIMES_PER_SAMPLE * mrc->samples, used = 0;

    for (uint32_t time = 0; time < all; time++) {
        uint32_t node = mrc->times[time];

        mrc->times[time] = NONE;
        if (node == NONE)
            continue;
        mrc->times[used] = node;
        mrc->nodes[node].time = used++;
    }
    memset(mrc->tree, 0, all * sizeof(uint32_t));
    for (uint32_t time = 0; time < used; time++)
        tree_add(mrc, time, 1);
    mrc->now = used;
}

static void time_take(struct mrc *mrc, uint32_t node)
{
    if (mrc->now == TIMES_PER_SAMPLE * mrc->samples)
        time_renumber(mrc);
    mrc->nodes[node].time = mrc->now;
    mrc->times[mrc->now] = node;
    tree_add(mrc, mrc->now++, 1);
}

static void time_give(struct mrc *mrc, uint32_t node)
{
    mrc->times[mrc->nodes[node].time] = NONE;
    tree_add(mrc, mrc->nodes[node].time, (uint32_t)-1);
}

/* ---- samples -------------------------------------------------------------------------------- */

static uint32_t *bucket_of(const struct mrc *mrc, uint32_t hash)
{
    return &mrc->buckets[hash * UINT32_C(0x9e3779b1) & (mrc->samples - 1)];
}

static void heap_push(struct mrc *mrc, uint32_t node)
{
    uint32_t at = mrc->count++;

    while (at > 0 && mrc->nodes[mrc->heap[(at - 1) / 2]].hash < mrc->nodes[node].hash) {
        mrc->heap[at] = mrc->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    mrc->heap[at] = node;
}

static uint32_t heap_pop(struct mrc *mrc)
{
    uint32_t top = mrc->heap[0], last = mrc->heap[--mrc->count], at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= mrc->count)
            break;
        if (child + 1 < mrc->count &&
            mrc->nodes[mrc->heap[child + 1]].hash > mrc->nodes[mrc->heap[child]].hash)
            child++;
        if (mrc->nodes[mrc->heap[child]].hash <= mrc->nodes[last].hash)
            break;
        mrc->heap[at] = mrc->heap[child];
        at = child;
    }
    mrc->heap[at] = last;
    return top;
}

static void scale(struct mrc *mrc, double factor)
{
    mrc->cold *= factor;
    for (unsigned i = 0; i < MRC_BINS; i++)
        mrc->bins[i] *= factor;
}

static void threshold_lower(struct mrc *mrc, uint32_t hash)
{
    scale(mrc, (double)hash / (double)mrc->threshold);
    mrc->threshold = hash;
}

static uint32_t sample_find(const struct mrc *mrc, uint64_t block, uint32_t hash)
{
    uint32_t node = *bucket_of(mrc, hash);

    while (node != NONE && mrc->nodes[node].block != block)
        node = mrc->nodes[node].next;
    return node;
}

/* Frees the node with the largest hash; blocks with this hash or a larger one are sampled no more. */
static uint32_t sample_evict(struct mrc *mrc)
{
    uint32_t node = heap_pop(mrc), *link = bucket_of(mrc, mrc->nodes[node].hash);

    while (*link != node)
        link = &mrc->nodes[*link].next;
    *link = mrc->nodes[node].next;
    time_give(mrc, node);
    threshold_lower(mrc, mrc->nodes[node].hash);
    return node;
}

static void sample_add(struct mrc *mrc, uint64_t block, uint32_t hash)
{
    uint32_t node = mrc->count, *bucket;

    if (mrc->count == mrc->samples) {
        if (hash >= mrc->nodes[mrc->heap[0]].hash) {
            threshold_lower(mrc, hash);
            return;
        }
        node = sample_evict(mrc);
    }
    bucket = bucket_of(mrc, hash);
    mrc->nodes[node] = (struct node){.block = block, .hash = hash, .next = *bucket};
    *bucket = node;
    heap_push(mrc, node);
    time_take(mrc, node);
}

/* ---- accesses ------------------------------------------------------------------------------- */

/* 16 an octave, and one for each number below 16. */
static unsigned bin_of(uint64_t blocks)
{
    unsigned octave, bin;

    if (blocks < BINS_PER_OCTAVE)
        return (unsigned)blocks;
    octave = 63 - (unsigned)__builtin_clzll(blocks);
    bin = (octave - 3) * BINS_PER_OCTAVE + (unsigned)(blocks >> (octave - 4) & 15);
    return bin < MRC_BINS ? bin : MRC_BINS - 1;
}

/* The smallest number of blocks that belongs to the bin. */
static double bin_begin(unsigned bin)
{
    unsigned octave = bin / BINS_PER_OCTAVE;

    if (octave == 0)
        return bin;
    return (double)(BINS_PER_OCTAVE + bin % BINS_PER_OCTAVE) *
           (double)(UINT64_C(1) << (octave - 1));
}

static void fade(struct mrc *mrc)
{
    if (mrc->reads * (double)mrc->threshold < WEIGHT_MAX * (double)RATE_ONE)
        return;
    mrc->reads /= 2;
    scale(mrc, .5);
}

void mrc_access(struct mrc *mrc, uint64_t block, bool read)
{
    uint32_t hash = (uint32_t)hash_mix64(block + UINT64_C(0x6d726300)), node, others;

    mrc->reads += read;
    if (hash >= mrc->threshold)
        return;
    node = sample_find(mrc, block, hash);
    if (node == NONE) {
        mrc->cold += read;
        sample_add(mrc, block, hash);
    } else {
        others = mrc->count - tree_sum(mrc, mrc->nodes[node].time);
        mrc->bins[bin_of(others * RATE_ONE / mrc->threshold)] += read;
        time_give(mrc, node);
        time_take(mrc, node);
    }
    fade(mrc);
}

/* ---- curves --------------------------------------------------------------------------------- */

void mrc_add(const struct mrc *mrc, struct mrc_sum *sum, unsigned octaves)
{
    double weight = (double)RATE_ONE / (double)mrc->threshold, sampled = mrc->cold;

    for (unsigned i = 0; i < MRC_BINS; i++)
        sampled += mrc->bins[i];
    sum->reads += mrc->reads;
    sum->cold += mrc->cold * weight;
    for (unsigned i = 0; i < MRC_BINS; i++) {
        double first = bin_begin(i), last = bin_begin(i + 1) - 1;
        uint64_t middle = (uint64_t)((first + last) / 2 * (double)(1u << octaves));

        sum->bins[bin_of(middle)] += mrc->bins[i] * weight;
    }
    /* SHARDS-adj: what the sample has too few or too many of is a matter of a few blocks that are
     * accessed very often: their distances are short. */
    sum->bins[0] += mrc->reads - sampled * weight;
}

double mrc_miss_ratio(const struct mrc_sum *sum, double blocks)
{
    double hits = 0;

    if (sum->reads <= 0)
        return 0;
    for (unsigned i = 0; i < MRC_BINS; i++) {
        double first = bin_begin(i), end = bin_begin(i + 1);

        if (end <= blocks)
            hits += sum->bins[i];
        else if (first < blocks)
            hits += sum->bins[i] * (blocks - first) / (end - first);
    }
    hits /= sum->reads;
    return hits < 0 ? 1 : hits > 1 ? 0 : 1 - hits;
}
