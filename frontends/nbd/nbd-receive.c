/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: received in bulk, checked, given to the engine.
 *
 * One receive brings as many headers and small payloads as have arrived; these payloads are copied
 * to their buffers, which costs less than a receive for each.  The part of a payload that has not
 * arrived yet is received where it belongs.  Behind a large write only the next header is asked
 * for, so that nothing of the next large payload has to be copied.
 */
#include "frontends/nbd/nbd-receive.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-send.h"
#include "frontends/nbd/nbd-server-private.h"
#include "frontends/nbd/nbd-status.h"
#include "frontends/nbd/nbd-tls.h"
#include "io/volume.h"

/* Requests parsed before other connections get their turn. */
#define PARSED_PER_TURN 32u

/* When the server stops: receives of what has arrived, before a client is cut off. */
#define LAST_RECEIVES_MAX 16u

/* Copying a longer payload costs more than a receive of its own. */
#define COPIED_BYTES_MAX (16u << 10)

/* ---- operations ------------------------------------------------------------------------- */

/* Makes room behind what is not parsed yet; returns how many bytes to ask for there. */
static uint32_t make_room(struct nbd_client *client)
{
    uint32_t left = client->input_end - client->input_start;
    uint32_t most = client->after_large_write && client->skip_bytes == 0 ? client->header_bytes
                                                                         : NBD_INPUT_BYTES;

    if (left > 0)
        memmove(client->input, client->input + client->input_start, left);
    client->input_start = 0;
    client->input_end = left;
    client->input_asked = most - left;
    return most - left;
}

static void receive(struct nbd_client *client)
{
    struct nbd_slot *filling = client->filling;
    struct io_uring_sqe *sqe;
    uint32_t bytes;
    unsigned char *place;

    if (filling != NULL) {
        place = filling->data + filling->filled;
        bytes = (uint32_t)filling->wire.length - filling->filled;
    } else {
        bytes = make_room(client);
        place = client->input + client->input_end;
    }
    client->receiving = true;
    client->receive_ns = core_now(client->core);
    if (client->tls != NULL) {
        nbd_tls_receive(client->tls, &client->receive, place, bytes, filling != NULL);
        return;
    }
    client->last_receives += client->stopping && client->last_receives < LAST_RECEIVES_MAX ? 1 : 0;
    sqe = core_sqe(client->core);
    io_uring_prep_recv(sqe, client->fd, place, bytes,
                       filling != NULL    ? MSG_WAITALL
                       : client->stopping ? MSG_DONTWAIT
                                          : 0);
    /* Usually all that had arrived was taken, and trying first would be in vain. */
    if (filling == NULL && !client->input_was_full && !client->stopping)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    core_sqe_file(client->core, sqe, client->file);
    core_sqe_to(sqe, &client->receive);
}

static void protocol_error(struct nbd_client *client, const char *reason)
{
    nbd_count(client->own, protocol_errors);
    nbd_client_complain(client, "dropped an NBD client", reason);
    nbd_client_break(client);
}

/* ---- requests --------------------------------------------------------------------------- */

static const struct {
    enum request_op op;
    enum nbd_counter counter;
} commands[] = {
    [NBD_CMD_READ] = {REQUEST_READ, NBD_COUNTER_requests_read},
    [NBD_CMD_WRITE] = {REQUEST_WRITE, NBD_COUNTER_requests_write},
    [NBD_CMD_FLUSH] = {REQUEST_FLUSH, NBD_COUNTER_requests_flush},
    [NBD_CMD_TRIM] = {REQUEST_TRIM, NBD_COUNTER_requests_trim},
    [NBD_CMD_CACHE] = {REQUEST_CACHE, NBD_COUNTER_requests_cache},
    [NBD_CMD_WRITE_ZEROES] = {REQUEST_ZERO, NBD_COUNTER_requests_zero},
    [NBD_CMD_BLOCK_STATUS] = {REQUEST_READ, NBD_COUNTER_requests_status}, /* nbd-status.c */
};

static uint8_t request_flags(uint16_t wire)
{
    return (uint8_t)((wire & NBD_CMD_FLAG_FUA ? REQUEST_FUA : 0) |
                     (wire & NBD_CMD_FLAG_NO_HOLE ? REQUEST_NO_HOLE : 0) |
                     (wire & NBD_CMD_FLAG_FAST_ZERO ? REQUEST_FAST : 0));
}

