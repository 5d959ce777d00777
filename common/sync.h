/* SPDX-License-Identifier: Apache-2.0 */
/* Making what was written durable. */
#ifndef COMMON_SYNC_H
#define COMMON_SYNC_H

/* The file's content, or the names in the directory, at `path`.  Negative errno. */
int sync_path(const char *path);

#endif
