/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl dump: prints what is on a flash image. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"
#include "common/uuid.h"
#include "daemon/ctl.h"
#include "daemon/image.h"

static void print_uuid(const char *name, const uint8_t bytes[16])
{
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;

    memcpy(uuid.bytes, bytes, sizeof(uuid.bytes));
    printf("  %-18s %s\n", name, uuid_print(text, &uuid));
}

/* Sessions and counts apart, as session:count. */
static const char *lsn_text(char text[32], uint64_t lsn)
{
    snprintf(text, 32, "%" PRIu64 ":%" PRIu64, lsn >> LSN_SESSION_SHIFT,
             lsn & ((UINT64_C(1) << LSN_SESSION_SHIFT) - 1));
    return text;
}

static const char *part_text(enum image_part_state state)
{
    switch (state) {
    case PART_VALID: return "valid";
    case PART_DAMAGED: return "damaged";
    default: return "none";
    }
}

/* ---- superblock ------------------------------------------------------------------------------ */

static const char *mode_text(uint8_t mode)
{
    static const char *const names[] = {"write-back", "write-through", "write-around",
                                        "pass-through"};

    return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

static void dump_volumes(const struct superblock *sb)
{
    char lsn[32];

    for (uint32_t i = 0; i < VOLUMES_MAX; i++) {
        const struct superblock_volume *volume = &sb->volumes[i];

        if (volume->state != VOLUME_ACTIVE)
            continue;
        printf("volume %u \"%s\"\n", volume->id, volume->name);
        print_uuid("uuid", volume->uuid);
        print_uuid("backing identity", volume->backing_identity);
        printf("  %-18s %" PRIu64 "\n", "bytes", volume->bytes);
        printf("  %-18s %s\n", "mode", mode_text(volume->mode));
        printf("  %-18s %" PRIu64 "\n", "attachment epoch", volume->attachment_epoch);
        printf("  %-18s %s\n", "floor LSN", lsn_text(lsn, volume->floor_lsn));
    }
}

static void dump_superblock(const struct image *image)
{
    const struct superblock *sb = image->sb;
    char watermark[32], durable[32];

    for (unsigned copy = 0; copy < 2; copy++)
        printf("superblock copy %u at byte %" PRIu64 ": %s%s\n", copy, image->copy_offsets[copy],
               image->copy_errors[copy] ? image->copy_whys[copy] : "valid",
               (int)copy == image->current ? ", current" : "");
    print_uuid("uuid", sb->uuid);
    print_uuid("replaces", sb->replaces);
    printf("  %-18s %u\n", "version", sb->version);
    printf("  %-18s %" PRIu64 "\n", "sequence", sb->sequence);
    printf("  %-18s %" PRIu64 "\n", "session", sb->session);
    printf("  %-18s %s\n", "stopped", sb->flags & SUPERBLOCK_CLEAN ? "cleanly" : "not cleanly");
    printf("  %-18s %" PRIu64 "\n", "device bytes", sb->device_bytes);
    printf("  %-18s %" PRIu64 "\n", "segment bytes", sb->segment_bytes);
    printf("  %-18s %u of %u segments\n", "shards", sb->shard_count, sb->segments_per_shard);
    printf("  %-18s %u\n", "next volume id", sb->next_volume_id);
    printf("  %-18s %u", "retired segments", sb->retired_count);
    for (uint32_t i = 0; i < sb->retired_count; i++)
        printf("%s%u", i == 0 ? ": " : ", ", sb->retired[i]);
    putchar('\n');
    for (uint32_t i = 0; i < sb->shard_count; i++)
        printf("shard %u: watermark %s, durable %s\n", i,
               lsn_text(watermark, sb->shards[i].watermark),
               lsn_text(durable, sb->shards[i].durable_lsn));
    dump_volumes(sb);
}

/* ---- entries -------------------------------------------------------------------------------- */

static const char *kind_text(uint8_t kind)
{
    switch (kind) {
    case ENTRY_DIRTY: return "dirty";
    case ENTRY_CLEAN: return "clean";
    case ENTRY_ZERO: return "zero";
    case ENTRY_ABSENT: return "absent";
    default: return "unknown";
    }
}

/* Whether `next` goes on where the run of `count` entries from `first` ends. */
static bool follows(const struct entry *first, uint32_t count, const struct entry *next)
{
    return next->volume == first->volume && next->kind == first->kind &&
           next->flags == first->flags && next->epoch == first->epoch && next->count == 1 &&
           first->count == 1 && next->block == first->block + count &&
           next->lsn == first->lsn + count && next->slot == first->slot + count;
}

static uint32_t bad_data(const struct image_segment *segment, const struct entry *entries,
                         uint32_t count)
{
    uint32_t bad = 0;

    for (uint32_t i = 0; i < count; i++) {
        bool inside = entries[i].slot < segment->slots;

        bad +=
            entry_has_data(&entries[i]) && (!inside || !image_slot_matches(segment, &entries[i]));
    }
    return bad;
}

static void dump_run(const struct image_segment *segment, const struct entry *first, uint32_t count)
{
    uint64_t blocks = count > 1 ? count : first->count;
    uint32_t bad = bad_data(segment, first, count);
    char lsn[32];

    printf("      %-6s volume %u, block %" PRIu64, kind_text(first->kind), first->volume,
           first->block);
    if (blocks > 1)
        printf(" to %" PRIu64, first->block + blocks - 1);
    printf(", lsn %s, epoch %" PRIu64, lsn_text(lsn, first->lsn), first->epoch);
    if (first->slot != ENTRY_SLOT_NONE)
        printf(", slot %u", first->slot);
    if (count == 1 && entry_has_data(first))
        printf(", crc %08x", first->crc);
    if (first->flags & ENTRY_HOLE)
        printf(", hole");
    if (first->flags & ENTRY_POISON)
        printf(", poisoned");
    if (bad > 0)
        printf(", %u with wrong data", bad);
    putchar('\n');
}

static void dump_entries(const struct image_segment *segment, const struct entry *entries,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count;) {
        uint32_t run = 1;

        while (i + run < count && follows(&entries[i], run, &entries[i + run]))
            run++;
        dump_run(segment, &entries[i], run);
        i += run;
    }
}

