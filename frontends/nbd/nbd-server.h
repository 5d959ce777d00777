/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server: listens, and serves each connection on one core's ring.
 *
 *   nbd_server_create    binds the addresses; nothing is accepted yet
 *   nbd_server_start     the cores run: accept
 *   nbd_server_stop      accept no more, answer what is in flight, close
 *   nbd_server_destroy
 *
 * All of these from one thread that is no core.
 */
#ifndef FRONTENDS_NBD_SERVER_H
#define FRONTENDS_NBD_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;
struct nbd_server;
struct volume;

/* 0 means the default. */
#define NBD_NEVER UINT64_MAX
struct nbd_limits {
    uint32_t connections_max;      /* at once; more are closed at once.  Default 1024 */
    uint32_t requests_max;         /* in flight per connection.  Default 128 */
    uint64_t bytes_max;            /* of payload in flight per connection, at least that of one
                                      request, which may be 32 MiB.  Default 64 MiB */
    uint64_t handshake_timeout_ns; /* Default 10 s */
    uint64_t idle_timeout_ns;      /* without a request in flight.  Default NBD_NEVER */
    /* Without taking a byte of its replies, without sending one of a payload; over a Unix socket:
     * without taking or sending all that is under way.  Default 60 s */
    uint64_t send_timeout_ns, receive_timeout_ns;
};

enum nbd_tls_mode {
    NBD_TLS_OFF,
    NBD_TLS_ON,      /* a client may use it */
    NBD_TLS_REQUIRE, /* a client gets nothing without it */
};

struct nbd_tls_config {
    enum nbd_tls_mode mode;
    const char *certificates; /* directory, see nbd-credentials.h; "": none */
    const char *psk;          /* file of pre-shared keys, as psktool writes it; "": none */
    bool verify_clients;      /* a client without a key needs a certificate */
};

struct nbd_server_config {
    struct cache *cache;       /* whose volumes are exported */
    const char *const *listen; /* "unix:/path", "tcp:host:port", "tcp:[v6]:port"; host may be empty:
                                  all addresses; port 0: any free one */
    unsigned listen_count;
    const int *listen_fds; /* sockets that listen already; taken over */
    unsigned listen_fd_count;

    /* A connection that is there already; taken over.  When it is closed `single_gone` is called, on
     * a core. */
    bool single;
    int single_fd;
    void (*single_gone)(void *opaque);
    void *opaque;

    struct nbd_limits limits;
    struct nbd_tls_config tls;
};

/*
 * X(name, text).  All count up, except those that say "at present".
 */
#define NBD_COUNTERS(X)                                                                 \
    X(connections_accepted, "connections accepted")                                     \
    X(connections_refused, "connections closed at once because there were too many")    \
    X(connections_open, "connections at present")                                       \
    X(handshakes_failed, "handshakes ended by a fault of the client or by its silence") \
    X(handshake_timeouts, "of these, those that took too long")                         \
    X(tls_handshakes, "TLS sessions set up")                                            \
    X(tls_failures, "TLS handshakes that failed")                                       \
    X(idle_timeouts, "connections dropped because nothing was asked for too long")      \
    X(send_timeouts, "connections dropped because replies were not taken")              \
    X(receive_timeouts, "connections dropped because a payload did not come")           \
    X(protocol_errors, "connections dropped in the middle for what the client sent")    \
    X(requests_read, "READ requests")                                                   \
    X(requests_write, "WRITE requests")                                                 \
    X(requests_flush, "FLUSH requests")                                                 \
    X(requests_trim, "TRIM requests")                                                   \
    X(requests_cache, "CACHE requests")                                                 \
    X(requests_zero, "WRITE_ZEROES requests")                                           \
    X(requests_status, "BLOCK_STATUS requests")                                         \
    X(requests_refused, "requests answered with an error because they were not valid")  \
    X(requests_failed, "valid requests answered with an error")                         \
    X(requests_in_flight, "requests at present")                                        \
    X(bytes_in_flight, "bytes of payload that these hold memory for at present")        \
    X(bytes_read, "bytes of payload sent")                                              \
    X(bytes_written, "bytes of payload received")                                       \
    X(receives, "receive operations completed")                                         \
    X(sends, "send operations completed")

struct nbd_counters {
#define X(name, text) uint64_t name;
    NBD_COUNTERS(X)
#undef X
};

/* Negative errno, and `why` a sentence that names the address.  Sockets' files are 0660, so that
 * owner and group may connect. */
int nbd_server_create(struct nbd_server **server, const struct nbd_server_config *config, char *why,
                      size_t why_bytes);

void nbd_server_start(struct nbd_server *server);

/* Returns when the last connection is closed.  Clients that do not take their replies are dropped
 * after some seconds; a request that is under way is waited for however long it takes. */
void nbd_server_stop(struct nbd_server *server);

/* Hangs up on the volume's clients; returns before the last one is gone. */
void nbd_server_hang_up(struct nbd_server *server, const struct volume *volume);

/* It was stopped, or never started. */
void nbd_server_destroy(struct nbd_server *server);

/* The limits of connections that come now. */
struct nbd_limits nbd_server_limits(struct nbd_server *server);

/* Sums over the cores; any thread. */
void nbd_server_counters(const struct nbd_server *server, struct nbd_counters *sum);

/* The addresses that it listens on, in the form of nbd_server_config.listen, with the ports that
 * were found; false behind the last one. */
#define NBD_ADDRESS_BYTES 160
bool nbd_server_address(struct nbd_server *server, unsigned index, char text[NBD_ADDRESS_BYTES]);

#endif
