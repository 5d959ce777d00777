/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz-image.h"

#include "common/crc32c.h"

#define INSTRUCTIONS_MAX 64u
#define RECORDS_MAX      (4u * INSTRUCTIONS_MAX * BATCH_ENTRIES_MAX)

static uint64_t slot_offset(uint32_t segment, uint32_t slot)
{
    return DATA_OFFSET + (uint64_t)segment * FUZZ_SEGMENT_BYTES + (uint64_t)slot * BLOCK_BYTES;
}

static uint32_t usable_slots(void)
{
    return FUZZ_SLOTS - footer_slots(FUZZ_SLOTS);
}

static void segments_init(struct fuzz_image *image)
{
    memset(image->list, 0, sizeof(image->list));
    for (uint32_t i = 0; i < image->segments; i++) {
        image->list[i].generation = FUZZ_SESSION << 32 | (i + 1);
        image->list[i].next_slot = SEGMENT_HEADER_SLOTS;
    }
    image->lsn = FUZZ_LSN(0);
    image->ring = 0;
}

void fuzz_image_init(struct fuzz_image *image, uint32_t segments)
{
    memset(image, 0, sizeof(*image));
    FUZZ_CHECK(segments <= FUZZ_SEGMENTS_MAX, "too many segments");
    image->segments = segments;
    image->bytes = DATA_OFFSET + (size_t)segments * FUZZ_SEGMENT_BYTES + SUPERBLOCK_BYTES;
    image->data = aligned_alloc(BLOCK_BYTES, image->bytes);
    image->state = calloc(image->bytes / BLOCK_BYTES, 1);
    image->touched = calloc(image->bytes / BLOCK_BYTES, sizeof(*image->touched));
    image->records = calloc(RECORDS_MAX, sizeof(*image->records));
    FUZZ_CHECK(image->data && image->state && image->touched && image->records, "no memory");
    memset(image->data, 0, image->bytes);
    memset(image->uuid, 7, sizeof(image->uuid));
    segments_init(image);
}

void fuzz_image_reset(struct fuzz_image *image)
{
    for (uint32_t i = 0; i < image->touched_count; i++) {
        memset(image->data + (size_t)image->touched[i] * BLOCK_BYTES, 0, BLOCK_BYTES);
        image->state[image->touched[i]] = 0;
    }
    image->touched_count = image->lost = 0;
    segments_init(image);
}

void fuzz_image_touch(struct fuzz_image *image, uint64_t offset, size_t bytes)
{
    FUZZ_CHECK(offset <= image->bytes && bytes <= image->bytes - offset,
               "%zu bytes at %llu are outside of the flash", bytes, (unsigned long long)offset);
    for (uint64_t block = offset / BLOCK_BYTES; block * BLOCK_BYTES < offset + bytes; block++) {
        if (!(image->state[block] & FUZZ_TOUCHED))
            image->touched[image->touched_count++] = (uint32_t)block;
        image->state[block] = FUZZ_TOUCHED;
    }
}

static void *slot_take(struct fuzz_image *image, uint32_t segment, uint32_t slot)
{
    fuzz_image_touch(image, slot_offset(segment, slot), BLOCK_BYTES);
    return image->data + slot_offset(segment, slot);
}

uint64_t fuzz_lsn(struct fuzz_input *input)
{
    uint64_t number = fuzz_number(input);

    if (number > UINT16_MAX)
        return number;
    return (FUZZ_SESSION - 1 + (number >> 12 & 3)) << LSN_SESSION_SHIFT | (number & 0xfff);
}

/* ---- checksums ------------------------------------------------------------------------------ */

static void seal(void *data, size_t bytes, uint32_t *crc)
{
    uint32_t computed;

    *crc = 0;
    computed = crc32c(0, data, bytes);
    *crc = computed;
}

static void footer_seal(struct segment_footer *footer)
{
    uint32_t count = footer->entry_count <= FUZZ_SLOTS ? footer->entry_count : FUZZ_SLOTS;

    seal(footer, sizeof(*footer) + count * sizeof(struct entry), &footer->crc);
}

