/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target is made of.  A target is a program with LLVMFuzzerTestOneInput: linked with
 * libFuzzer by "make fuzz", and with fuzz-main.c, which replays files, in every other build.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One input from beginning to end; returns 0.  A finding ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* OPTIONAL: once, before the first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A finding of our own: what the sanitizers cannot see. */
#define FUZZ_CHECK(condition, ...)                                   \
    do {                                                             \
        if (!(condition)) {                                          \
            fprintf(stderr, "%s:%d: finding: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                            \
            fputc('\n', stderr);                                     \
            abort();                                                 \
        }                                                            \
    } while (0)

/* ---- reading an input as a program: past its end there are zeros ---------------------------- */

struct fuzz_input {
    const uint8_t *at, *end;
};

static inline bool fuzz_ended(const struct fuzz_input *input)
{
    return input->at == input->end;
}

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
    return fuzz_ended(input) ? 0 : *input->at++;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    uint16_t low = fuzz_u8(input);

    return (uint16_t)(fuzz_u8(input) << 8 | low);
}

static inline uint64_t fuzz_u64(struct fuzz_input *input)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)fuzz_u8(input) << 8 * i;
    return value;
}

/* Any 64-bit number, the interesting ones in few bytes: small ones, those near a power of two, and
 * all others. */
static inline uint64_t fuzz_number(struct fuzz_input *input)
{
    uint8_t form = fuzz_u8(input);

    if (form < 128)
        return form;
    if (form < 192)
        return (UINT64_C(1) << (form & 63)) + (uint64_t)(int64_t)(int8_t)fuzz_u8(input);
    if (form < 224)
        return fuzz_u16(input);
    if (form < 240)
        return UINT64_MAX - fuzz_u8(input);
    return fuzz_u64(input);
}

/* `bytes` of the input, or what is left of it. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t *bytes)
{
    const uint8_t *at = input->at;

    if (*bytes > (size_t)(input->end - input->at))
        *bytes = (size_t)(input->end - input->at);
    input->at += *bytes;
    return at;
}

#endif
