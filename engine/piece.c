/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of shard.h that run outside the lock: merging, sealing, and which shard a block has. */
#include "common/crc32c.h"
#include "common/hash.h"
#include "engine/shard-private.h"

void piece_merge(struct piece *piece, bool head, const unsigned char *old)
{
    bool one = piece->count == 1;
    uint32_t index = head ? 0 : piece->count - 1u;
    unsigned char *block = piece->data + (size_t)index * BLOCK_BYTES;

    if (head || one)
        memcpy(block, old, piece->head_bytes);
    if (!head || one)
        memcpy(block + BLOCK_BYTES - piece->tail_bytes, old + BLOCK_BYTES - piece->tail_bytes,
               piece->tail_bytes);
    piece->crc[index] = crc32c(0, block, BLOCK_BYTES);
}

void piece_fill(const struct shard *shard, struct piece *piece, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        const unsigned char *block = piece->data + (size_t)i * BLOCK_BYTES;

        if (!(piece->fill_mask >> i & 1))
            continue;
        piece->crc[i] = crc32c(0, block, BLOCK_BYTES);
        memcpy(shard_frame(shard, piece->frame[i]), block, BLOCK_BYTES);
    }
}

void flash_write_seal(struct flash_write *write)
{
    *write->seal_crc = 0;
    *write->seal_crc = crc32c(0, write->iov[0].iov_base, write->seal_bytes);
}

uint32_t shard_of(uint16_t volume, uint64_t block, uint32_t shards)
{
    return (uint32_t)(hash_mix64(key_of(volume, block >> REGION_SHIFT)) >> 20) & (shards - 1);
}