/* By what it is, or else by where it is. */
static void slot_seal(struct fuzz_image *image, uint32_t segment, uint32_t slot)
{
    unsigned char *data = image->data + slot_offset(segment, slot);
    struct batch_header *batch = (void *)data;
    struct segment_header *header = (void *)data;

    if (header->magic == SEGMENT_MAGIC || slot < SEGMENT_HEADER_SLOTS)
        seal(header, sizeof(*header), &header->crc);
    else if (batch->magic == FOOTER_MAGIC || slot >= usable_slots())
        footer_seal((void *)data);
    else
        seal(batch, sizeof(*batch), &batch->crc);
}

/* ---- headers -------------------------------------------------------------------------------- */

enum header_options {
    HEADER_FIRST = 1,
    HEADER_SECOND = 2,
    HEADER_GENERATION = 4,
    HEADER_RING = 8,
    HEADER_MAP = 16,
    HEADER_SEQUENCE = 32,
    HEADER_UNSEALED = 128,
};

static void header_write(struct fuzz_image *image, uint32_t index, uint8_t options,
                         struct fuzz_input *input)
{
    struct fuzz_segment *segment = &image->list[index];
    struct segment_header header = {
        .magic = SEGMENT_MAGIC, .segment = index, .session = FUZZ_SESSION};

    if (options & HEADER_GENERATION)
        segment->generation = fuzz_number(input);
    if (options & HEADER_RING)
        segment->ring_sequence = fuzz_number(input);
    if (options & HEADER_MAP) {
        uint64_t map = fuzz_u64(input);

        header.map_valid = 1;
        memcpy(header.map, &map, sizeof(map));
        segment->map_sequence++;
    }
    if (options & HEADER_SEQUENCE)
        segment->map_sequence = fuzz_number(input);
    memcpy(header.uuid, image->uuid, sizeof(header.uuid));
    header.generation = segment->generation;
    header.ring_sequence = options & (HEADER_MAP | HEADER_RING) ? segment->ring_sequence : 0;
    header.map_sequence = segment->map_sequence;
    if (!(options & HEADER_UNSEALED))
        seal(&header, sizeof(header), &header.crc);
    if (!(options & (HEADER_FIRST | HEADER_SECOND)))
        options |= HEADER_FIRST | HEADER_SECOND;
    if (options & HEADER_FIRST)
        memcpy(slot_take(image, index, 0), &header, sizeof(header));
    if (options & HEADER_SECOND)
        memcpy(slot_take(image, index, 1), &header, sizeof(header));
    segment->headers = true;
}

/* ---- entries and data ----------------------------------------------------------------------- */

enum entry_options {
    ENTRY_KIND_MASK = 3,
    ENTRY_LSN = 4,
    ENTRY_SLOT = 8,
    ENTRY_COUNT = 16,
    ENTRY_DAMAGED = 32,
    ENTRY_PLACE = 64,
    ENTRY_ODD = 128,
};

static void data_write(struct fuzz_image *image, uint32_t index, struct entry *entry, bool damaged)
{
    uint64_t *words = slot_take(image, index, entry->slot);

    for (unsigned i = 0; i < BLOCK_BYTES / sizeof(*words); i++)
        words[i] = (entry->lsn + i) * 0x9e3779b97f4a7c15u ^ entry->block << 20;
    entry->crc = crc32c(0, words, BLOCK_BYTES);
    if (damaged)
        words[entry->lsn % 512] ^= 1;
}

/* `slot` is the one that it would have had. */
static struct entry entry_make(struct fuzz_image *image, uint32_t index, uint32_t slot,
                               struct fuzz_input *input)
{
    uint8_t options = fuzz_u8(input);
    struct entry entry = {.lsn = ++image->lsn,
                          .epoch = 1,
                          .volume = 1,
                          .kind = (uint8_t)((options & ENTRY_KIND_MASK) + 1),
                          .slot = slot,
                          .block = fuzz_u8(input) % 128,
                          .count = 1};

