/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of backing stores share. */
#ifndef IO_BACKING_PRIVATE_H
#define IO_BACKING_PRIVATE_H

#include <stdatomic.h>

#include "io/backing.h"

struct backing_ops {
    void (*submit)(struct core *core, struct backing *backing,
                   struct backing_io *io);                            /* REQUIRED */
    void (*close)(struct backing *backing);                           /* REQUIRED */
    void (*state)(struct backing *backing, char *text, size_t bytes); /* REQUIRED */
};

/* Each kind embeds it as its first member. */
struct backing {
    const struct backing_ops *ops;
    struct backing_info info;
    uint64_t timeout_ns;
    unsigned owner;
    int fd; /* of the file or block device; -1: a server */
    char *spec;
};

int backing_file_open(struct backing **backing, const char *path, bool read_only, char *why,
                      size_t why_bytes);
int backing_nbd_open(struct backing **backing, const char *uri, bool read_only, uint64_t timeout_ns,
                     char *why, size_t why_bytes);

/* A page of zeros that is large enough to be written in long strides; never changed. */
#define BACKING_ZEROS_BYTES (256u << 10)
extern const unsigned char backing_zeros[BACKING_ZEROS_BYTES];

/* Sets io->end: what of [offset, offset + length) lies within the backing store. */
void backing_io_cut(const struct backing *backing, struct backing_io *io);

/* Fills what a read could not: data past the end reads as zeros. */
void backing_io_fill(struct backing_io *io);

#endif