static void buffer_ready(struct core *core, struct core_buffer_waiter *waiter);

/* Gets memory for the payload of `filling` and moves there what has arrived of it.  False: there is
 * no memory now; buffer_ready will go on. */
static bool place_payload(struct nbd_client *client)
{
    struct nbd_slot *slot = client->filling;
    uint32_t here = client->input_end - client->input_start;

    slot->data = request_buffer(&slot->request);
    if (slot->data == NULL) {
        client->waiting = true;
        client->waiter.ready = buffer_ready;
        core_buffer_wait(client->core, &client->waiter);
        return false;
    }
    if (here > slot->wire.length)
        here = (uint32_t)slot->wire.length;
    memcpy(slot->data, client->input + client->input_start, here);
    client->input_start += here;
    slot->filled = here;
    return true;
}

/* The payload of `filling`, if it is complete, goes to the engine.  False: more must arrive. */
static bool submit_payload(struct nbd_client *client)
{
    struct nbd_slot *slot = client->filling;

    if (slot->filled < slot->wire.length)
        return false;
    client->filling = NULL;
    nbd_count_add(client->own, bytes_written, slot->wire.length);
    request_submit(&slot->request);
    return true;
}

/* A request whose header was parsed, and for which there is room. */
static void take(struct nbd_client *client, const struct nbd_request *wire)
{
    struct nbd_refusal refusal = nbd_request_check(wire, &client->rules);
    struct nbd_slot *slot;
    struct request *request;

    if (wire->type == NBD_CMD_DISC) {
        nbd_client_drain(client);
        return;
    }
    if (client->refusing)
        refusal = (struct nbd_refusal){NBD_ESHUTDOWN, nbd_reply_text(NBD_ESHUTDOWN)};
    slot = nbd_slot_take(client, wire);
    client->after_large_write = nbd_request_payload_bytes(wire, &client->rules) > COPIED_BYTES_MAX;
    if (refusal.error != NBD_SUCCESS) {
        nbd_count(client->own, requests_refused);
        client->skip_bytes = nbd_request_payload_bytes(wire, &client->rules);
        nbd_send_answer(slot, refusal.error, refusal.text);
        return;
    }
    nbd_count_many(client->own, commands[wire->type].counter, 1);
    if (wire->type == NBD_CMD_BLOCK_STATUS) {
        nbd_status_start(slot);
        return;
    }
    if (wire->length == 0 && wire->type != NBD_CMD_FLUSH) {
        nbd_send_answer(slot, NBD_SUCCESS, NULL);
        return;
    }
    request = &slot->request;
    request->op = (uint8_t)commands[wire->type].op;
    request->flags = request_flags(wire->flags);
    request->offset = wire->offset;
    request->length = wire->length;
    if (wire->type == NBD_CMD_WRITE)
        client->filling = slot;
    else
        request_submit(request);
}

/* A BLOCK_STATUS says which contexts it wants: those that its payload names, or all that were
 * selected.  False: the payload is not here yet. */
static bool take_contexts(struct nbd_client *client, struct nbd_request *wire)
{
    uint32_t bytes = client->header_bytes + (uint32_t)wire->length;

    wire->contexts = client->rules.contexts;
    if (!nbd_request_status_selects(wire, &client->rules))
        return true;
    if (client->input_end - client->input_start < bytes) {
        client->after_large_write = false; /* more than a header is to be received */
        return false;
    }
    if (nbd_request_status_payload(wire, &client->rules,
                                   client->input + client->input_start + client->header_bytes))
        client->input_start += bytes - client->header_bytes;
    return true;
}

/* Takes one request, or a part of a payload, out of the input.  False: it needs more input, or must
 * wait for something else. */
