/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: a shard starts on an image that the input describes (fuzz-image.h), then the input says
 * what requests, stops and crashes follow.
 *
 * Recovery ends, in a shard that serves or in a clean refusal.  A block that was not written since
 * reads as its backing store has it, as a record of the image has it with a matching checksum, or
 * as an error; one that was written reads as it was written, after any stop or crash.
 */
#include "common/crc32c.h"
#include "tests/fuzz/fuzz-shard.h"

#define SEGMENTS 16u
#define OPS_MAX  24u

static struct fuzz_image image;
static struct fuzz_host host;

/* What is known of a block. */
static enum knowledge {
    FOUND,   /* nobody wrote it since the image was made */
    WRITTEN, /* it holds what `model` has */
    WILD,    /* a write failed, or merged with what was there */
} known[HOST_VOLUMES][HOST_BLOCKS];
static unsigned char *model[HOST_VOLUMES];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_image_init(&image, SEGMENTS);
    fuzz_host_init(&host, &image);
    for (unsigned i = 0; i < HOST_VOLUMES; i++) {
        model[i] = malloc((size_t)HOST_BLOCKS * BLOCK_BYTES);
        FUZZ_CHECK(model[i], "no memory");
    }
    return 0;
}

/* ---- checking ------------------------------------------------------------------------------- */

static bool all_zeros(const unsigned char *data)
{
    return data[0] == 0 && memcmp(data, data + 1, BLOCK_BYTES - 1) == 0;
}

static void block_check(unsigned volume, uint64_t block, const unsigned char *data)
{
    const unsigned char *original = host.original[volume] + block * BLOCK_BYTES;

    if (known[volume][block] == WILD)
        return;
    if (known[volume][block] == WRITTEN) {
        FUZZ_CHECK(memcmp(data, model[volume] + block * BLOCK_BYTES, BLOCK_BYTES) == 0,
                   "block %llu of volume %u is not as it was written", (unsigned long long)block,
                   volume + 1);
        return;
    }
    FUZZ_CHECK(memcmp(data, original, BLOCK_BYTES) == 0 ||
                   fuzz_image_describes(&image, (uint16_t)(volume + 1), block,
                                        crc32c(0, data, BLOCK_BYTES), all_zeros(data)),
               "block %llu of volume %u holds what nobody wrote", (unsigned long long)block,
               volume + 1);
}

static void blocks_read(unsigned volume, uint64_t block, uint32_t count)
{
    int error = fuzz_host_submit(&host, PIECE_READ, volume, block, count, 0, 0);

    for (uint32_t i = 0; i < count; i++) {
        if (!error)
            block_check(volume, block + i, host.data + (1 + i) * (size_t)BLOCK_BYTES);
        else if (count > 1)
            blocks_read(volume, block + i, 1);
        else
            FUZZ_CHECK(known[volume][block] != WRITTEN, "a written block cannot be read: %d",
                       error);
    }
}

