/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little-endian (our own formats) and big-endian (the NBD protocol) integers in
 * memory, at any alignment.
 */
#ifndef COMMON_ENDIAN_H
#define COMMON_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* BITS, host-to-medium and medium-to-host conversion for each accessor pair. */
#define ENDIAN_DEFINE(order, bits, to_medium, to_host)                       \
    /* The integer at DATA. */                                               \
    static inline uint##bits##_t order##bits##_load(const void *data)        \
    {                                                                        \
        uint##bits##_t raw;                                                  \
                                                                             \
        memcpy(&raw, data, sizeof(raw));                                     \
        return to_host(raw);                                                 \
    }                                                                        \
                                                                             \
    /* Put VALUE at DATA. */                                                 \
    static inline void order##bits##_store(void *data, uint##bits##_t value) \
    {                                                                        \
        uint##bits##_t raw = to_medium(value);                               \
                                                                             \
        memcpy(data, &raw, sizeof(raw));                                     \
    }

/* uint16_t le16_load(const void *data); void le16_store(void *data, uint16_t value); and so on */
ENDIAN_DEFINE(le, 16, htole16, le16toh)
ENDIAN_DEFINE(le, 32, htole32, le32toh)
ENDIAN_DEFINE(le, 64, htole64, le64toh)
ENDIAN_DEFINE(be, 16, htobe16, be16toh)
ENDIAN_DEFINE(be, 32, htobe32, be32toh)
ENDIAN_DEFINE(be, 64, htobe64, be64toh)

#undef ENDIAN_DEFINE

#endif
