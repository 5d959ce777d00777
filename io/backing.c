/* SPDX-License-Identifier: Apache-2.0 */
/* Backing stores: which kind a specification names, and what the kinds share. */
#include "io/backing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "io/backing-identity.h"
#include "io/backing-private.h"

const unsigned char backing_zeros[BACKING_ZEROS_BYTES] __attribute__((aligned(4096)));

static bool is_uri(const char *spec)
{
    static const char *const schemes[] = {"nbd://",       "nbds://",      "nbd+unix://",
                                          "nbds+unix://", "nbd+vsock://", "nbds+vsock://"};

    for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(spec, schemes[i], strlen(schemes[i])) == 0)
            return true;
    }
    return false;
}

int backing_open(struct backing **backing, const char *spec, bool read_only, uint64_t timeout_ns,
                 char *why, size_t why_bytes)
{
    int error;

    if (timeout_ns == 0)
        timeout_ns = BACKING_TIMEOUT_NS_DEFAULT;
    *backing = NULL;
    if (is_uri(spec))
        error = backing_nbd_open(backing, spec, read_only, timeout_ns, why, why_bytes);
    else
        error = backing_file_open(backing, spec, read_only, why, why_bytes);
    if (error)
        return error;
    (*backing)->timeout_ns = timeout_ns;
    (*backing)->spec = strdup(spec);
    if ((*backing)->spec == NULL) {
        backing_close(*backing);
        *backing = NULL;
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    backing_identify((*backing)->info.identity, spec, (*backing)->fd);
    return 0;
}

void backing_close(struct backing *backing)
{
    if (backing == NULL)
        return;
    free(backing->spec);
    backing->ops->close(backing);
}

const struct backing_info *backing_info(const struct backing *backing)
{
    return &backing->info;
}

void backing_set_owner(struct backing *backing, unsigned core)
{
    backing->owner = core;
}

void backing_submit(struct core *core, struct backing *backing, struct backing_io *io)
{
    io->core = core;
    io->backing = backing;
    backing->ops->submit(core, backing, io);
}

void backing_state(struct backing *backing, char *text, size_t bytes)
{
    backing->ops->state(backing, text, bytes);
}

bool extent_list_add(struct extent_list *list, uint64_t bytes, uint32_t flags)
{
    if (bytes == 0)
        return true;
    if (!list->full && list->count > 0 && list->extents[list->count - 1].flags == flags) {
        list->extents[list->count - 1].bytes += bytes;
    } else {
        list->full |= list->count == list->max;
        if (list->full)
            return false;
        list->extents[list->count++] = (struct extent){bytes, flags};
    }
    list->bytes += bytes;
    return true;
}

void backing_io_cut(const struct backing *backing, struct backing_io *io)
{
    uint64_t bytes = backing->info.bytes;
    uint64_t left = io->offset < bytes ? bytes - io->offset : 0;

    io->end = io->length < left ? io->length : left;
    io->progress = 0;
    io->stage = 0;
    io->tries = 0;
}

void backing_io_fill(struct backing_io *io)
{
    if (io->end < io->length)
        memset(io->data + io->end, 0, io->length - io->end);
}
