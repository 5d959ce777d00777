/* SPDX-License-Identifier: Apache-2.0 */
/* A flash image, read offline. */
#include "daemon/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "daemon/patient-lock.h"
#include "engine/superblock.h"

/* ---- the device ----------------------------------------------------------------------------- */

static int find_size(struct image *image)
{
    struct stat status;

    if (fstat(image->fd, &status) != 0)
        return -errno;
    image->is_block = S_ISBLK(status.st_mode);
    image->bytes = (uint64_t)status.st_size;
    if (image->is_block)
        return ioctl(image->fd, BLKGETSIZE64, &image->bytes) == 0 ? 0 : -errno;
    return S_ISREG(status.st_mode) ? 0 : -ENOTBLK;
}

/* Everything, or an error: past the end there are zeros. */
static int read_at(const struct image *image, void *to, uint64_t bytes, uint64_t offset)
{
    unsigned char *at = to;

    while (bytes > 0) {
        ssize_t got = pread(image->fd, at, bytes, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            memset(at, 0, bytes);
            return 0;
        }
        at += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return 0;
}

static int read_superblocks(struct image *image)
{
    uint64_t usable = image->bytes - image->bytes % BLOCK_BYTES;
    uint64_t last = usable > SUPERBLOCK_BYTES ? usable - SUPERBLOCK_BYTES : 0;
    int errors[2];

    /* What cannot be read stays zeros; one good copy is enough. */
    errors[0] = read_at(image, &image->copies[0], SUPERBLOCK_BYTES, 0);
    if (errors[0])
        memset(&image->copies[0], 0, SUPERBLOCK_BYTES);
    /* A device that has grown has the second copy where its end was. */
    if (superblock_check(&image->copies[0], image->bytes, NULL, 0) == 0)
        last = superblock_offset(&image->copies[0], 1);
    image->copy_offsets[1] = last;
    errors[1] = read_at(image, &image->copies[1], SUPERBLOCK_BYTES, last);
    if (errors[1])
        memset(&image->copies[1], 0, SUPERBLOCK_BYTES);
    if (errors[0] && errors[1])
        return errors[0];
    for (unsigned copy = 0; copy < 2; copy++)
        image->copy_errors[copy] = superblock_check(&image->copies[copy], image->bytes,
                                                    image->copy_whys[copy], IMAGE_WHY_BYTES);
    image->current = superblock_pick(image->copies, image->bytes, image->why, IMAGE_WHY_BYTES);
    if (image->current >= 0)
        image->sb = &image->copies[image->current];
    return 0;
}

/* Opens without an exclusive claim on block devices: reading does not disturb, and the lock tells
 * whether a daemon is at work. */
static int open_and_lock(struct image *image, const char *path, bool shared, char *why)
{
    image->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (image->fd < 0) {
        int error = -errno;

        snprintf(why, IMAGE_WHY_BYTES, "%s", strerror(-error));
        return error;
    }
    if (!shared && patient_lock(image->fd, LOCK_SH) == -EWOULDBLOCK) {
        snprintf(why, IMAGE_WHY_BYTES, "it is in use; stop the blkcached that works on it first");
        return -EBUSY;
    }
    return 0;
}

int image_open(struct image *image, const char *path, bool shared, char *why)
{
    int error;

    memset(image, 0, sizeof(*image));
    image->fd = -1;
    error = open_and_lock(image, path, shared, why);
    if (!error) {
        image->copies = calloc(2, sizeof(*image->copies));
        error = image->copies == NULL ? -ENOMEM : find_size(image);
        if (!error)
            error = read_superblocks(image);
        if (!error && image->sb != NULL)
            image->buffer = malloc(image->sb->segment_bytes);
        if (!error && image->sb != NULL && image->buffer == NULL)
            error = -ENOMEM;
        if (error)
            snprintf(why, IMAGE_WHY_BYTES, "%s",
                     error == -ENOTBLK ? "it is neither a block device nor a regular file"
                                       : strerror(-error));
    }
    if (error)
        image_close(image);
    return error;
}

void image_close(struct image *image)
{
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
    free(image->copies);
    free(image->buffer);
    image->copies = NULL;
    image->buffer = NULL;
    image->sb = NULL;
}

uint32_t image_segments(const struct image *image)
{
    return image->sb->shard_count * image->sb->segments_per_shard;
}

uint64_t image_segment_offset(const struct image *image, uint32_t number)
{
    return DATA_OFFSET + number * image->sb->segment_bytes;
}

/* ---- checksums ------------------------------------------------------------------------------ */

/* CRC-32C of `bytes` at `data` with the four bytes at `field` taken as zero. */
static uint32_t crc_without(const void *data, size_t bytes, size_t field)
{
    static const uint32_t zero;
    const unsigned char *at = data;
    uint32_t crc = crc32c(0, at, field);

    crc = crc32c(crc, &zero, sizeof(zero));
    return crc32c(crc, at + field + sizeof(zero), bytes - field - sizeof(zero));
}

static bool is_of_this_cache(const struct image_segment *segment, const uint8_t uuid[16])
{
    return memcmp(uuid, segment->image->sb->uuid, 16) == 0;
}

/* ---- segment headers ------------------------------------------------------------------------ */

static enum image_part_state header_state(const struct image_segment *segment,
                                          const struct segment_header *header)
{
    bool magic = header->magic == SEGMENT_MAGIC, ours = is_of_this_cache(segment, header->uuid);
    bool place = header->segment == segment->number && header->shard == segment->shard;
    bool crc =
        crc_without(header, sizeof(*header), offsetof(struct segment_header, crc)) == header->crc;

    if (magic && ours && place && crc && header->map_valid <= (MAP_VALID | MAP_VERDICT))
        return PART_VALID;
    /* A right checksum of another cache: left from before this format. */
    if (magic && crc && !ours)
        return PART_NONE;
    return magic + ours + place >= 2 && (magic || ours) ? PART_DAMAGED : PART_NONE;
}

static bool header_is_newer(const struct segment_header *one, const struct segment_header *other)
{
    if (one->generation != other->generation)
        return one->generation > other->generation;
    return one->map_sequence > other->map_sequence;
}

static void headers_judge(struct image_segment *segment)
{
    for (unsigned copy = 0; copy < SEGMENT_HEADER_SLOTS; copy++) {
        const struct segment_header *header =
            (const void *)(segment->data + (size_t)copy * BLOCK_BYTES);

        segment->headers[copy] = header;
        segment->header_states[copy] = header_state(segment, header);
        if (segment->header_states[copy] == PART_VALID &&
            (segment->header == NULL || header_is_newer(header, segment->header)))
            segment->header = header;
    }
    if (segment->header != NULL)
        segment->generation = segment->header->generation;
}

/* ---- footers -------------------------------------------------------------------------------- */

static bool footer_entries_possible(const struct image_segment *segment,
                                    const struct segment_footer *footer)
{
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        const struct entry *entry = &footer->entries[i];

        if (entry_has_data(entry) &&
            (entry->slot < SEGMENT_HEADER_SLOTS || entry->slot >= segment->usable))
            return false;
    }
    return true;
}

