/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the state directory says of a volume: one file for each, docs/attachment.md.  Blocking: not
 * for cores.
 */
#ifndef IO_ATTACHMENT_H
#define IO_ATTACHMENT_H

#include <stddef.h>

#include "engine/attach.h"

/* Reads it into `file`, whose `dirty` is the caller's to free.  No file: ATTACHMENT_NONE and 0.
 * Negative errno and `why`: -EBADMSG when it is damaged. */
int attachment_load(const char *state_dir, const char *volume, struct attachment *file, char *why,
                    size_t why_bytes);

/* Makes it durable, all of it or nothing.  Creates the directory, not its parents. */
int attachment_store(const char *state_dir, const char *volume, const struct attachment *file,
                     char *why, size_t why_bytes);

/* The file's path, for messages. */
void attachment_path(const char *state_dir, const char *volume, char *path, size_t path_bytes);

/* "3 blocks (12288 bytes): 10-11 90", the first ranges only; for messages.  Sorted by block. */
void attachment_describe(const struct dirty_block *dirty, uint64_t count, char *text,
                         size_t text_bytes);

#endif
