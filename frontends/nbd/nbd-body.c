/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of replies in several chunks. */
#include "frontends/nbd/nbd-body.h"

#include <assert.h>
#include <stdlib.h>

#include "common/endian.h"
#include "frontends/nbd/nbd-reply.h"
#include "frontends/nbd/nbd-request.h"
#include "io/request.h"

/* With more runs than that the headers cost more than the zeros. */
#define RUNS_MAX         128u

#define CHUNK_HEAD_BYTES (NBD_EXTENDED_REPLY_BYTES + 12)

struct nbd_body *nbd_body_make(unsigned vectors, uint32_t heads_bytes)
{
    struct nbd_body *body = calloc(1, sizeof(*body));

    if (body == NULL)
        return NULL;
    body->vectors = calloc(vectors, sizeof(*body->vectors));
    body->heads = malloc(heads_bytes);
    if (body->vectors == NULL || body->heads == NULL) {
        nbd_body_free(body);
        return NULL;
    }
    return body;
}

void nbd_body_free(struct nbd_body *body)
{
    free(body->vectors);
    free(body->heads);
    free(body);
}

void nbd_body_add(struct nbd_body *body, void *data, size_t bytes)
{
    body->vectors[body->count++] = (struct iovec){data, bytes};
    body->bytes += bytes;
}

/* The vectors of the payload, of which bytes are taken from the front. */
struct source {
    struct iovec *next;
    unsigned left;
};

/* Moves `bytes` from the source to the body, or drops them (body NULL). */
static void take(struct source *source, struct nbd_body *body, uint64_t bytes)
{
    while (bytes > 0) {
        struct iovec *from = source->next;
        size_t here = from->iov_len < bytes ? from->iov_len : bytes;

        assert(source->left > 0);
        if (body != NULL)
            nbd_body_add(body, from->iov_base, here);
        from->iov_base = (unsigned char *)from->iov_base + here;
        from->iov_len -= here;
        bytes -= here;
        if (from->iov_len == 0) {
            source->next++;
            source->left--;
        }
    }
}

struct nbd_body *nbd_body_read(const struct nbd_request *wire, enum nbd_style style,
                               struct request *request, struct iovec *scratch)
{
    struct request_run runs[RUNS_MAX];
    unsigned count = request_runs(request, runs, RUNS_MAX);
    uint64_t offset = wire->offset;
    struct source source = {.next = scratch};
    struct nbd_body *body;

    if (count == 0)
        return NULL;
    source.left = request_payload(request, scratch, REQUEST_VECTORS_MAX(wire->length));
    body = nbd_body_make(source.left + 2 * count, count * CHUNK_HEAD_BYTES);
    if (body == NULL)
        return NULL;
    for (unsigned i = 0; i < count; i++) {
        unsigned char *head = body->heads + body->heads_bytes;
        uint64_t bytes = runs[i].bytes;
        unsigned head_bytes = runs[i].zeros
                                  ? nbd_reply_hole(head, wire, style, offset, (uint32_t)bytes)
                                  : nbd_reply_data(head, wire, style, offset, bytes);

        if (i + 1 == count)
            nbd_reply_done(head);
        body->heads_bytes += head_bytes;
        nbd_body_add(body, head, head_bytes);
        take(&source, runs[i].zeros ? NULL : body, bytes);
        offset += bytes;
    }
    return body;
}
