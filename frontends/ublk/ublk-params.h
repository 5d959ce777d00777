/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel is told about a volume.  Pure. */
#ifndef FRONTENDS_UBLK_PARAMS_H
#define FRONTENDS_UBLK_PARAMS_H

#include <stdbool.h>

#include "frontends/ublk/ublk-uapi.h"

/* The largest request with payload: a shard's region, so that most need one piece. */
#define UBLK_IO_BYTES (256u << 10)

/* The largest that a device left behind by another version may have. */
#define UBLK_IO_BYTES_MAX (1u << 20)

struct ublk_facts {
    uint64_t bytes;        /* of the volume; what is no whole sector at its end is left out */
    uint32_t sector_bytes; /* that its partition table counts in */
    bool read_only;
    bool is_volatile; /* volume_is_volatile */
    bool can_trim;    /* the backing store can */
};

void ublk_params_fill(struct ublk_params *params, const struct ublk_facts *facts,
                      uint32_t io_bytes);

/* Sectors of 512 bytes that the device shows. */
uint64_t ublk_params_sectors(const struct ublk_facts *facts);

#endif