static void footer_judge(struct image_segment *segment)
{
    const struct segment_footer *footer =
        (const void *)(segment->data + (size_t)segment->usable * BLOCK_BYTES);
    size_t room = (size_t)(segment->slots - segment->usable) * BLOCK_BYTES;
    size_t entries_max = (room - sizeof(*footer)) / sizeof(struct entry);
    bool magic = footer->magic == FOOTER_MAGIC, ours = is_of_this_cache(segment, footer->uuid);
    bool generation = segment->header == NULL || footer->generation == segment->generation;
    bool place = footer->segment == segment->number && footer->shard == segment->shard;
    bool fits = footer->entry_count <= entries_max;
    bool crc =
        fits && crc_without(footer, sizeof(*footer) + footer->entry_count * sizeof(struct entry),
                            offsetof(struct segment_footer, crc)) == footer->crc;

    if (crc && magic && ours && place && generation && footer_entries_possible(segment, footer)) {
        segment->footer_state = PART_VALID;
        segment->footer = footer;
        segment->generation = footer->generation;
    } else if (crc && magic && (!ours || !generation)) {
        segment->footer_state = PART_NONE;
    } else if (magic + ours + generation + place >= 3 && segment->header != NULL) {
        segment->footer_state = PART_DAMAGED;
    }
}