/* ---- segments ------------------------------------------------------------------------------- */

static void dump_batch(const struct image_segment *segment, uint32_t slot,
                       const struct batch_header *header)
{
    char durable[32], watermark[32];

    printf("    batch at slot %u: session %" PRIu64 ", %u entries, %u data blocks, echo of %u "
           "entries at slot %u, durable %s, watermark %s\n",
           slot, header->session, header->entry_count, header->data_blocks, header->echo_count,
           header->echo_slot, lsn_text(durable, header->durable_lsn),
           lsn_text(watermark, header->watermark));
    dump_entries(segment, header->entries, header->entry_count);
}

static void dump_batches(const struct image_segment *segment)
{
    for (uint32_t slot = SEGMENT_HEADER_SLOTS; slot < segment->usable; slot++) {
        const struct batch_header *header;
        enum image_part_state state = image_batch_at(segment, slot, &header);

        if (state == PART_DAMAGED)
            printf("    batch at slot %u: damaged\n", slot);
        if (state != PART_VALID)
            continue;
        dump_batch(segment, slot, header);
        slot += header->slot_count;
    }
}

static uint32_t live_slots(const struct segment_header *header)
{
    uint32_t live = 0;

    for (uint32_t i = 0; i < SEGMENT_MAP_BYTES; i++)
        live += (uint32_t)__builtin_popcount(header->map[i]);
    return live;
}