    if (options & ENTRY_LSN)
        entry.lsn = fuzz_lsn(input);
    if (options & ENTRY_SLOT)
        entry.slot = (uint32_t)fuzz_number(input);
    if (options & ENTRY_COUNT)
        entry.count = (uint32_t)fuzz_number(input);
    if (options & ENTRY_PLACE) {
        entry.volume = fuzz_u8(input);
        entry.block = fuzz_number(input);
    }
    if (options & ENTRY_ODD) {
        entry.kind = fuzz_u8(input) % 8;
        entry.flags = fuzz_u8(input);
    }
    if (entry.kind == ENTRY_ABSENT)
        entry.slot = ENTRY_SLOT_NONE;
    if ((entry.kind == ENTRY_DIRTY || entry.kind == ENTRY_CLEAN) &&
        entry.slot >= SEGMENT_HEADER_SLOTS && entry.slot < usable_slots())
        data_write(image, index, &entry, options & ENTRY_DAMAGED);
    return entry;
}

static void entry_keep(struct fuzz_segment *segment, const struct entry *entry)
{
    if (segment->entry_count < FUZZ_SLOTS)
        segment->entries[segment->entry_count++] = *entry;
}

/* ---- batches -------------------------------------------------------------------------------- */

enum batch_options {
    BATCH_SLOT = 1,
    BATCH_NO_HEADERS = 2,
    BATCH_GENERATION = 4,
    BATCH_RING = 8,
    BATCH_MARKS = 16,
    BATCH_SIZES = 32,
    BATCH_ECHO = 64,
    BATCH_UNSEALED = 128,
};

static void batch_entries_make(struct fuzz_image *image, uint32_t index, struct batch_header *batch,
                               uint32_t slot, struct fuzz_input *input)
{
    uint32_t data = 0, owned = 0;

    for (uint32_t i = 0; i < batch->entry_count && i < BATCH_ENTRIES_MAX; i++) {
        struct entry entry = entry_make(image, index, slot + 1 + owned, input);

        if (entry.kind == ENTRY_DIRTY || entry.kind == ENTRY_CLEAN)
            data = ++owned;
        else if (entry.kind == ENTRY_ZERO)
            owned++;
        batch->entries[i] = entry;
    }
    batch->data_blocks = (uint16_t)data;
    batch->slot_count = owned;
}

static void batch_echo_make(struct fuzz_image *image, uint32_t index, struct batch_header *batch,
                            uint8_t options, struct fuzz_input *input)
{
    struct fuzz_segment *segment = &image->list[index];
    uint32_t count = segment->batch_entries;

    if (options & BATCH_ECHO) {
        batch->echo_count = fuzz_u8(input) % 52;
        batch->echo_slot = fuzz_u8(input);
        for (uint32_t i = 0; i < batch->echo_count && i < BATCH_ENTRIES_MAX; i++)
            batch->echo[i] = entry_make(image, index, batch->echo_slot + 1 + i, input);
        return;
    }
    if (count > BATCH_ENTRIES_MAX || count > segment->entry_count)
        count = 0;
    batch->echo_count = (uint16_t)count;
    batch->echo_slot = count ? segment->batch_slot : 0;
    memcpy(batch->echo, segment->entries + segment->entry_count - count,
           count * sizeof(struct entry));
}

