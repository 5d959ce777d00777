/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to BLOCK_STATUS. */
#include "frontends/nbd/nbd-status.h"

#include <stdlib.h>

#include "common/endian.h"
#include "common/list.h"
#include "frontends/nbd/nbd-body.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-contexts.h"
#include "frontends/nbd/nbd-reply.h"
#include "frontends/nbd/nbd-send.h"
#include "io/extents.h"

struct nbd_status {
    struct nbd_slot *slot;
    struct extents extents;
};

/* A chunk of the answer: the context, and its extents. */
static void add_chunk(struct nbd_body *body, const struct nbd_slot *slot, enum nbd_context context,
                      const struct extent_list *list, bool last)
{
    enum nbd_style style = (enum nbd_style)slot->client->rules.style;
    bool is_wide = style == NBD_STYLE_EXTENDED;
    unsigned char *head = body->heads + body->heads_bytes;
    uint64_t bytes = is_wide ? 8 + 16 * (uint64_t)list->count : 4 + 8 * (uint64_t)list->count;
    unsigned char *at = head + nbd_reply_chunk(head, &slot->wire, style,
                                               is_wide ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT
                                                       : NBD_REPLY_TYPE_BLOCK_STATUS,
                                               bytes);

    if (last)
        nbd_reply_done(head);
    be32_store(at, context);
    at += 4;
    if (is_wide) {
        be32_store(at, list->count);
        at += 4;
    }
    for (unsigned i = 0; i < list->count; i++) {
        if (is_wide) {
            be64_store(at, list->extents[i].bytes);
            be32_store(at + 8, 0);
            be32_store(at + 12, list->extents[i].flags);
            at += 16;
        } else { /* a request of 32 bits has no longer extents */
            be32_store(at, (uint32_t)list->extents[i].bytes);
            be32_store(at + 4, list->extents[i].flags);
            at += 8;
        }
    }
    body->heads_bytes = (uint32_t)(at - body->heads);
}

static struct nbd_body *make_body(const struct nbd_slot *slot, const struct extents *extents)
{
    unsigned count = extents->allocation.count + extents->state.count;
    struct nbd_body *body = nbd_body_make(1, 2 * (NBD_EXTENDED_REPLY_BYTES + 8) + 16 * count);

    if (body == NULL)
        return NULL;
    if (extents->wants_allocation)
        add_chunk(body, slot, NBD_CONTEXT_ALLOCATION, &extents->allocation, !extents->wants_state);
    if (extents->wants_state)
        add_chunk(body, slot, NBD_CONTEXT_STATE, &extents->state, true);
    nbd_body_add(body, body->heads, body->heads_bytes);
    return body;
}

static void gathered(struct extents *extents)
{
    struct nbd_status *status = container_of(extents, struct nbd_status, extents);
    struct nbd_body *body = make_body(status->slot, extents);

    if (body != NULL)
        nbd_send_body(status->slot, body);
    else
        nbd_send_answer(status->slot, NBD_ENOMEM, nbd_reply_text(NBD_ENOMEM));
    free(status);
}

void nbd_status_start(struct nbd_slot *slot)
{
    struct nbd_status *status = malloc(sizeof(*status));

    if (status == NULL) {
        nbd_send_answer(slot, NBD_ENOMEM, nbd_reply_text(NBD_ENOMEM));
        return;
    }
    status->slot = slot;
    status->extents.volume = slot->client->volume;
    status->extents.core = slot->client->core;
    status->extents.offset = slot->wire.offset;
    status->extents.length = slot->wire.length;
    status->extents.wants_allocation = slot->wire.contexts & NBD_CONTEXT_ALLOCATION;
    status->extents.wants_state = slot->wire.contexts & NBD_CONTEXT_STATE;
    status->extents.one = slot->wire.flags & NBD_CMD_FLAG_REQ_ONE;
    status->extents.done = gathered;
    extents_start(&status->extents);
}
