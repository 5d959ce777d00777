/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD client that measures latency, one request at a time.
 *
 *     latency-client read  URI OFFSET BYTES COUNT SEED
 *     latency-client flush URI OFFSET BYTES COUNT SEED
 *
 * "read" reads COUNT different random 4 KiB blocks of a part of the export; the
 * same seed gives the same blocks. "flush" writes zeros to them instead, with
 * a flush after each write that is measured with it.
 *
 * Prints mean, median and 99th percentile in microseconds as key=value.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"

#define BLOCK_BYTES 4096u

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "latency-client: %s: %s\n", what, why);
    exit(1);
}

static int compare_numbers(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

/* All block numbers below COUNT in random order. */
static uint64_t *shuffled_blocks(uint64_t count, uint64_t seed)
{
    uint64_t *blocks = calloc(count, sizeof(*blocks));

    if (blocks == NULL)
        die("memory", strerror(ENOMEM));
    for (uint64_t i = 0; i < count; i++) {
        uint64_t place = hash_pair64(seed, i) % (i + 1);

        blocks[i] = blocks[place];
        blocks[place] = i;
    }
    return blocks;
}

static uint64_t measure_one(struct nbd_handle *nbd, bool flush, uint64_t offset)
{
    static unsigned char data[BLOCK_BYTES];
    uint64_t begin_ns = clock_ns();

    if (flush) {
        if (nbd_pwrite(nbd, data, sizeof(data), offset, 0) < 0 || nbd_flush(nbd, 0) < 0)
            die("write", nbd_get_error());
    } else if (nbd_pread(nbd, data, sizeof(data), offset, 0) < 0) {
        die("read", nbd_get_error());
    }
    return clock_ns() - begin_ns;
}

int main(int argc, char **argv)
{
    bool flush = argc == 7 && strcmp(argv[1], "flush") == 0;
    uint64_t offset, block_count, count, sum_ns = 0;
    uint64_t *blocks, *times_ns;
    struct nbd_handle *nbd;

    if (argc != 7 || (!flush && strcmp(argv[1], "read") != 0)) {
        fprintf(stderr, "usage: latency-client read|flush URI OFFSET BYTES COUNT SEED\n");
        return 2;
    }
    offset = strtoull(argv[3], NULL, 0);
    block_count = strtoull(argv[4], NULL, 0) / BLOCK_BYTES;
    count = strtoull(argv[5], NULL, 0);
    if (count == 0 || count > block_count)
        die(argv[5], "more requests than blocks, or none");
    blocks = shuffled_blocks(block_count, strtoull(argv[6], NULL, 0));
    times_ns = calloc(count, sizeof(*times_ns));
    if (times_ns == NULL)
        die("memory", strerror(ENOMEM));
    nbd = nbd_create();
    if (nbd == NULL || nbd_connect_uri(nbd, argv[2]) < 0)
        die(argv[2], nbd_get_error());
    for (uint64_t i = 0; i < count; i++) {
        times_ns[i] = measure_one(nbd, flush, offset + blocks[i] * BLOCK_BYTES);
        sum_ns += times_ns[i];
    }
    qsort(times_ns, count, sizeof(*times_ns), compare_numbers);
    printf("count=%" PRIu64 " mean_us=%.1f median_us=%.1f p99_us=%.1f\n", count,
           (double)sum_ns / (double)count / 1000, (double)times_ns[count / 2] / 1000,
           (double)times_ns[count * 99 / 100] / 1000);
    nbd_shutdown(nbd, 0);
    nbd_close(nbd);
    free(times_ns);
    free(blocks);
    return 0;
}
