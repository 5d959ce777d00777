/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in a 512-byte sector, as one number.
 *
 * Each write has an id, and fills each of its sectors with a pattern made of id, volume and sector
 * number: so a sector that is read says which write of which sector it is, and a sector of
 * somewhere else or a mixture of two writes is recognised.  What is neither zeros nor one pattern
 * (a sector that was written in part) is kept as a literal.
 */
#ifndef TESTS_SIM_CONTENT_H
#define TESTS_SIM_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_ZEROS    UINT32_C(0)
#define CONTENT_ID_MAX   UINT32_C(0x7fffffff) /* writes have ids from 1 to here */
#define CONTENT_LITERALS UINT32_C(0x80000000) /* literals have ids from here */
#define CONTENT_FOREIGN  UINT32_C(0xffffffff) /* not made here: torn, foreign or garbage */

struct content;

struct content *content_create(void);
void content_destroy(struct content *content);
void content_reset(struct content *content);

/* The pattern of write `id`; CONTENT_ZEROS and literals, too. */
void content_fill(const struct content *content, unsigned char *data, uint16_t volume,
                  uint64_t sector, uint32_t id);

/* What these 512 bytes are, read as this sector: an id or CONTENT_FOREIGN. */
uint32_t content_decode(const struct content *content, const unsigned char *data, uint16_t volume,
                        uint64_t sector);

/* Whose pattern this is, wherever it was found; false: nobody's. */
bool content_identify(const unsigned char *data, uint16_t *volume, uint64_t *sector, uint32_t *id);

/* The id of `base` with bytes [from, to) of `top` laid over it. */
uint32_t content_overlay(struct content *content, uint16_t volume, uint64_t sector, uint32_t base,
                         uint32_t top, uint32_t from, uint32_t to);

/* The id of these bytes, kept as a literal if they are nothing else. */
uint32_t content_literal(struct content *content, const unsigned char *data, uint16_t volume,
                         uint64_t sector);

/* A few words for a failure's message. */
void content_describe(const unsigned char *data, uint16_t volume, uint64_t sector, char *text,
                      size_t bytes);

#endif
