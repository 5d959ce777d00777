/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake's receives and sends, one at a time, and its timeout. */
#include "frontends/nbd/nbd-greeter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-credentials.h"
#include "frontends/nbd/nbd-handshake.h"
#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-server-private.h"
#include "frontends/nbd/nbd-tls.h"

/* When the server stops: how long a client that negotiates may take to be told. */
#define STOP_GRACE_NS UINT64_C(1000000000)

#define INPUT_BYTES   (NBD_OPTION_HEADER_BYTES + NBD_HANDSHAKE_DATA_BYTES_MAX)

struct nbd_greeter {
    struct nbd_handshake handshake;
    enum nbd_handshake_result result; /* of the last step, whose output is being sent */
    uint32_t input_start, input_end;
    uint32_t output_start, output_end;
    struct iovec rest; /* of the output, being sent */
    unsigned char input[INPUT_BYTES];
    unsigned char output[NBD_HANDSHAKE_OUTPUT_BYTES];
};

static void receive(struct nbd_client *client)
{
    struct nbd_greeter *greeter = client->greeter;
    uint32_t left = greeter->input_end - greeter->input_start;
    struct io_uring_sqe *sqe;

    memmove(greeter->input, greeter->input + greeter->input_start, left);
    greeter->input_start = 0;
    greeter->input_end = left;
    client->receiving = true;
    if (client->tls != NULL) {
        nbd_tls_receive(client->tls, &client->receive, greeter->input + left, INPUT_BYTES - left,
                        false);
        return;
    }
    sqe = core_sqe(client->core);
    /* The handshake never leaves a full buffer: it drops what is longer than an option may be. */
    io_uring_prep_recv(sqe, client->fd, greeter->input + left, INPUT_BYTES - left, 0);
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &client->receive);
}

static void send_output(struct nbd_client *client)
{
    struct nbd_greeter *greeter = client->greeter;
    struct io_uring_sqe *sqe;

    greeter->rest.iov_base = greeter->output + greeter->output_start;
    greeter->rest.iov_len = greeter->output_end - greeter->output_start;
    client->sending = true;
    if (client->tls != NULL) {
        nbd_tls_send(client->tls, &client->send, &greeter->rest, 1);
        return;
    }
    sqe = core_sqe(client->core);
    io_uring_prep_send(sqe, client->fd, greeter->rest.iov_base, greeter->rest.iov_len,
                       MSG_WAITALL | MSG_NOSIGNAL);
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &client->send);
}

static void go_on(struct nbd_client *client);
static void received(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags);

static void failed(struct nbd_client *client, const char *why)
{
    const struct nbd_greeter *greeter = client->greeter;

    /* Many clients say goodbye without waiting for our answer to it.  When we stop, it is us. */
    if ((greeter->result == NBD_HANDSHAKE_CLOSE && greeter->handshake.why == NULL) ||
        client->stopping) {
        nbd_client_break(client);
        return;
    }
    nbd_count(client->own, handshakes_failed);
    nbd_client_complain(client, "NBD handshake failed", why);
    nbd_client_break(client);
}

/* The TLS handshake is over: the NBD handshake begins again, but for its beginning. */
static void secured(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_client *client = container_of(op, struct nbd_client, receive);

    (void)cqe_flags;
    client->receiving = false;
    client->receive.done = received;
    if (client->state != NBD_CLIENT_HANDSHAKE) {
        core_defer(core, &client->settle);
    } else if (result != 0) {
        nbd_count(client->own, tls_failures);
        failed(client, nbd_tls_why(client->tls));
    } else {
        nbd_count(client->own, tls_handshakes);
        nbd_handshake_secured(&client->greeter->handshake);
        go_on(client);
    }
}

/* What came behind STARTTLS belongs to TLS, whatever it is: nothing of it counts as said in secret. */
static void secure(struct nbd_client *client)
{
    struct nbd_greeter *greeter = client->greeter;
    uint32_t bytes = greeter->input_end - greeter->input_start;

    client->tls = nbd_tls_create(client, client->credentials);
    if (client->tls == NULL) {
        failed(client, "no memory for a TLS session");
        return;
    }
    client->receive.done = secured;
    client->receiving = true;
    nbd_tls_handshake(client->tls, greeter->input + greeter->input_start, bytes, &client->receive);
    greeter->input_start = greeter->input_end = 0;
}