static bool parse_one(struct nbd_client *client, bool *blocked)
{
    uint32_t here = client->input_end - client->input_start;
    struct nbd_request wire;

    if (client->filling != NULL) {
        if (client->filling->data == NULL && !place_payload(client)) {
            *blocked = true;
            return false;
        }
        return submit_payload(client);
    }
    if (client->skip_bytes > 0) {
        if (here > client->skip_bytes)
            here = (uint32_t)client->skip_bytes;
        client->input_start += here;
        client->skip_bytes -= here;
        return client->skip_bytes == 0;
    }
    if (here < client->header_bytes)
        return false;
    if (!(client->rules.style == NBD_STYLE_EXTENDED
              ? nbd_request_parse_extended
              : nbd_request_parse)(client->input + client->input_start, &wire)) {
        protocol_error(client, "it sent something that is not a request");
        return false;
    }
    if (nbd_request_payload_bytes(&wire, &client->rules) > NBD_PAYLOAD_BYTES_MAX) {
        protocol_error(client, "it wants to write too much at once");
        return false;
    }
    if (!nbd_slot_fits(client, &wire)) {
        client->stalled = *blocked = true;
        client->refusing = client->stopping;
        return false;
    }
    if (wire.type == NBD_CMD_BLOCK_STATUS && !take_contexts(client, &wire))
        return false;
    client->input_start += client->header_bytes;
    take(client, &wire);
    return true;
}

/* When the server stops, what has arrived is carried out, and nothing is waited for.  A client that never
 * pauses is cut off, and may send again what was not answered.  From a request on that would have to
 * wait for room all are refused, which is quick, and is done until there are no more. */
static bool has_ended(const struct nbd_client *client)
{
    return client->stopping && (client->filling != NULL || client->tls != NULL ||
                                (client->last_receives == LAST_RECEIVES_MAX && !client->refusing));
}

/* Parses what is here, then receives more. */
static void parse(struct nbd_client *client)
{
    bool blocked = false;

    for (unsigned parsed = 0; parsed < PARSED_PER_TURN; parsed++) {
        if (client->state != NBD_CLIENT_TRANSMIT)
            return;
        if (!parse_one(client, &blocked)) {
            if (blocked || client->state != NBD_CLIENT_TRANSMIT)
                return;
            if (has_ended(client))
                nbd_client_drain(client);
            else
                receive(client);
            return;
        }
    }
    /* Others first.  The message comes in the next turn. */
    client->message_sent = true;
    core_message_send(client->core, &client->message);
}

/* ---- events ----------------------------------------------------------------------------- */

static void go_on(struct core *core, struct core_message *message)
{
    struct nbd_client *client = container_of(message, struct nbd_client, message);

    client->message_sent = false;
    if (client->state == NBD_CLIENT_TRANSMIT)
        parse(client);
    else
        core_defer(core, &client->settle);
}

static void buffer_ready(struct core *core, struct core_buffer_waiter *waiter)
{
    struct nbd_client *client = container_of(waiter, struct nbd_client, waiter);

    client->waiting = false;
    if (client->state == NBD_CLIENT_TRANSMIT)
        parse(client);
    else
        core_defer(core, &client->settle);
}

static void received(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_client *client = container_of(op, struct nbd_client, receive);

    (void)cqe_flags;
    client->receiving = false;
    nbd_count(client->own, receives);
    if (client->state != NBD_CLIENT_TRANSMIT) {
        core_defer(core, &client->settle);
    } else if (result > 0) {
        if (client->filling != NULL) {
            client->filling->filled += (uint32_t)result;
        } else {
            client->input_end += (uint32_t)result;
            client->input_was_full = (uint32_t)result == client->input_asked;
        }
        parse(client);
    } else if (result == -ECANCELED && client->stopping) {
        parse(client);
    } else if (result == -EAGAIN && client->stopping) {
        nbd_client_drain(client);
    } else if (result == -EINTR || result == -EAGAIN) {
        receive(client);
    } else if (result == 0) {
        nbd_client_drain(client); /* it may still wait for replies */
    } else {
        log_debug("lost an NBD client", LOG_ERRNO(result));
        nbd_client_break(client);
    }
}

void nbd_receive_start(struct nbd_client *client)
{
    client->receive.done = received;
    client->message.handle = go_on;
    parse(client);
}

void nbd_receive_resume(struct nbd_client *client)
{
    if (!client->stalled || client->state != NBD_CLIENT_TRANSMIT)
        return;
    client->stalled = false;
    parse(client);
}

void nbd_receive_end(struct nbd_client *client)
{
    struct nbd_slot *slot = client->filling;

    if (client->receiving || slot == NULL)
        return;
    if (client->waiting) {
        core_buffer_wait_cancel(client->core, &client->waiter);
        client->waiting = false;
    }
    if (slot->data != NULL)
        request_release(&slot->request);
    client->filling = NULL;
    nbd_slot_give(slot);
}
