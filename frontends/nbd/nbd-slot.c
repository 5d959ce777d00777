/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed pool of requests of a connection. */
#include "frontends/nbd/nbd-slot.h"

#include <assert.h>
#include <stddef.h>

#include "frontends/nbd/nbd-body.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-protocol.h"
#include "frontends/nbd/nbd-send.h"
#include "frontends/nbd/nbd-server-private.h"

/* What it takes to answer a BLOCK_STATUS, roughly. */
#define STATUS_BYTES (64u << 10)

/* Bytes of payload in either direction, which the request holds memory for: none for one that is
 * too long and only to be refused. */
static uint64_t payload_bytes(const struct nbd_request *wire)
{
    bool payload = wire->type == NBD_CMD_READ || wire->type == NBD_CMD_WRITE;

    if (wire->type == NBD_CMD_BLOCK_STATUS)
        return STATUS_BYTES;
    return payload && wire->length <= REQUEST_BYTES_MAX ? wire->length : 0;
}

bool nbd_slot_fits(const struct nbd_client *client, const struct nbd_request *wire)
{
    const struct nbd_limits *limits = &client->limits;

    if (client->in_flight == limits->requests_max)
        return false;
    /* Alone, any request is let in. */
    return client->in_flight == 0 ||
           client->bytes_in_flight + payload_bytes(wire) <= limits->bytes_max;
}

struct nbd_slot *nbd_slot_take(struct nbd_client *client, const struct nbd_request *wire)
{
    struct nbd_slot *slot = client->slots_free;

    if (slot != NULL) {
        client->slots_free = slot->next;
    } else {
        assert(client->slots_used < client->limits.requests_max);
        slot = &client->slots[client->slots_used++];
        slot->client = client;
        slot->request.done = nbd_send_done;
        slot->request.core = client->core;
        slot->request.volume = client->volume;
    }
    client->in_flight++;
    client->bytes_in_flight += payload_bytes(wire);
    nbd_count(client->own, requests_in_flight);
    nbd_count_add(client->own, bytes_in_flight, payload_bytes(wire));
    slot->wire = *wire;
    slot->data = NULL;
    slot->filled = 0;
    slot->payload = false;
    slot->body_bytes = 0;
    slot->body = NULL;
    return slot;
}

void nbd_slot_give(struct nbd_slot *slot)
{
    struct nbd_client *client = slot->client;

    assert(client->in_flight > 0);
    if (slot->payload)
        request_release(&slot->request);
    if (slot->body != NULL)
        nbd_body_free(slot->body);
    client->in_flight--;
    client->bytes_in_flight -= payload_bytes(&slot->wire);
    nbd_count_add(client->own, requests_in_flight, UINT64_MAX); /* one less */
    nbd_count_add(client->own, bytes_in_flight, -payload_bytes(&slot->wire));
    slot->next = client->slots_free;
    client->slots_free = slot;
}
