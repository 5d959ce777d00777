/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes in bytes as people write them: "4096", "512K", "1G". */
#ifndef COMMON_SIZE_H
#define COMMON_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Room for any text that size_print() produces, with its final NUL. */
#define SIZE_TEXT_BYTES 24

/*
 * Read a size: decimal digits, then at most one of the suffixes K, M, G, T
 * (either case; powers of 1024). Nothing before, between or after: no blank,
 * sign, fraction or "iB".
 * Returns 0 and sets *BYTES; -EINVAL if the text is not a size, -ERANGE if it
 * does not fit in 64 bits. *BYTES is unchanged on error.
 */
int size_parse(const char *text, uint64_t *bytes);

/*
 * Write BYTES into TEXT so that size_parse() reads the same value back: with
 * the largest suffix that divides it ("8M", "1536K", "4097").
 * Returns TEXT.
 */
const char *size_print(char text[SIZE_TEXT_BYTES], uint64_t bytes);

/*
 * Write BYTES into TEXT for people, rounded to one decimal: "1.5 GiB", "17 B".
 * Returns TEXT.
 */
const char *size_print_human(char text[SIZE_TEXT_BYTES], uint64_t bytes);

#endif
