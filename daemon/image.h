/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flash image, read offline: superblocks, segments, batches.  Only format.h is known here, not
 * the engine, so that this is a second opinion on what the engine wrote.  Nothing is ever written.
 */
#ifndef DAEMON_IMAGE_H
#define DAEMON_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/format.h"

#define IMAGE_WHY_BYTES 256

struct image {
    int fd;
    uint64_t bytes; /* of the device or file */
    bool is_block;
    struct superblock *copies;          /* two; as read */
    uint64_t copy_offsets[2];           /* where they were read */
    int copy_errors[2];                 /* of superblock_check */
    char copy_whys[2][IMAGE_WHY_BYTES]; /* the sentences of these */
    int current;                        /* which copy holds, or a negative errno */
    char why[IMAGE_WHY_BYTES];          /* the sentence of that */
    const struct superblock *sb;        /* the current copy, or NULL */
    unsigned char *buffer;              /* of one segment */
};

/* Opens `path` and reads its superblocks.  Returns 0 also when there is no valid one: see
 * `current`. -EBUSY when a daemon or another program works on it, unless `shared`: then it is only
 * looked at. On an error `why` (of IMAGE_WHY_BYTES) is a phrase without the path. */
int image_open(struct image *image, const char *path, bool shared, char *why);
void image_close(struct image *image);

uint32_t image_segments(const struct image *image);
uint64_t image_segment_offset(const struct image *image, uint32_t number);

/* ---- segments ------------------------------------------------------------------------------- */

enum image_part_state {
    PART_NONE, /* nothing of this cache */
    PART_VALID,
    PART_DAMAGED, /* ours by its looks, but its checksum or a field is wrong */
};

struct image_segment {
    const struct image *image;
    uint32_t number;
    uint64_t offset; /* bytes, on the device */
    uint32_t slots;  /* of the segment, and of these ... */
    uint32_t usable; /* ... those before the footer */
    uint16_t shard;
    bool retired;
    const unsigned char *data; /* all of it, when there is something in it */

    enum image_part_state header_states[2];
    const struct segment_header *headers[2];
    const struct segment_header *header; /* the one that holds, or NULL */

    enum image_part_state footer_state;
    const struct segment_footer *footer; /* of this generation, or NULL */

    /* Of the header, or else of the footer: recovery believes a footer alone, too.  What has
     * another generation is not there.  0: the segment has neither. */
    uint64_t generation;
};

/* Reads segment `number`; it is valid until the next call.  Negative errno when the device fails.
 */
int image_segment_read(struct image *image, uint32_t number, struct image_segment *segment);

/* The 4 KiB of a slot. */
const unsigned char *image_slot(const struct image_segment *segment, uint32_t slot);
bool image_slot_matches(const struct image_segment *segment, const struct entry *entry);

/* ---- batches -------------------------------------------------------------------------------- */

/* Whether a batch header of the segment's generation is at `slot`; PART_DAMAGED when one was. */
enum image_part_state image_batch_at(const struct image_segment *segment, uint32_t slot,
                                     const struct batch_header **header);

/* Whether an entry refers to data in its segment. */
static inline bool entry_has_data(const struct entry *entry)
{
    return (entry->kind == ENTRY_DIRTY || entry->kind == ENTRY_CLEAN) &&
           !(entry->flags & ENTRY_POISON);
}

#endif
