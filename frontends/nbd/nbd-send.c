/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: all that became ready in one turn leave with one sendmsg. */
#include "frontends/nbd/nbd-send.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "frontends/nbd/nbd-body.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-receive.h"
#include "frontends/nbd/nbd-server-private.h"
#include "frontends/nbd/nbd-tls.h"

/* ---- queueing --------------------------------------------------------------------------- */

/* The head of its reply is written. */
static void queue(struct nbd_slot *slot)
{
    struct nbd_client *client = slot->client;

    slot->next = NULL;
    if (client->reply_first == NULL)
        client->reply_first = slot;
    else
        client->reply_last->next = slot;
    client->reply_last = slot;
    core_defer(client->core, &client->settle);
}

void nbd_send_answer(struct nbd_slot *slot, uint32_t error, const char *text)
{
    slot->payload = false;
    slot->head_bytes = nbd_reply_head(slot->head, &slot->wire,
                                      (enum nbd_style)slot->client->rules.style, error, text);
    queue(slot);
}

void nbd_send_body(struct nbd_slot *slot, struct nbd_body *body)
{
    slot->head_bytes = 0;
    slot->body = body;
    slot->body_bytes = body->bytes;
    queue(slot);
}

/* A valid request failed. */
static void send_failure(struct nbd_slot *slot)
{
    enum nbd_style style = (enum nbd_style)slot->client->rules.style;
    uint32_t error = nbd_reply_error(slot->request.error);
    uint64_t offset = slot->request.error_offset;

    /* The document has it for one request only; anything else failed for another reason. */
    if (error == NBD_ENOTSUP && !(slot->wire.flags & NBD_CMD_FLAG_FAST_ZERO))
        error = NBD_EIO;
    nbd_count(slot->client->own, requests_failed);
    request_release(&slot->request);
    if (slot->wire.type == NBD_CMD_FLUSH) {
        nbd_send_answer(slot, error, nbd_reply_text(error));
        return;
    }
    slot->head_bytes =
        nbd_reply_head_at(slot->head, &slot->wire, style, error, nbd_reply_text(error), offset);
    queue(slot);
}

void nbd_send_done(struct request *request)
{
    struct nbd_slot *slot = container_of(request, struct nbd_slot, request);
    struct nbd_client *client = slot->client;
    enum nbd_style style = (enum nbd_style)client->rules.style;

    if (request->error != 0) {
        send_failure(slot);
        return;
    }
    if (slot->wire.type != NBD_CMD_READ) {
        request_release(request);
        nbd_send_answer(slot, NBD_SUCCESS, NULL);
        return;
    }
    slot->payload = true;
    if (style != NBD_STYLE_SIMPLE && !(slot->wire.flags & NBD_CMD_FLAG_DF)) {
        struct nbd_body *body = nbd_body_read(&slot->wire, style, request, client->own->scratch);

        if (body != NULL) {
            nbd_send_body(slot, body);
            return;
        }
    }
    slot->body_bytes = slot->wire.length;
    slot->head_bytes = nbd_reply_head(slot->head, &slot->wire, style, NBD_SUCCESS, NULL);
    queue(slot);
}

/* ---- sending ---------------------------------------------------------------------------- */

static uint64_t reply_bytes(const struct nbd_slot *slot)
{
    return slot->head_bytes + slot->body_bytes;
}

/* Copies vectors, less the first `skip` bytes, as many as there is room for; returns how many. */
static unsigned copy_vectors(struct iovec *to, unsigned max, const struct iovec *from,
                             unsigned count, uint64_t skip)
{
    unsigned copied = 0;

    for (unsigned i = 0; i < count && copied < max; i++) {
        if (skip >= from[i].iov_len) {
            skip -= from[i].iov_len;
            continue;
        }
        to[copied].iov_base = (unsigned char *)from[i].iov_base + skip;
        to[copied].iov_len = from[i].iov_len - skip;
        skip = 0;
        copied++;
    }
    return copied;
}