/* ---- segments ------------------------------------------------------------------------------- */

static bool is_retired(const struct superblock *sb, uint32_t number)
{
    for (uint32_t i = 0; i < sb->retired_count; i++) {
        if (sb->retired[i] == number)
            return true;
    }
    return false;
}

int image_segment_read(struct image *image, uint32_t number, struct image_segment *segment)
{
    const struct superblock *sb = image->sb;
    size_t headers_bytes = SEGMENT_HEADER_SLOTS * BLOCK_BYTES, footer_offset;
    int error;

    memset(segment, 0, sizeof(*segment));
    segment->image = image;
    segment->number = number;
    segment->offset = image_segment_offset(image, number);
    segment->slots = (uint32_t)(sb->segment_bytes / BLOCK_BYTES);
    segment->usable = segment->slots - footer_slots(segment->slots);
    segment->shard = (uint16_t)(number / sb->segments_per_shard);
    segment->retired = is_retired(sb, number);
    segment->data = image->buffer;
    footer_offset = (size_t)segment->usable * BLOCK_BYTES;

    error = read_at(image, image->buffer, headers_bytes, segment->offset);
    if (!error)
        error = read_at(image, image->buffer + footer_offset, sb->segment_bytes - footer_offset,
                        segment->offset + footer_offset);
    if (error)
        return error;
    headers_judge(segment);
    footer_judge(segment);
    if (segment->generation == 0)
        return 0;
    return read_at(image, image->buffer + headers_bytes, footer_offset - headers_bytes,
                   segment->offset + headers_bytes);
}

const unsigned char *image_slot(const struct image_segment *segment, uint32_t slot)
{
    return segment->data + (size_t)slot * BLOCK_BYTES;
}

bool image_slot_matches(const struct image_segment *segment, const struct entry *entry)
{
    return crc32c(0, image_slot(segment, entry->slot), BLOCK_BYTES) == entry->crc;
}

/* ---- batches -------------------------------------------------------------------------------- */

static bool batch_is_possible(const struct image_segment *segment, uint32_t slot,
                              const struct batch_header *header)
{
    if (header->entry_count > BATCH_ENTRIES_MAX || header->echo_count > BATCH_ENTRIES_MAX ||
        header->slot_count > header->entry_count || header->data_blocks > header->slot_count ||
        slot + 1 + header->slot_count > segment->usable)
        return false;
    for (uint32_t i = 0; i < header->entry_count; i++) {
        const struct entry *entry = &header->entries[i];

        if (entry_has_data(entry) &&
            (entry->slot <= slot || entry->slot > slot + header->data_blocks))
            return false;
    }
    return true;
}

enum image_part_state image_batch_at(const struct image_segment *segment, uint32_t slot,
                                     const struct batch_header **batch)
{
    const struct batch_header *header = (const void *)image_slot(segment, slot);
    bool magic = header->magic == BATCH_MAGIC, ours = is_of_this_cache(segment, header->uuid);
    bool generation = header->generation == segment->generation;
    bool place = header->offset == segment->offset + (uint64_t)slot * BLOCK_BYTES &&
                 header->shard == segment->shard;
    bool crc;

    *batch = header;
    if (magic + ours + generation + place < 3)
        return PART_NONE;
    crc = crc_without(header, sizeof(*header), offsetof(struct batch_header, crc)) == header->crc;
    if (crc && !(magic && ours && generation && place))
        return PART_NONE; /* of an earlier generation */
    return crc && batch_is_possible(segment, slot, header) ? PART_VALID : PART_DAMAGED;
}
