/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a reply: everything that goes to the client before the payload of a read.  Pure. */
#ifndef FRONTENDS_NBD_REPLY_H
#define FRONTENDS_NBD_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "frontends/nbd/nbd-protocol.h"

/* Longest head: an extended error with a text of up to NBD_REPLY_TEXT_BYTES_MAX and an offset. */
#define NBD_REPLY_TEXT_BYTES_MAX 48u
#define NBD_REPLY_HEAD_BYTES_MAX (32u + 6u + NBD_REPLY_TEXT_BYTES_MAX + 8u)

struct nbd_request;

/*
 * Writes the head for `request` into `head` and returns its length.  `error` is an enum nbd_error,
 * `text`, or NULL, says more about it.  A read that succeeded is followed by request->length bytes
 * of payload.
 */
unsigned nbd_reply_head(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint32_t error, const char *text);

/* The same for an error that happened at `offset`, or a little behind it, in the middle of things:
 * structured replies say where.  `text` may be NULL. */
unsigned nbd_reply_head_at(unsigned char *head, const struct nbd_request *request,
                           enum nbd_style style, uint32_t error, const char *text, uint64_t offset);

/* Headers of chunks that are not the last one: `bytes` of data, which follow; zeros, which do not;
 * anything, of `type` and with `bytes` behind it.  They return their length, at most 44 bytes. */
unsigned nbd_reply_data(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint64_t offset, uint64_t bytes);
unsigned nbd_reply_hole(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint64_t offset, uint32_t bytes);
unsigned nbd_reply_chunk(unsigned char *head, const struct nbd_request *request,
                         enum nbd_style style, enum nbd_reply_type type, uint64_t bytes);

/* Makes the chunk with this header the last one of its reply. */
void nbd_reply_done(unsigned char *head);

/* What to tell a person about an error of a valid request. */
const char *nbd_reply_text(uint32_t error);

/* The enum nbd_error for a negative errno (or 0). */
uint32_t nbd_reply_error(int error);

#endif