/* The vectors of one reply, behind its first `skip` bytes.  0: it has more than `max`, and is not
 * the first, so it can wait for the next send. */
static unsigned reply_vectors(struct nbd_client *client, struct nbd_slot *slot, uint64_t skip,
                              struct iovec *vectors, unsigned max)
{
    struct iovec *scratch = client->own->scratch;
    unsigned most = 1, count = 0;

    if (slot->body != NULL)
        most += slot->body->count;
    else if (slot->payload)
        most += REQUEST_VECTORS_MAX(slot->wire.length);
    if (most > max && max < NBD_VECTORS_MAX)
        return 0;
    if (skip < slot->head_bytes) {
        vectors[0].iov_base = slot->head + skip;
        vectors[0].iov_len = slot->head_bytes - skip;
        count = 1;
        skip = 0;
    } else {
        skip -= slot->head_bytes;
    }
    if (slot->body != NULL)
        return count + copy_vectors(vectors + count, max - count, slot->body->vectors,
                                    slot->body->count, skip);
    if (!slot->payload)
        return count;
    if (skip == 0 && most <= max)
        return count + request_payload(&slot->request, vectors + count, max - count);
    /* In pieces: from where the last one ended, as far as the vectors go. */
    most = request_payload(&slot->request, scratch, most - 1);
    return count + copy_vectors(vectors + count, max - count, scratch, most, skip);
}

void nbd_send_flush(struct nbd_client *client)
{
    uint64_t skip = client->reply_sent;
    struct io_uring_sqe *sqe;
    unsigned count = 0;

    if (client->sending || client->reply_first == NULL)
        return;
    for (struct nbd_slot *slot = client->reply_first; slot != NULL; slot = slot->next) {
        unsigned added =
            reply_vectors(client, slot, skip, client->vectors + count, NBD_VECTORS_MAX - count);

        if (added == 0)
            break;
        count += added;
        skip = 0;
    }
    client->sending = true;
    client->send_ns = core_now(client->core);
    if (client->tls != NULL) {
        nbd_tls_send(client->tls, &client->send, client->vectors, count);
        return;
    }
    client->header.msg_iov = client->vectors;
    client->header.msg_iovlen = count;
    sqe = core_sqe(client->core);
    io_uring_prep_sendmsg(sqe, client->fd, &client->header, MSG_WAITALL | MSG_NOSIGNAL);
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &client->send);
}

void nbd_send_drop(struct nbd_client *client)
{
    assert(!client->sending);
    while (client->reply_first != NULL) {
        struct nbd_slot *slot = client->reply_first;

        client->reply_first = slot->next;
        nbd_slot_give(slot);
    }
    client->reply_sent = 0;
}

/* The socket took so many bytes of the queue. */
static void advance(struct nbd_client *client, uint64_t bytes)
{
    client->reply_sent += bytes;
    while (client->reply_first != NULL) {
        struct nbd_slot *slot = client->reply_first;
        uint64_t whole = reply_bytes(slot);

        if (client->reply_sent < whole)
            return;
        client->reply_sent -= whole;
        client->reply_first = slot->next;
        if (slot->payload)
            nbd_count_add(client->own, bytes_read, slot->wire.length);
        nbd_slot_give(slot);
    }
    assert(client->reply_sent == 0);
}

static void sent(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_client *client = container_of(op, struct nbd_client, send);

    (void)cqe_flags;
    client->sending = false;
    nbd_count(client->own, sends);
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        if (client->state != NBD_CLIENT_BROKEN)
            log_debug("an NBD client does not take its replies", LOG_ERRNO(result));
        nbd_client_break(client);
        return;
    }
    if (result > 0)
        advance(client, (uint64_t)result);
    if (client->reply_first != NULL || client->state != NBD_CLIENT_TRANSMIT)
        core_defer(core, &client->settle);
    nbd_receive_resume(client);
}

void nbd_send_start(struct nbd_client *client)
{
    client->send.done = sent;
}