static void all_read(void)
{
    for (unsigned volume = 0; volume < HOST_VOLUMES; volume++) {
        for (uint64_t block = 0; block < HOST_BLOCKS; block += REGION_BLOCKS)
            blocks_read(volume, block, REGION_BLOCKS);
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

static void blocks_note(unsigned volume, uint64_t block, uint32_t count, enum knowledge what)
{
    for (uint32_t i = 0; i < count; i++)
        known[volume][block + i] = what;
}

static void blocks_write(unsigned volume, uint64_t block, uint32_t count, uint32_t head_bytes,
                         uint8_t seed)
{
    unsigned char *data = host.data + BLOCK_BYTES;
    size_t bytes = (size_t)count * BLOCK_BYTES;

    memset(data, seed, bytes);
    memcpy(data + head_bytes, &host.now_ns, sizeof(host.now_ns));
    memcpy(model[volume] + block * BLOCK_BYTES, data, bytes);
    if (fuzz_host_submit(&host, PIECE_WRITE, volume, block, count, head_bytes, 0) != 0) {
        blocks_note(volume, block, count, WILD);
        return;
    }
    blocks_note(volume, block, count, WRITTEN);
    if (head_bytes != 0)
        known[volume][block] = WILD;
}

static void blocks_zero(unsigned volume, uint64_t block, uint32_t count, uint8_t flags)
{
    int error = fuzz_host_submit(&host, PIECE_ZERO, volume, block, count, 0,
                                 flags & (PIECE_HOLE | PIECE_AROUND));

    memset(model[volume] + block * BLOCK_BYTES, 0, (size_t)count * BLOCK_BYTES);
    blocks_note(volume, block, count, error ? WILD : WRITTEN);
}

static void blocks_invalidate(unsigned volume, uint64_t block, uint32_t count, bool discard)
{
    fuzz_host_submit(&host, PIECE_INVALIDATE, volume, block, count, 0, discard ? PIECE_DISCARD : 0);
    if (discard)
        blocks_note(volume, block, count, WILD);
}

/* False: the shard does not start any more. */
static bool op_run(struct fuzz_input *input)
{
    uint8_t op = fuzz_u8(input), seed;
    unsigned volume = op >> 3 & 1;
    uint64_t block;
    uint32_t count;

    switch (op & 7) {
    case 0: all_read(); return true;
    case 1: fuzz_host_destage(&host); return true;
    case 2: fuzz_host_stop(&host); return fuzz_host_boot(&host) > 0;
    case 3: return fuzz_host_boot(&host) > 0; /* a crash */
    default: break;
    }
    block = fuzz_u8(input) % HOST_BLOCKS;
    seed = fuzz_u8(input);
    count = 1 + seed % REGION_BLOCKS;
    if (count > REGION_BLOCKS - block % REGION_BLOCKS)
        count = REGION_BLOCKS - block % REGION_BLOCKS;
    switch (op & 7) {
    case 4: blocks_zero(volume, block, count, op); break;
    case 5: blocks_invalidate(volume, block, count, op & 16); break;
    default: blocks_write(volume, block, count, op & 16 ? seed * 16u : 0, seed); break;
    }
    return true;
}

/* ---- one input ------------------------------------------------------------------------------ */

static void setting_read(struct fuzz_input *input)
{
    uint8_t options = fuzz_u8(input);

    host.config.clean_start = options & 1;
    host.config.flash_volatile = options & 2;
    for (unsigned i = 0; i < HOST_VOLUMES; i++)
        host.policies[i] =
            (struct volume_policy){.present = true,
                                   .mode = (options >> (2 + i) & 1) | (options >> (6 + i) & 1) << 1,
                                   .blocks = HOST_BLOCKS};
    host.policies[1].floor_lsn = FUZZ_LSN(8);
    if (options & 16) {
        /* Of a superblock, which was checked. */
        host.config.watermark = fuzz_lsn(input) % FUZZ_LSN(UINT64_C(1) << 32);
        host.config.durable_lsn = fuzz_lsn(input) % FUZZ_LSN(UINT64_C(1) << 32);
    }
    if (options & 32) {
        host.config.retired_count = 1;
        host.retired[0] = fuzz_u8(input) % SEGMENTS;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, data + bytes};

    fuzz_image_reset(&image);
    fuzz_host_reset(&host);
    memset(known, 0, sizeof(known));
    setting_read(&input);
    fuzz_image_build(&image, &input);
    if (fuzz_host_boot(&host) < 0)
        return 0;
    all_read();
    for (unsigned i = 0; i < OPS_MAX && !fuzz_ended(&input); i++) {
        if (op_run(&input))
            continue;
        /* What cannot be read may hide a record (I24). */
        FUZZ_CHECK(image.lost > 0, "a shard that served once does not start again: %d",
                   shard_ready(host.shard));
        return 0;
    }
    all_read();
    return 0;
}
