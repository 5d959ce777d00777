/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flash image made from a fuzz input: the input is a program whose instructions write segment
 * headers, batches, footers and data, by default such as the engine would have written, with what
 * the input changes in them.  Most metadata gets a right checksum, so that what is behind the check
 * is reached; a share of it does not.
 */
#ifndef TESTS_FUZZ_FUZZ_IMAGE_H
#define TESTS_FUZZ_FUZZ_IMAGE_H

#include "engine/format.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_SEGMENT_BYTES SEGMENT_BYTES_MIN
#define FUZZ_SLOTS         (FUZZ_SEGMENT_BYTES / BLOCK_BYTES)
#define FUZZ_SEGMENTS_MAX  64u
#define FUZZ_SESSION       UINT64_C(5) /* that wrote the image */
#define FUZZ_LSN(count)    (FUZZ_SESSION << LSN_SESSION_SHIFT | (count))

/* What the instructions so far have put into a segment. */
struct fuzz_segment {
    bool headers;
    uint64_t generation, ring_sequence, map_sequence;
    uint32_t next_slot, batch_slot;
    uint32_t entry_count, batch_entries; /* in `entries`; those of the last batch are the last */
    struct entry entries[FUZZ_SLOTS];
};

struct fuzz_image {
    unsigned char *data; /* the whole device */
    size_t bytes;
    uint32_t segments;
    uint8_t uuid[16];
    uint64_t lsn, ring; /* the last ones that were given */
    struct fuzz_segment list[FUZZ_SEGMENTS_MAX];
    uint8_t *state;    /* by 4 KiB block of the device: FUZZ_TOUCHED, FUZZ_UNREADABLE */
    uint32_t *touched; /* the blocks that are */
    uint32_t touched_count;
    uint32_t lost;               /* blocks that were made unreadable */
    struct fuzz_record *records; /* all that build left */
    uint32_t record_count;
};

/* A block's content as a record has it, believable or not. */
struct fuzz_record {
    uint64_t block;
    uint32_t crc;
    uint16_t volume;
    bool zeros;
};

enum fuzz_block_state {
    FUZZ_TOUCHED = 1,
    FUZZ_UNREADABLE = 2,
};

/* An empty image of shard 0. */
void fuzz_image_init(struct fuzz_image *image, uint32_t segments);

/* Empties it again; costs only what was touched. */
void fuzz_image_reset(struct fuzz_image *image);

/* Runs the instructions, up to the one that ends them. */
void fuzz_image_build(struct fuzz_image *image, struct fuzz_input *input);

/* Whoever writes `bytes` at `offset` says so before. */
void fuzz_image_touch(struct fuzz_image *image, uint64_t offset, size_t bytes);

/* An LSN: small numbers are those of the image's session and its neighbours. */
uint64_t fuzz_lsn(struct fuzz_input *input);

/* Whether a record of the image as it was built, believable or not, gives this block this content:
 * data with this checksum, or zeros. */
bool fuzz_image_describes(const struct fuzz_image *image, uint16_t volume, uint64_t block,
                          uint32_t crc, bool zeros);

#endif
