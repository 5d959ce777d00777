/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli), as RFC 3720 and RFC 4960 define it, over ISA-L. */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * The CRC-32C of some bytes; "123456789" gives 0xE3069283, no bytes give SEED.
 * SEED is 0 for a first piece; for a further piece it is the result of the
 * piece before: crc32c(crc32c(0, a, n), b, m) is the CRC of a followed by b.
 * Any size and alignment. Never fails; no state, so any thread may call it.
 */
uint32_t crc32c(uint32_t seed, const void *data, size_t bytes);

#endif