/* What the last step said, now that its output has gone. */
static void conclude(struct nbd_client *client)
{
    struct nbd_greeter *greeter = client->greeter;
    struct nbd_handshake *handshake = &greeter->handshake;

    if (greeter->result == NBD_HANDSHAKE_SECURE) {
        secure(client);
        return;
    }
    core_timer_disarm(client->core, &client->timeout);
    if (greeter->result == NBD_HANDSHAKE_TRANSMIT) {
        nbd_client_transmit(client, handshake, greeter->input + greeter->input_start,
                            greeter->input_end - greeter->input_start);
    } else if (handshake->why != NULL) {
        failed(client, handshake->why);
    } else {
        nbd_client_drain(client);
    }
}

static void go_on(struct nbd_client *client)
{
    struct nbd_greeter *greeter = client->greeter;
    size_t consumed, output_bytes;

    greeter->result = nbd_handshake_step(&greeter->handshake, greeter->input + greeter->input_start,
                                         greeter->input_end - greeter->input_start, &consumed,
                                         greeter->output, &output_bytes);
    greeter->input_start += (uint32_t)consumed;
    greeter->output_start = 0;
    greeter->output_end = (uint32_t)output_bytes;
    if (output_bytes != 0)
        send_output(client);
    else if (greeter->result == NBD_HANDSHAKE_MORE)
        receive(client);
    else
        conclude(client);
}

static void received(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_client *client = container_of(op, struct nbd_client, receive);

    (void)cqe_flags;
    client->receiving = false;
    if (client->state != NBD_CLIENT_HANDSHAKE) {
        core_defer(core, &client->settle);
    } else if (result > 0) {
        client->greeter->input_end += (uint32_t)result;
        go_on(client);
    } else if (result == -EINTR || result == -EAGAIN) {
        receive(client);
    } else {
        failed(client, result == 0 ? "the client hung up" : strerror(-result));
    }
}

static void sent(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_client *client = container_of(op, struct nbd_client, send);
    struct nbd_greeter *greeter = client->greeter;

    (void)cqe_flags;
    client->sending = false;
    if (client->state != NBD_CLIENT_HANDSHAKE) {
        core_defer(core, &client->settle);
        return;
    }
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        failed(client, strerror(-result));
        return;
    }
    greeter->output_start += result > 0 ? (uint32_t)result : 0;
    if (greeter->output_start < greeter->output_end)
        send_output(client);
    else if (greeter->result == NBD_HANDSHAKE_MORE)
        go_on(client);
    else
        conclude(client);
}

static void expired(struct core *core, struct core_timer *timer)
{
    struct nbd_client *client = container_of(timer, struct nbd_client, timeout);

    (void)core;
    if (!client->stopping)
        nbd_count(client->own, handshake_timeouts);
    failed(client, "the client took too long");
}

int nbd_greeter_start(struct nbd_client *client)
{
    struct nbd_server *server = client->own->server;

    client->greeter = malloc(sizeof(*client->greeter));
    if (client->greeter == NULL)
        return -ENOMEM;
    client->greeter->input_start = client->greeter->input_end = 0;
    nbd_handshake_init(&client->greeter->handshake, server->cache);
    pthread_mutex_lock(&server->lock);
    client->greeter->handshake.tls = server->tls_mode;
    client->credentials = nbd_credentials_hold(server->credentials);
    pthread_mutex_unlock(&server->lock);
    client->receive.done = received;
    client->send.done = sent;
    client->timeout.expired = expired;
    core_timer_arm(client->core, &client->timeout,
                   core_now(client->core) + client->limits.handshake_timeout_ns);
    go_on(client);
    return 0;
}

/* The document: further options are refused with an error of their own.  A client that is quiet may be
 * about to send one; one that has not even begun is not waited for. */
void nbd_greeter_stop(struct nbd_client *client)
{
    struct nbd_handshake *handshake = &client->greeter->handshake;

    client->stopping = handshake->stopping = true;
    if (handshake->state == NBD_HANDSHAKE_GREETING ||
        handshake->state == NBD_HANDSHAKE_CLIENT_FLAGS) {
        nbd_client_break(client);
        return;
    }
    core_timer_disarm(client->core, &client->timeout);
    core_timer_arm(client->core, &client->timeout, core_now(client->core) + STOP_GRACE_NS);
}

void nbd_greeter_end(struct nbd_client *client)
{
    core_timer_disarm(client->core, &client->timeout);
    free(client->greeter);
    client->greeter = NULL;
}
