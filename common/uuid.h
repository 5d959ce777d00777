/* SPDX-License-Identifier: Apache-2.0 */
/* Universally unique identifiers, RFC 4122. */
#ifndef COMMON_UUID_H
#define COMMON_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_BYTES 16

/* Room for the text form, 36 characters and the final NUL. */
#define UUID_TEXT_BYTES 37

/* In the order of the text form, so it can be stored as it is. All zero: none. */
struct uuid {
    uint8_t bytes[UUID_BYTES];
};

/*
 * A new random UUID (version 4) from the kernel's random number generator.
 * Waits for the generator at early boot. Returns 0, or a negative errno from
 * getrandom(2); *UUID is then unspecified.
 */
int uuid_generate(struct uuid *uuid);

/* Write the lower-case text form, "01234567-89ab-...", into TEXT; returns TEXT. */
const char *uuid_print(char text[UUID_TEXT_BYTES], const struct uuid *uuid);

/*
 * Read the text form, either case, exactly 36 characters.
 * Returns 0, or -EINVAL; *UUID is unchanged on error.
 */
int uuid_parse(const char *text, struct uuid *uuid);

/* Are both the same. */
bool uuid_equal(const struct uuid *one, const struct uuid *other);

/* Is it all zero, that is, none. */
bool uuid_is_null(const struct uuid *uuid);

#endif
