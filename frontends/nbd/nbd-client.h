/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client's connection: belongs to one core, touched by that core only.
 *
 *          accepted                 EXPORT_NAME, GO            DISC, end of stream, stop
 *   ------> HANDSHAKE --------------> TRANSMIT ----------------> DRAIN ---------> closed
 *               |                        |                         |                ^
 *               +------------------------+-------------------------+---> BROKEN ----+
 *                 timeout, fault of the client, socket error, told to
 *
 *   HANDSHAKE  options are negotiated: one receive or one send under way (nbd-greeter.c)
 *   TRANSMIT   requests are received (nbd-receive.c) and answered (nbd-send.c)
 *   DRAIN      takes no more requests; closed when those in flight are answered
 *   BROKEN     the socket is shut down; closed when nothing refers to the connection any more
 *
 * Invariants.  At most one receive and one send are under way.  A slot is free, or it is
 * `filling`, or its request is with the engine, or it is in the queue of replies; in_flight counts
 * those that are not free.  Only settle(), from the core's loop, frees a connection,
 * and only when no operation, request, message, timer or wait refers to it.
 */
#ifndef FRONTENDS_NBD_CLIENT_H
#define FRONTENDS_NBD_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/list.h"
#include "frontends/nbd/nbd-request.h"
#include "frontends/nbd/nbd-server.h"
#include "frontends/nbd/nbd-slot.h"
#include "io/core.h"

struct nbd_core;
struct nbd_greeter;
struct nbd_handshake;
struct nbd_credentials;
struct nbd_tls;

/* Bytes that one receive may bring: headers and small payloads, in bulk. */
#define NBD_INPUT_BYTES (64u << 10)

/* Vectors of one send; the kernel's limit (UIO_MAXIOV). */
#define NBD_VECTORS_MAX 1024u

enum nbd_client_state {
    NBD_CLIENT_HANDSHAKE,
    NBD_CLIENT_TRANSMIT,
    NBD_CLIENT_DRAIN,
    NBD_CLIENT_BROKEN,
};

struct nbd_client {
    enum nbd_client_state state;
    struct nbd_limits limits; /* those in force when it came */
    int fd, file;             /* file: slot in the ring's table, or -1 */
    struct core *core;
    struct nbd_core *own;
    struct list link;                    /* own->clients */
    struct core_deferred settle;         /* sends replies, or ends the connection */
    struct core_message message;         /* begin; later, to ourselves: go on parsing */
    bool message_sent;                   /* the latter is under way */
    struct core_timer timeout;           /* of the handshake */
    struct nbd_greeter *greeter;         /* HANDSHAKE only */
    struct nbd_credentials *credentials; /* of the server when it came */
    struct nbd_tls *tls;                 /* NULL: what goes over the socket is not encrypted */

    /* TRANSMIT, and DRAIN. */
    struct volume *volume;
    struct nbd_rules rules;
    uint32_t header_bytes; /* of a request, by rules.style */

    /* Receiving. */
    struct core_op receive;
    bool receiving;
    bool stopping;          /* what has arrived is the last that is taken ... */
    bool refusing;          /* ... or, where it would have to wait for room, refused */
    uint8_t last_receives;  /* since, and without waiting */
    bool stalled;           /* a header is here, but no room for the request */
    bool waiting;           /* `waiter` waits for memory for the payload of `filling` */
    bool input_was_full;    /* the last receive brought all that was asked for */
    bool after_large_write; /* see nbd-receive.c */
    unsigned char *input;   /* NBD_INPUT_BYTES; [start, end) is not parsed yet */
    uint32_t input_start, input_end, input_asked;
    uint64_t skip_bytes;      /* of a refused payload, still to be dropped */
    struct nbd_slot *filling; /* a WRITE whose payload is not complete */
    struct core_buffer_waiter waiter;

    /* When the send or receive under way began, or, if there is none, the last one; and what was
     * transferred when it was last looked at (nbd-watch.c). */
    uint64_t send_ns, receive_ns, watched_bytes;

    /* Requests in flight. */
    struct nbd_slot *slots, *slots_free;
    uint32_t slots_used; /* those behind were never used, and their memory was never touched */
    uint32_t in_flight;
    uint64_t bytes_in_flight;

    /* Sending. */
    struct core_op send;
    bool sending;
    struct nbd_slot *reply_first, *reply_last;
    uint64_t reply_sent; /* bytes of reply_first that the socket has taken */
    struct msghdr header;
    struct iovec *vectors; /* NBD_VECTORS_MAX */
};

/* Takes over the descriptor of a new client and hands it to `core`.  Called on core 0. */
int nbd_client_open(struct nbd_core *own, struct core *core, int fd);

/* The handshake succeeded: sets up what transmission needs.  `input` was received already. */
void nbd_client_transmit(struct nbd_client *client, const struct nbd_handshake *handshake,
                         const unsigned char *input, size_t bytes);

/* Takes no more requests; answers those in flight, then closes. */
void nbd_client_drain(struct nbd_client *client);

/* Logs what a client did wrong, now and then: whoever sends garbage all day does not fill the log. */
void nbd_client_complain(const struct nbd_client *client, const char *message, const char *reason);

/* Hangs up at once. */
void nbd_client_break(struct nbd_client *client);

/* The server stops: refuses the requests that are here but not begun, then one of the two above. */
void nbd_client_stop(struct nbd_client *client);

#endif
