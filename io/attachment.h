/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attachment epoch of a volume (hazard 16): a number in the state directory and in the flash's
 * superblock.  Whenever the volume gets another flash, or is used without its flash, the state
 * directory's becomes larger, so that the flash that was left behind is recognised as stale.
 */
#ifndef IO_ATTACHMENT_H
#define IO_ATTACHMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The epoch in the state directory, 0 when there is none.  Negative errno and `why`. */
int attachment_load(const char *state_dir, const char *volume, uint64_t *epoch, char *why,
                    size_t why_bytes);

/* Makes it durable there.  Creates the directory, not its parents. */
int attachment_store(const char *state_dir, const char *volume, uint64_t epoch,
                     const uint8_t flash_uuid[16], char *why, size_t why_bytes);

/* The file's path, for messages. */
void attachment_path(const char *state_dir, const char *volume, char *path, size_t path_bytes);

#endif
