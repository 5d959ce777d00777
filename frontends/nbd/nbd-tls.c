/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions over in-memory buffers. */
#include "frontends/nbd/nbd-tls.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-credentials.h"

#define IN_BYTES      (64u << 10)
#define OUT_BYTES_MIN (32u << 10)

/* Encrypted before other connections get their turn, and before it is sent. */
#define SEND_BYTES (256u << 10)

struct cipher_out {
    unsigned char *data;
    size_t bytes, size;
};

struct nbd_tls {
    struct nbd_client *client;
    gnutls_session_t session;
    struct core_deferred work;
    const char *why;

    /* What is asked for; NULL: nothing. */
    struct core_op *handshake_op, *receive_op, *send_op;
    unsigned char *receive_data;
    size_t receive_bytes, received;
    bool receive_all, receive_cancelled;
    const struct iovec *vectors;
    unsigned vector_count;
    size_t vector_sent; /* of the first one */
    int32_t sent;       /* of all of them */

    /* What is encrypted.  Of the two that go out, one is being sent. */
    struct core_op raw_receive, raw_send;
    bool raw_receiving, raw_sending, ended, said_goodbye;
    int raw_error;
    size_t in_start, in_end;
    struct cipher_out out, sending;
    size_t sending_sent;
    unsigned char in[IN_BYTES];
};

/* ---- the library's transport -------------------------------------------------------------- */

static ssize_t pull(gnutls_transport_ptr_t opaque, void *data, size_t bytes)
{
    struct nbd_tls *tls = opaque;
    size_t here = tls->in_end - tls->in_start;

    if (here == 0 && (tls->ended || tls->raw_error != 0))
        return 0;
    if (here == 0) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    here = here < bytes ? here : bytes;
    memcpy(data, tls->in + tls->in_start, here);
    tls->in_start += here;
    return (ssize_t)here;
}

static int pull_timeout(gnutls_transport_ptr_t opaque, unsigned ms)
{
    const struct nbd_tls *tls = opaque;

    (void)ms;
    return tls->in_end > tls->in_start || tls->ended ? 1 : 0;
}

static ssize_t push(gnutls_transport_ptr_t opaque, const void *data, size_t bytes)
{
    struct nbd_tls *tls = opaque;
    struct cipher_out *out = &tls->out;

    if (out->size - out->bytes < bytes) {
        size_t size = out->size * 2 > out->bytes + bytes ? out->size * 2 : out->bytes + bytes;
        unsigned char *grown;

        size = size < OUT_BYTES_MIN ? OUT_BYTES_MIN : size;
        grown = realloc(out->data, size);
        if (grown == NULL) {
            gnutls_transport_set_errno(tls->session, ENOMEM);
            return -1;
        }
        out->data = grown;
        out->size = size;
    }
    memcpy(out->data + out->bytes, data, bytes);
    out->bytes += bytes;
    return (ssize_t)bytes;
}

/* ---- the socket --------------------------------------------------------------------------- */

static void arm_receive(struct nbd_tls *tls)
{
    struct nbd_client *client = tls->client;
    struct io_uring_sqe *sqe;

    if (tls->raw_receiving || tls->ended || tls->raw_error != 0)
        return;
    /* Usually the library has taken all that was there. */
    memmove(tls->in, tls->in + tls->in_start, tls->in_end - tls->in_start);
    tls->in_end -= tls->in_start;
    tls->in_start = 0;
    assert(tls->in_end < IN_BYTES);
    sqe = core_sqe(client->core);
    io_uring_prep_recv(sqe, client->fd, tls->in + tls->in_end, IN_BYTES - tls->in_end, 0);
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &tls->raw_receive);
    tls->raw_receiving = true;
}

static void arm_send(struct nbd_tls *tls)
{
    struct nbd_client *client = tls->client;
    struct io_uring_sqe *sqe;

    if (tls->raw_sending || tls->raw_error != 0)
        return;
    if (tls->sending_sent == tls->sending.bytes) {
        struct cipher_out empty = tls->sending;

        if (tls->out.bytes == 0)
            return;
        empty.bytes = 0;
        tls->sending = tls->out;
        tls->out = empty;
        tls->sending_sent = 0;
    }
    sqe = core_sqe(client->core);
    io_uring_prep_send(sqe, client->fd, tls->sending.data + tls->sending_sent,
                       tls->sending.bytes - tls->sending_sent, MSG_WAITALL | MSG_NOSIGNAL);
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &tls->raw_send);
    tls->raw_sending = true;
}

/* Everything that was encrypted has been sent. */
static bool all_sent(const struct nbd_tls *tls)
{
    return !tls->raw_sending && tls->out.bytes == 0 && tls->sending_sent == tls->sending.bytes;
}