static void dump_footer(const struct image_segment *segment)
{
    const struct segment_footer *footer = segment->footer;
    char durable[32], watermark[32];

    if (footer == NULL) {
        printf("    footer: %s\n", part_text(segment->footer_state));
        return;
    }
    printf("    footer at slot %u: session %" PRIu64 ", ring %" PRIu64 ", %u entries, durable %s, "
           "watermark %s\n",
           segment->usable, footer->session, footer->ring_sequence, footer->entry_count,
           lsn_text(durable, footer->durable_lsn), lsn_text(watermark, footer->watermark));
    dump_entries(segment, footer->entries, footer->entry_count);
}

static void dump_segment(const struct image_segment *segment)
{
    const struct segment_header *header = segment->header;

    printf("segment %u at byte %" PRIu64 ": shard %u, header copies %s and %s%s\n", segment->number,
           segment->offset, segment->shard, part_text(segment->header_states[0]),
           part_text(segment->header_states[1]), segment->retired ? ", retired" : "");
    if (header != NULL) {
        printf("    header: generation %" PRIu64 ", ring %" PRIu64 ", map sequence %" PRIu64
               ", session %" PRIu64,
               header->generation, header->ring_sequence, header->map_sequence, header->session);
        if (header->map_valid & MAP_VALID)
            printf(", %u live slots in the map", live_slots(header));
        putchar('\n');
    }
    if (segment->generation != 0) {
        dump_batches(segment);
        dump_footer(segment);
    }
}

/* ---- the verb ------------------------------------------------------------------------------- */

/* `only`: one segment, or UINT32_MAX for all that hold something. */
static int dump_segments(struct image *image, uint32_t only)
{
    uint32_t empty = 0;

    for (uint32_t i = 0; i < image_segments(image); i++) {
        struct image_segment segment;
        int error;

        if (only != UINT32_MAX && i != only)
            continue;
        error = image_segment_read(image, i, &segment);
        if (error)
            return error;
        if (only == UINT32_MAX && segment.generation == 0 && !segment.retired &&
            segment.header_states[0] == PART_NONE && segment.header_states[1] == PART_NONE)
            empty++;
        else
            dump_segment(&segment);
    }
    if (empty > 0)
        printf("%u segments were never used\n", empty);
    return 0;
}

static bool parse(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
                  uint32_t *only)
{
    static const struct option options[] = {{"segment", required_argument, NULL, 'n'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        char *end;
        unsigned long number;

        if (option != 'n')
            return false;
        number = strtoul(optarg, &end, 10);
        if (*optarg < '0' || *optarg > '9' || *end != '\0' || number >= UINT32_MAX) {
            ctl_misused(verb, "--segment: \"%s\" is not a number", optarg);
            return false;
        }
        *only = (uint32_t)number;
    }
    return ctl_arguments(verb, argc, 1, 1);
}

enum ctl_exit ctl_dump_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    char why[IMAGE_WHY_BYTES], what[PATH_MAX + 16];
    enum ctl_exit result = CTL_DONE;
    uint32_t only = UINT32_MAX;
    struct image image;
    int error;

    if (!parse(ctl, verb, argc, argv, &only))
        return CTL_USAGE;
    if (ctl->json)
        return ctl_misused(verb,
                           "it is for people, without --json; \"check --json\" is for programs");
    snprintf(what, sizeof(what), "dump %s", argv[optind]);
    if (image_open(&image, argv[optind], false, why) != 0)
        return ctl_fail(what, "%s", why);
    if (image.sb == NULL) {
        result = ctl_fail(what, "%s", image.why);
    } else if (only != UINT32_MAX && only >= image_segments(&image)) {
        result =
            ctl_fail(what, "it has segments 0 to %u, not %u", image_segments(&image) - 1, only);
    } else {
        if (only == UINT32_MAX)
            dump_superblock(&image);
        error = dump_segments(&image, only);
        if (error)
            result = ctl_fail(what, "cannot be read: %s", strerror(-error));
    }
    image_close(&image);
    return result;
}
