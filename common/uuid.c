/* SPDX-License-Identifier: Apache-2.0 */
/* Universally unique identifiers, RFC 4122. */
#include "common/uuid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static const char digits[] = "0123456789abcdef";

/* Does a hyphen stand before this byte in the text form. */
static bool hyphen_before(int index)
{
    return index == 4 || index == 6 || index == 8 || index == 10;
}

/* The value of a hexadecimal digit, or -1. */
static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

int uuid_generate(struct uuid *uuid)
{
    ssize_t got;

    /* Requests of at most 256 bytes are never served partially. */
    do
        got = getrandom(uuid->bytes, UUID_BYTES, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (got != UUID_BYTES)
        return -EIO;
    uuid->bytes[6] = (uint8_t)((uuid->bytes[6] & 0x0f) | 0x40);
    uuid->bytes[8] = (uint8_t)((uuid->bytes[8] & 0x3f) | 0x80);
    return 0;
}

const char *uuid_print(char text[UUID_TEXT_BYTES], const struct uuid *uuid)
{
    char *at = text;

    for (int i = 0; i < UUID_BYTES; i++) {
        if (hyphen_before(i))
            *at++ = '-';
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 15];
    }
    *at = '\0';
    return text;
}

int uuid_parse(const char *text, struct uuid *uuid)
{
    struct uuid parsed;
    const char *at = text;

    for (int i = 0; i < UUID_BYTES; i++) {
        int high, low;

        if (hyphen_before(i) && *at++ != '-')
            return -EINVAL;
        high = digit_value(*at);
        if (high < 0)
            return -EINVAL;
        low = digit_value(at[1]);
        if (low < 0)
            return -EINVAL;
        parsed.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    if (*at != '\0')
        return -EINVAL;
    *uuid = parsed;
    return 0;
}

bool uuid_equal(const struct uuid *one, const struct uuid *other)
{
    return memcmp(one->bytes, other->bytes, UUID_BYTES) == 0;
}

bool uuid_is_null(const struct uuid *uuid)
{
    static const struct uuid null;

    return uuid_equal(uuid, &null);
}
