/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C over ISA-L, which takes the fastest instructions the processor has. */
#include "common/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L counts in int. */
#define PIECE_BYTES_MAX ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    /* ISA-L inverts neither at the start nor at the end; the standard inverts at both. */
    uint32_t crc = ~seed;

    while (bytes > 0) {
        size_t piece_bytes = bytes < PIECE_BYTES_MAX ? bytes : PIECE_BYTES_MAX;

        /* ISA-L's prototype lacks a const; it does not write. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, (int)piece_bytes, crc);
        at += piece_bytes;
        bytes -= piece_bytes;
    }
    return ~crc;
}
