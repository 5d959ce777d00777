/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake of one connection as a pure function: bytes in, bytes out, no I/O and no clock.
 *
 * The caller loops: step; if there is output, send it and step again with the input that was not
 * consumed; else, receive more behind that input, and step again.  How long a client may take is
 * the caller's business, how many options it may send is settled here.
 *
 *   GREETING -> CLIENT_FLAGS -> OPTION -> OPTION_DATA -+-> done: NBD_HANDSHAKE_TRANSMIT
 *                                ^ ^          |        +-> done: NBD_HANDSHAKE_CLOSE
 *                                | +-- LIST <-+-> NBD_HANDSHAKE_SECURE -> OPTION
 *                                +---- SKIP <-+
 */
#ifndef FRONTENDS_NBD_HANDSHAKE_H
#define FRONTENDS_NBD_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-server.h"

struct cache;
struct volume;

/* Room that each step needs for its output. */
#define NBD_HANDSHAKE_OUTPUT_BYTES 2048u

/* Longest option data that is looked at; a longer option is skipped and answered with
 * NBD_REP_ERR_TOO_BIG.  The caller's input buffer must hold this and a header. */
#define NBD_HANDSHAKE_DATA_BYTES_MAX 8192u

#define NBD_HANDSHAKE_OPTIONS_MAX    64u

enum nbd_handshake_state {
    NBD_HANDSHAKE_GREETING,     /* nothing sent yet */
    NBD_HANDSHAKE_CLIENT_FLAGS, /* waiting for the client's flags */
    NBD_HANDSHAKE_OPTION,       /* waiting for an option's header */
    NBD_HANDSHAKE_OPTION_DATA,  /* waiting for all of its data */
    NBD_HANDSHAKE_SKIP,         /* dropping the data of an option that is too long */
    NBD_HANDSHAKE_LISTING,      /* in the middle of the answer to LIST */
    NBD_HANDSHAKE_DONE,
};

enum nbd_handshake_result {
    NBD_HANDSHAKE_MORE,     /* send the output if there is some, else receive more input */
    NBD_HANDSHAKE_SECURE,   /* send the output; then input not consumed is the beginning of a TLS
                               handshake; after that, nbd_handshake_secured, and go on */
    NBD_HANDSHAKE_TRANSMIT, /* send the output; then input not consumed is requests for `volume` */
    NBD_HANDSHAKE_CLOSE,    /* send the output if there is some, and close; see `why` */
};

struct nbd_handshake {
    struct cache *cache;
    enum nbd_tls_mode tls; /* set after init; off is 0 */
    bool secure;           /* what is said is encrypted */
    bool stopping;         /* set any time: options are refused from now on */
    enum nbd_handshake_state state;
    uint32_t option, length; /* the option under way; in SKIP, length is what is left to drop */
    unsigned options;        /* received so far */
    unsigned list_index;     /* next volume to be listed */
    bool no_zeroes;

    /* What was agreed on. */
    bool structured;
    bool extended;                       /* takes precedence over `structured` */
    unsigned contexts;                   /* enum nbd_context, those selected ... */
    const struct volume *context_volume; /* ... for this one only */
    uint16_t flags;                      /* enum nbd_transmission_flag */
    struct volume *volume;

    const char *why; /* CLOSE: what was wrong, static; NULL when the client wished it */
};

void nbd_handshake_init(struct nbd_handshake *handshake, struct cache *cache);

/*
 * Takes what it can use of `input` (sets *consumed) and writes an answer of *output_bytes, which is
 * at most NBD_HANDSHAKE_OUTPUT_BYTES, into `output`.  One option, or a part of the list, per call.
 */
enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake,
                                             const unsigned char *input, size_t input_bytes,
                                             size_t *consumed, unsigned char *output,
                                             size_t *output_bytes);

/* TLS has been set up: nothing that was agreed on before counts any more. */
void nbd_handshake_secured(struct nbd_handshake *handshake);

/* The metadata contexts that were selected for `volume`. */
unsigned nbd_handshake_contexts(const struct nbd_handshake *handshake, const struct volume *volume);

/* The style of messages that was negotiated. */
enum nbd_style nbd_handshake_style(const struct nbd_handshake *handshake);

#endif
