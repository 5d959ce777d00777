/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a reply: everything that goes to the client before the payload of a read.  Pure. */
#ifndef FRONTENDS_NBD_REPLY_H
#define FRONTENDS_NBD_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "frontends/nbd/nbd-protocol.h"

/* Longest head: an extended error with a text of up to NBD_REPLY_TEXT_BYTES_MAX. */
#define NBD_REPLY_TEXT_BYTES_MAX 48u
#define NBD_REPLY_HEAD_BYTES_MAX (32u + 6u + NBD_REPLY_TEXT_BYTES_MAX)

struct nbd_request;

/*
 * Writes the head for `request` into `head` and returns its length.  `error` is an enum nbd_error,
 * `text`, or NULL, says more about it.  A read that succeeded is followed by request->length bytes
 * of payload.
 */
unsigned nbd_reply_head(unsigned char *head, const struct nbd_request *request,
                        enum nbd_style style, uint32_t error, const char *text);

/* The enum nbd_error for a negative errno (or 0). */
uint32_t nbd_reply_error(int error);

#endif
