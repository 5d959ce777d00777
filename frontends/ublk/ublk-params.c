/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel is told about a volume. */
#include "frontends/ublk/ublk-params.h"

#include <string.h>

#include "engine/format.h"

/* In one request; the engine cuts it, some pieces at a time. */
#define ZERO_BYTES_MAX (UINT32_C(1) << 30)

static uint8_t shift(uint32_t power_of_two)
{
    return (uint8_t)__builtin_ctz(power_of_two);
}

uint64_t ublk_params_sectors(const struct ublk_facts *facts)
{
    return facts->bytes / facts->sector_bytes * facts->sector_bytes >> UBLK_SECTOR_SHIFT;
}

/* Without a volatile cache the kernel sends neither FLUSH nor FUA, and an fsync costs nothing. */
void ublk_params_fill(struct ublk_params *params, const struct ublk_facts *facts, uint32_t io_bytes)
{
    memset(params, 0, sizeof(*params));
    params->bytes = sizeof(*params);
    params->types = UBLK_PARAMS_BASIC;
    params->basic.attributes =
        (facts->read_only ? UBLK_ATTRIBUTE_READ_ONLY : 0u) |
        (facts->is_volatile ? UBLK_ATTRIBUTE_VOLATILE_CACHE | UBLK_ATTRIBUTE_FUA : 0u);
    params->basic.logical_block_shift = shift(facts->sector_bytes);
    params->basic.physical_block_shift = shift(BLOCK_BYTES);
    params->basic.io_minimal_shift = shift(BLOCK_BYTES);
    params->basic.io_optimal_shift = shift(UBLK_IO_BYTES);
    params->basic.max_sectors = io_bytes >> UBLK_SECTOR_SHIFT;
    params->basic.sectors = ublk_params_sectors(facts);
    if (facts->read_only)
        return;
    params->types |= UBLK_PARAMS_DISCARD;
    params->discard.granularity = BLOCK_BYTES;
    params->discard.max_write_zeroes_sectors = ZERO_BYTES_MAX >> UBLK_SECTOR_SHIFT;
    if (facts->can_trim) {
        params->discard.max_discard_sectors = ZERO_BYTES_MAX >> UBLK_SECTOR_SHIFT;
        params->discard.max_discard_segments = 1;
    }
}
