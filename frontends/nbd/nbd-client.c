/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection: its states, from accept to close. */
#include "frontends/nbd/nbd-client.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "frontends/nbd/nbd-credentials.h"
#include "frontends/nbd/nbd-greeter.h"
#include "frontends/nbd/nbd-handshake.h"
#include "frontends/nbd/nbd-receive.h"
#include "frontends/nbd/nbd-send.h"
#include "frontends/nbd/nbd-server-private.h"
#include "frontends/nbd/nbd-tls.h"
#include "frontends/nbd/nbd-watch.h"
#include "io/volume.h"

/* At most so often on each core. */
#define COMPLAINT_INTERVAL_NS UINT64_C(1000000000)

void nbd_client_complain(const struct nbd_client *client, const char *message, const char *reason)
{
    struct nbd_core *own = client->own;
    uint64_t now_ns = core_now(client->core);

    if (now_ns < own->complain_ns) {
        own->complaints_kept_back++;
        log_debug(message, LOG_STR("reason", reason));
        return;
    }
    log_info(message, LOG_STR("reason", reason), LOG_UINT("kept_back", own->complaints_kept_back));
    own->complain_ns = now_ns + COMPLAINT_INTERVAL_NS;
    own->complaints_kept_back = 0;
}

/* ---- the end ---------------------------------------------------------------------------- */

static void close_client(struct nbd_client *client)
{
    struct nbd_server *server = client->own->server;

    nbd_greeter_end(client);
    nbd_tls_free(client->tls);
    nbd_credentials_release(client->credentials);
    list_remove(&client->link);
    nbd_watch_end(client->own, client->core);
    core_file_give(client->core, client->file);
    /* Up to Linux 6.12 the ring keeps the file open while another client's older request waits. */
    shutdown(client->fd, SHUT_RDWR);
    close(client->fd);
    if (client->volume != NULL)
        volume_leave(client->volume);
    free(client->slots);
    free(client->input);
    free(client->vectors);
    free(client);
    if (atomic_fetch_sub(&server->connections, 1) == 1 && server->single_gone != NULL)
        server->single_gone(server->opaque);
    nbd_server_drop(server);
}

/* Runs at the end of a turn in which something happened to the connection. */
static void settle(struct core *core, struct core_deferred *deferred)
{
    struct nbd_client *client = container_of(deferred, struct nbd_client, settle);

    (void)core;
    switch (client->state) {
    case NBD_CLIENT_HANDSHAKE: return;
    case NBD_CLIENT_TRANSMIT: nbd_send_flush(client); return;
    case NBD_CLIENT_DRAIN:
        nbd_receive_end(client);
        nbd_send_flush(client);
        break;
    case NBD_CLIENT_BROKEN:
        nbd_receive_end(client);
        if (!client->sending)
            nbd_send_drop(client);
        break;
    }
    /* Of these, each that ends queues us again. */
    if (client->receiving || client->sending || client->message_sent || client->in_flight > 0)
        return;
    assert(!client->waiting && client->filling == NULL && client->reply_first == NULL);
    if (client->tls != NULL) {
        if (client->state == NBD_CLIENT_DRAIN)
            nbd_tls_end(client->tls);
        if (nbd_tls_is_busy(client->tls))
            return;
    }
    close_client(client);
}

static void cancel_receive(struct nbd_client *client)
{
    if (client->receiving && client->tls != NULL)
        nbd_tls_cancel_receive(client->tls);
    else if (client->receiving)
        core_cancel(client->core, &client->receive);
}

void nbd_client_drain(struct nbd_client *client)
{
    if (client->state == NBD_CLIENT_DRAIN || client->state == NBD_CLIENT_BROKEN)
        return;
    client->state = NBD_CLIENT_DRAIN;
    if (!client->sending)
        client->send_ns = core_now(client->core); /* the goodbye has all its time */
    cancel_receive(client);
    core_defer(client->core, &client->settle);
}

void nbd_client_break(struct nbd_client *client)
{
    if (client->state != NBD_CLIENT_BROKEN) {
        client->state = NBD_CLIENT_BROKEN;
        core_timer_disarm(client->core, &client->timeout);
        /* Ends the receive and the send that are under way. */
        shutdown(client->fd, SHUT_RDWR);
    }
    core_defer(client->core, &client->settle);
}

void nbd_client_stop(struct nbd_client *client)
{
    if (client->state == NBD_CLIENT_TRANSMIT) {
        client->stopping = true;
        client->refusing = client->stalled;
        cancel_receive(client); /* nbd-receive.c drains when it finds no more requests */
    } else if (client->state == NBD_CLIENT_HANDSHAKE) {
        nbd_greeter_stop(client);
    }
}

/* ---- the beginning ---------------------------------------------------------------------- */

void nbd_client_transmit(struct nbd_client *client, const struct nbd_handshake *handshake,
                         const unsigned char *input, size_t bytes)
{
    struct volume *volume = handshake->volume;

    assert(bytes <= NBD_INPUT_BYTES);
    if (!volume_enter(volume)) {
        nbd_client_break(client);
        return;
    }
    client->volume = volume;
    client->rules.bytes = volume->bytes;
    client->rules.read_only = volume->read_only;
    client->rules.style = (uint8_t)nbd_handshake_style(handshake);
    client->rules.contexts = (uint8_t)nbd_handshake_contexts(handshake, volume);
    client->header_bytes = handshake->extended ? NBD_EXTENDED_REQUEST_BYTES : NBD_REQUEST_BYTES;
    client->slots = calloc(client->limits.requests_max, sizeof(*client->slots));
    client->input = malloc(NBD_INPUT_BYTES);
    client->vectors = malloc(NBD_VECTORS_MAX * sizeof(*client->vectors));
    if (client->slots == NULL || client->input == NULL || client->vectors == NULL) {
        log_warning("no memory to serve another NBD client", LOG_STR("volume", volume->name));
        nbd_client_break(client);
        return;
    }
    memcpy(client->input, input, bytes);
    client->input_end = (uint32_t)bytes;
    nbd_greeter_end(client);
    client->state = NBD_CLIENT_TRANSMIT;
    log_debug("NBD client connected", LOG_STR("volume", volume->name),
              LOG_UINT("core", core_index(client->core)));
    nbd_watch_start(client);
    nbd_send_start(client);
    nbd_receive_start(client);
}

/* On the connection's own core. */
static void begin(struct core *core, struct core_message *message)
{
    struct nbd_client *client = container_of(message, struct nbd_client, message);
    int one = 1;

    list_add_tail(&client->own->clients, &client->link);
    nbd_watch_start(client);
    if (client->own->stopping) {
        nbd_client_break(client);
        return;
    }
    /* Both fail on Unix sockets, which have no use for them. */
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(client->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    client->file = core_file_take(core, client->fd);
    if (nbd_greeter_start(client) != 0) {
        log_warning("no memory for another NBD client");
        nbd_client_break(client);
    }
}

int nbd_client_open(struct nbd_core *own, struct core *core, int fd)
{
    struct nbd_client *client = calloc(1, sizeof(*client));

    if (client == NULL)
        return -ENOMEM;
    client->state = NBD_CLIENT_HANDSHAKE;
    client->fd = fd;
    client->file = -1;
    client->core = core;
    client->own = own;
    client->limits = own->server->limits;
    client->settle.run = settle;
    client->message.handle = begin;
    list_init(&client->link);
    nbd_server_hold(own->server);
    atomic_fetch_add(&own->server->connections, 1);
    core_message_send(core, &client->message);
    return 0;
}