static void batch_write(struct fuzz_image *image, uint32_t index, struct fuzz_input *input)
{
    struct fuzz_segment *segment = &image->list[index];
    uint8_t options = fuzz_u8(input);
    uint32_t slot = options & BATCH_SLOT ? fuzz_u8(input) : segment->next_slot;
    struct batch_header batch = {
        .magic = BATCH_MAGIC, .session = FUZZ_SESSION, .durable_lsn = image->lsn, .watermark = 0};

    if (slot >= usable_slots())
        return;
    if (!segment->headers && !(options & BATCH_NO_HEADERS))
        header_write(image, index, HEADER_FIRST | HEADER_SECOND, input);
    if (segment->ring_sequence == 0)
        segment->ring_sequence = image->ring += 65536;
    memcpy(batch.uuid, image->uuid, sizeof(batch.uuid));
    batch.generation = options & BATCH_GENERATION ? fuzz_number(input) : segment->generation;
    batch.ring_sequence = options & BATCH_RING ? fuzz_number(input) : segment->ring_sequence;
    batch.offset = slot_offset(index, slot);
    if (options & BATCH_MARKS) {
        batch.durable_lsn = fuzz_lsn(input);
        batch.watermark = fuzz_lsn(input);
    }
    batch.entry_count = fuzz_u8(input) % 52;
    batch_echo_make(image, index, &batch, options, input);
    batch_entries_make(image, index, &batch, slot, input);
    segment->batch_entries = batch.entry_count;
    for (uint32_t i = 0; i < batch.entry_count && i < BATCH_ENTRIES_MAX; i++)
        entry_keep(segment, &batch.entries[i]);
    if (options & BATCH_SIZES) {
        batch.data_blocks = (uint16_t)fuzz_number(input);
        batch.slot_count = (uint32_t)fuzz_number(input);
    }
    if (!(options & BATCH_UNSEALED))
        seal(&batch, sizeof(batch), &batch.crc);
    memcpy(slot_take(image, index, slot), &batch, sizeof(batch));
    segment->batch_slot = slot;
    segment->next_slot = slot + 1 + (batch.slot_count <= FUZZ_SLOTS ? batch.slot_count : 0);
}

/* ---- footers -------------------------------------------------------------------------------- */

enum footer_options {
    FOOTER_ENTRIES = 1,
    FOOTER_GENERATION = 2,
    FOOTER_RING = 4,
    FOOTER_MARKS = 8,
    FOOTER_COUNT = 16,
    FOOTER_UNSEALED = 128,
};

static void footer_write(struct fuzz_image *image, uint32_t index, struct fuzz_input *input)
{
    struct fuzz_segment *segment = &image->list[index];
    struct segment_footer *footer = slot_take(image, index, usable_slots());
    uint8_t options = fuzz_u8(input);

    memset(footer, 0, BLOCK_BYTES);
    footer->magic = FOOTER_MAGIC;
    memcpy(footer->uuid, image->uuid, sizeof(footer->uuid));
    if (segment->ring_sequence == 0)
        segment->ring_sequence = image->ring += 65536;
    footer->generation = options & FOOTER_GENERATION ? fuzz_number(input) : segment->generation;
    footer->ring_sequence = options & FOOTER_RING ? fuzz_number(input) : segment->ring_sequence;
    footer->session = FUZZ_SESSION;
    footer->durable_lsn = image->lsn;
    if (options & FOOTER_MARKS) {
        footer->durable_lsn = fuzz_lsn(input);
        footer->watermark = fuzz_lsn(input);
    }
    footer->segment = index;
    footer->entry_count = segment->entry_count;
    memcpy(footer->entries, segment->entries, segment->entry_count * sizeof(struct entry));
    if (options & FOOTER_ENTRIES) {
        footer->entry_count = fuzz_u8(input) % (FUZZ_SLOTS + 1);
        for (uint32_t i = 0; i < footer->entry_count; i++)
            footer->entries[i] = entry_make(image, index, SEGMENT_HEADER_SLOTS + 1 + i, input);
    }
    if (options & FOOTER_COUNT)
        footer->entry_count = (uint32_t)fuzz_number(input);
    if (!(options & FOOTER_UNSEALED))
        footer_seal(footer);
}

/* ---- damage --------------------------------------------------------------------------------- */