static void raw_received(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_tls *tls = container_of(op, struct nbd_tls, raw_receive);

    (void)cqe_flags;
    tls->raw_receiving = false;
    if (result > 0)
        tls->in_end += (size_t)result;
    else if (result == 0)
        tls->ended = true;
    else if (result != -EINTR && result != -EAGAIN && result != -ECANCELED)
        tls->raw_error = result;
    core_defer(core, &tls->work);
}

static void raw_sent(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_tls *tls = container_of(op, struct nbd_tls, raw_send);

    (void)cqe_flags;
    tls->raw_sending = false;
    if (result > 0)
        tls->sending_sent += (size_t)result;
    else if (result != -EINTR && result != -EAGAIN)
        tls->raw_error = result != 0 ? result : -EPIPE;
    core_defer(core, &tls->work);
}

/* ---- what is asked for -------------------------------------------------------------------- */

static void finish(struct nbd_tls *tls, struct core_op **asked, int32_t result)
{
    struct core_op *op = *asked;

    *asked = NULL;
    op->done(tls->client->core, op, result, 0);
}

static bool wants_more(int error)
{
    return error == GNUTLS_E_AGAIN || error == GNUTLS_E_INTERRUPTED;
}

/* Tells the client why, if it listens: the connection is about to be shut down. */
static void send_alert(struct nbd_tls *tls, int error)
{
    gnutls_alert_send_appropriate(tls->session, error);
    if (!tls->raw_sending && tls->out.bytes > 0)
        send(tls->client->fd, tls->out.data, tls->out.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    tls->out.bytes = 0;
}

static void work_handshake(struct nbd_tls *tls)
{
    int error;

    do
        error = gnutls_handshake(tls->session);
    while (error < 0 && error != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(error));
    if (error < 0 && !wants_more(error)) {
        tls->why = gnutls_strerror(error);
        send_alert(tls, error);
        finish(tls, &tls->handshake_op, -EPROTO);
        return;
    }
    arm_send(tls);
    if (error == GNUTLS_E_SUCCESS)
        finish(tls, &tls->handshake_op, 0);
    else
        arm_receive(tls);
}

static void work_receive(struct nbd_tls *tls)
{
    ssize_t got = 0;

    while (tls->received < tls->receive_bytes) {
        got = gnutls_record_recv(tls->session, tls->receive_data + tls->received,
                                 tls->receive_bytes - tls->received);
        if (got > 0)
            tls->received += (size_t)got;
        else if (!wants_more((int)got) || tls->in_start == tls->in_end)
            break;
    }
    arm_send(tls); /* a key update is answered */
    if (tls->received == tls->receive_bytes || (tls->received > 0 && !tls->receive_all) ||
        (tls->received > 0 && !wants_more((int)got)))
        finish(tls, &tls->receive_op, (int32_t)tls->received);
    else if (got == 0)
        finish(tls, &tls->receive_op, 0);
    else if (wants_more((int)got))
        arm_receive(tls);
    else
        finish(tls, &tls->receive_op,
               got == GNUTLS_E_PREMATURE_TERMINATION ? -ECONNRESET : -EPROTO);
}

/* Encrypts as much as may wait to be sent. */
static int encrypt(struct nbd_tls *tls)
{
    size_t taken = 0;

    gnutls_record_cork(tls->session);
    while (tls->vector_count > 0 && taken < SEND_BYTES) {
        const unsigned char *data = tls->vectors->iov_base;
        size_t left = tls->vectors->iov_len - tls->vector_sent;
        ssize_t took = 0;

        left = left < SEND_BYTES - taken ? left : SEND_BYTES - taken;
        if (left > 0)
            took = gnutls_record_send(tls->session, data + tls->vector_sent, left);
        if (took < 0)
            return -EPROTO;
        taken += (size_t)took;
        tls->sent += (int32_t)took;
        tls->vector_sent += (size_t)took;
        if (tls->vector_sent == tls->vectors->iov_len) {
            tls->vectors++;
            tls->vector_count--;
            tls->vector_sent = 0;
        }
    }
    return gnutls_record_uncork(tls->session, 0) < 0 ? -EPROTO : 0;
}

static void work_send(struct nbd_tls *tls)
{
    int error;

    if (!all_sent(tls)) {
        arm_send(tls);
        return;
    }
    if (tls->vector_count == 0) {
        finish(tls, &tls->send_op, tls->sent);
        return;
    }
    error = encrypt(tls);
    if (error)
        finish(tls, &tls->send_op, error);
    else
        arm_send(tls);
}

/* The connection is lost, or has been given up. */
static void fail_all(struct nbd_tls *tls, int error)
{
    if (tls->handshake_op != NULL) {
        tls->why = strerror(-error);
        finish(tls, &tls->handshake_op, error);
    }
    if (tls->send_op != NULL)
        finish(tls, &tls->send_op, error);
    if (tls->receive_op != NULL)
        finish(tls, &tls->receive_op, error);
}

static void work(struct core *core, struct core_deferred *deferred)
{
    struct nbd_tls *tls = container_of(deferred, struct nbd_tls, work);
    struct nbd_client *client = tls->client;

    if (client->state == NBD_CLIENT_BROKEN)
        fail_all(tls, -ECANCELED);
    else if (tls->raw_error != 0)
        fail_all(tls, tls->raw_error);
    if (tls->handshake_op != NULL)
        work_handshake(tls);
    if (tls->send_op != NULL)
        work_send(tls);
    if (tls->receive_op != NULL && tls->receive_cancelled)
        finish(tls, &tls->receive_op, -ECANCELED);
    else if (tls->receive_op != NULL)
        work_receive(tls);
    if (tls->send_op == NULL && client->state == NBD_CLIENT_DRAIN)
        arm_send(tls);
    if (client->state == NBD_CLIENT_DRAIN || client->state == NBD_CLIENT_BROKEN)
        core_defer(core, &client->settle);
}

void nbd_tls_handshake(struct nbd_tls *tls, const unsigned char *input, size_t bytes,
                       struct core_op *op)
{
    assert(bytes <= IN_BYTES);
    memcpy(tls->in, input, bytes);
    tls->in_end = bytes;
    tls->handshake_op = op;
    core_defer(tls->client->core, &tls->work);
}

void nbd_tls_receive(struct nbd_tls *tls, struct core_op *op, void *data, size_t bytes, bool all)
{
    assert(tls->receive_op == NULL);
    tls->receive_op = op;
    tls->receive_data = data;
    tls->receive_bytes = bytes;
    tls->received = 0;
    tls->receive_all = all;
    core_defer(tls->client->core, &tls->work);
}

void nbd_tls_send(struct nbd_tls *tls, struct core_op *op, const struct iovec *vectors,
                  unsigned count)
{
    assert(tls->send_op == NULL);
    tls->send_op = op;
    tls->vectors = vectors;
    tls->vector_count = count;
    tls->vector_sent = 0;
    tls->sent = 0;
    core_defer(tls->client->core, &tls->work);
}

void nbd_tls_cancel_receive(struct nbd_tls *tls)
{
    tls->receive_cancelled = true;
    if (tls->raw_receiving)
        core_cancel(tls->client->core, &tls->raw_receive);
    core_defer(tls->client->core, &tls->work);
}

/* ---- life --------------------------------------------------------------------------------- */

const char *nbd_tls_why(const struct nbd_tls *tls)
{
    return tls->why;
}

bool nbd_tls_is_busy(const struct nbd_tls *tls)
{
    return tls->raw_receiving || tls->raw_sending || tls->work.queued;
}

void nbd_tls_end(struct nbd_tls *tls)
{
    if (tls->said_goodbye || tls->raw_error != 0)
        return;
    tls->said_goodbye = true;
    gnutls_bye(tls->session, GNUTLS_SHUT_WR);
    arm_send(tls);
}

static bool set_up(struct nbd_tls *tls, struct nbd_credentials *credentials)
{
    gnutls_session_t session;

    if (gnutls_init(&tls->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return false;
    session = tls->session;
    if (gnutls_priority_set(session, credentials->priority) < 0)
        return false;
    if (credentials->certificates != NULL &&
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificates) < 0)
        return false;
    if (credentials->keys != NULL &&
        gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials->keys) < 0)
        return false;
    if (credentials->verify_clients) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    gnutls_transport_set_ptr(session, tls);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_transport_set_push_function(session, push);
    return true;
}

struct nbd_tls *nbd_tls_create(struct nbd_client *client, struct nbd_credentials *credentials)
{
    struct nbd_tls *tls = calloc(1, sizeof(*tls));

    if (tls == NULL)
        return NULL;
    tls->client = client;
    tls->work.run = work;
    tls->raw_receive.done = raw_received;
    tls->raw_send.done = raw_sent;
    if (!set_up(tls, credentials)) {
        nbd_tls_free(tls);
        return NULL;
    }
    return tls;
}

void nbd_tls_free(struct nbd_tls *tls)
{
    if (tls == NULL)
        return;
    assert(!nbd_tls_is_busy(tls));
    if (tls->session != NULL)
        gnutls_deinit(tls->session);
    free(tls->out.data);
    free(tls->sending.data);
    free(tls);
}
