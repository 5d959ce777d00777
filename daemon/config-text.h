/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a configuration file, made ready for libconfig.
 *
 * libconfig 1.5 cuts integers silently to 32 bits and knows no comma before a closing bracket;
 * later releases do better.  So that a file means the same everywhere, such commas are blanked and
 * such integers get the suffix L.  Line numbers do not change.
 */
#ifndef DAEMON_CONFIG_TEXT_H
#define DAEMON_CONFIG_TEXT_H

#include <stddef.h>

#define CONFIG_TEXT_BYTES_MAX (1u << 20)

/* Reads the file at `path`.  Returns 0 and a text that the caller frees, or a negative errno:
 * -EFBIG (longer than CONFIG_TEXT_BYTES_MAX), -EILSEQ (contains a NUL byte), or that of open or
 * read. */
int config_text_read(const char *path, char **text);

/* Does what is said above to a text of `bytes` bytes.  Returns 0 and a new text that the caller
 * frees, -ENOMEM, or -ERANGE for an integer that does not fit in 64 bits; *line then says where. */
int config_text_normalise(const char *text, size_t bytes, char **normal, unsigned *line);

#endif