static void slot_patch(struct fuzz_image *image, uint32_t index, bool sealed,
                       struct fuzz_input *input)
{
    uint32_t slot = fuzz_u8(input) % FUZZ_SLOTS;
    uint32_t at = fuzz_u16(input) % BLOCK_BYTES;
    size_t bytes = fuzz_u8(input) % 33;
    const uint8_t *from = fuzz_bytes(input, &bytes);
    unsigned char *data = slot_take(image, index, slot);

    if (bytes > BLOCK_BYTES - at)
        bytes = BLOCK_BYTES - at;
    memcpy(data + at, from, bytes);
    if (sealed)
        slot_seal(image, index, slot);
}

/* A write that went to the wrong place, or an old one that came back. */
static void slot_copy(struct fuzz_image *image, uint32_t index, struct fuzz_input *input)
{
    const unsigned char *from =
        image->data + slot_offset(fuzz_u8(input) % image->segments, fuzz_u8(input) % FUZZ_SLOTS);

    memmove(slot_take(image, index, fuzz_u8(input) % FUZZ_SLOTS), from, BLOCK_BYTES);
}

static void slot_lose(struct fuzz_image *image, uint32_t index, struct fuzz_input *input)
{
    uint64_t offset = slot_offset(index, fuzz_u8(input) % FUZZ_SLOTS);

    fuzz_image_touch(image, offset, BLOCK_BYTES);
    image->state[offset / BLOCK_BYTES] |= FUZZ_UNREADABLE;
    image->lost++;
}

/* ---- what it says --------------------------------------------------------------------------- */

static void entries_note(struct fuzz_image *image, const struct entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count && image->record_count < RECORDS_MAX; i++)
        image->records[image->record_count++] =
            (struct fuzz_record){.block = entries[i].block,
                                 .crc = entries[i].crc,
                                 .volume = entries[i].volume,
                                 .zeros = entries[i].kind == ENTRY_ZERO};
}

static void records_note(struct fuzz_image *image)
{
    image->record_count = 0;
    for (uint32_t i = 0; i < image->touched_count; i++) {
        const unsigned char *data = image->data + (size_t)image->touched[i] * BLOCK_BYTES;
        const struct batch_header *batch = (const void *)data;
        const struct segment_footer *footer = (const void *)data;

        if (batch->magic == BATCH_MAGIC) {
            entries_note(image, batch->entries, BATCH_ENTRIES_MAX);
            entries_note(image, batch->echo, BATCH_ENTRIES_MAX);
        } else if (footer->magic == FOOTER_MAGIC) {
            entries_note(image, footer->entries, FUZZ_SLOTS);
        }
    }
}

bool fuzz_image_describes(const struct fuzz_image *image, uint16_t volume, uint64_t block,
                          uint32_t crc, bool zeros)
{
    for (uint32_t i = 0; i < image->record_count; i++) {
        const struct fuzz_record *record = &image->records[i];

        if (record->block == block && record->volume == volume &&
            (record->zeros ? zeros : record->crc == crc))
            return true;
    }
    return false;
}

/* ---- instructions --------------------------------------------------------------------------- */

static bool instruction_run(struct fuzz_image *image, struct fuzz_input *input)
{
    uint8_t instruction = fuzz_u8(input);
    uint32_t index = (instruction >> 4) % image->segments;

    switch (instruction & 15) {
    case 0: return false;
    case 1:
    case 2: header_write(image, index, fuzz_u8(input), input); break;
    case 3:
    case 4:
    case 5: footer_write(image, index, input); break;
    case 6: slot_patch(image, index, false, input); break;
    case 7: slot_patch(image, index, true, input); break;
    case 8: slot_copy(image, index, input); break;
    case 9: slot_lose(image, index, input); break;
    default: batch_write(image, index, input); break;
    }
    return true;
}

void fuzz_image_build(struct fuzz_image *image, struct fuzz_input *input)
{
    for (unsigned i = 0; i < INSTRUCTIONS_MAX && !fuzz_ended(input); i++) {
        if (!instruction_run(image, input))
            break;
    }
    records_note(image);
}
