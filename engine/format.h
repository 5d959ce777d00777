/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on flash.  docs/flash-format.md explains every field; this file is the definition.
 *
 *   0            64 KiB        1 MiB                                    end-64 KiB     end
 *   | superblock | unused ...  | segment 0 | segment 1 | ... | unused   | superblock   |
 *
 *   one segment, in slots of 4 KiB:
 *   | header A | header B | batch | batch | ... (gap allowed) | footer (fixed size, at the end) |
 *   one batch:
 *   | header: entries and an echo of the previous batch's entries | data block | data block | ...
 *
 * All integers are little-endian.  Sizes and offsets are checked at compile time.  Everything
 * read from flash is untrusted until its magic, UUID, generation, own position and CRC matched
 * (I8).
 */
#ifndef ENGINE_FORMAT_H
#define ENGINE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#    error "the on-flash structures are used in place: only little-endian machines are supported"
#endif

#define BLOCK_BYTES       4096u
#define BLOCK_SHIFT       12
#define SECTOR_BYTES      512u

#define FORMAT_VERSION    1u
#define SUPERBLOCK_BYTES  65536u
#define DATA_OFFSET       (1u << 20) /* bytes from the start of the device to segment 0 */
#define SEGMENT_BYTES_MIN (256u << 10)
#define SEGMENT_BYTES_MAX (64u << 20)
#define SHARDS_MAX        256u
#define VOLUMES_MAX       220u
#define VOLUME_ID_MAX     4095u /* 12 bits in an index entry; ids are never used again */
#define VOLUME_BLOCKS_MAX (UINT64_C(1) << 36)
#define RETIRED_MAX       1024u
#define VOLUME_NAME_BYTES 128u /* including the terminating NUL */

#define SUPERBLOCK_MAGIC  "blkcached flash"            /* 15 characters and the NUL */
#define SEGMENT_MAGIC     UINT64_C(0x314745534b4c4221) /* "!BLKSEG1" */
#define BATCH_MAGIC       UINT64_C(0x315441424b4c4221) /* "!BLKBAT1" */
#define FOOTER_MAGIC      UINT64_C(0x31544f464b4c4221) /* "!BLKFOT1" */

/* A log sequence number is session << LSN_SESSION_SHIFT | count: because the session is made
 * durable before anything is appended, no LSN is ever issued twice (I18, hazard 6). */
#define LSN_SESSION_SHIFT 40

/* ---- superblock ------------------------------------------------------------------------- */

enum superblock_flags {
    SUPERBLOCK_CLEAN = 1, /* stopped cleanly: every segment has a footer, nothing was in flight */
};

struct superblock_shard {
    uint64_t watermark;   /* every record at or below is garbage or on the flushed backing store */
    uint64_t durable_lsn; /* every record at or below is durable */
};

enum volume_state {
    VOLUME_FREE = 0,
    VOLUME_ACTIVE = 1
};

struct superblock_volume {
    char name[VOLUME_NAME_BYTES];
    uint8_t uuid[16];
    uint8_t backing_identity[16]; /* hashes: of its name, and of what else tells it */
    uint64_t bytes;
    uint64_t attachment_epoch; /* compared with the state directory's: see DESIGN hazard 16 */
    uint64_t floor_lsn;        /* records of this volume below it are dead (hazard 9) */
    uint16_t id;
    uint8_t state;
    uint8_t mode;
    uint8_t reserved[68];
};
static_assert(sizeof(struct superblock_volume) == 256, "superblock_volume is 256 bytes");

struct superblock {
    char magic[16];
    uint32_t version;
    uint32_t crc; /* CRC-32C of all SUPERBLOCK_BYTES with this field zero */
    uint8_t uuid[16];
    uint64_t sequence; /* the valid copy with the larger one is current */
    uint64_t session;  /* counts starts; bumped durably in both copies before serving */
    uint64_t device_bytes;
    uint64_t segment_bytes;
    uint32_t shard_count;
    uint32_t segments_per_shard; /* shard s owns segments [s * n, (s + 1) * n) */
    uint32_t flags;
    uint32_t retired_count;
    uint32_t next_volume_id;
    uint32_t reserved0;
    uint8_t replaces[16]; /* UUID of the cache that formatting overwrote, or zeros */
    uint8_t reserved[400];
    struct superblock_shard shards[SHARDS_MAX];
    uint32_t retired[RETIRED_MAX]; /* segment numbers never to be used or believed again */
    struct superblock_volume volumes[VOLUMES_MAX];
    uint8_t padding[512];
};
static_assert(offsetof(struct superblock, crc) == 20, "superblock crc at 20");
static_assert(offsetof(struct superblock, shards) == 512, "superblock tables at 512");
static_assert(sizeof(struct superblock) == SUPERBLOCK_BYTES, "superblock is 64 KiB");

/* ---- entries ---------------------------------------------------------------------------- */

enum entry_kind {
    ENTRY_DIRTY = 1,  /* data block; dirty unless at or below the shard's watermark */
    ENTRY_CLEAN = 2,  /* data block, on the flushed backing store before it was appended (I21) */
    ENTRY_ZERO = 3,   /* reads as zeros; its slot holds nothing; dirty like ENTRY_DIRTY */
    ENTRY_ABSENT = 4, /* no slot: records of [block, block + count) with a smaller LSN are dead */
};

enum entry_flags {
    ENTRY_HOLE = 1, /* with ENTRY_ZERO: the backing store may deallocate */
    ENTRY_POISON =
        2, /* the data failed its CRC below the durable mark (I24); with ENTRY_ZERO it was moved */
};

#define ENTRY_SLOT_NONE UINT32_MAX

struct entry {
    uint64_t lsn;
    uint64_t epoch; /* the volume's flush epoch when appended */
    uint64_t block; /* 4 KiB block of the volume, 36 bits */
    uint32_t crc;   /* CRC-32C of the 4 KiB of data */
    uint32_t slot;  /* slot within the segment, ENTRY_SLOT_NONE without one */
    uint16_t volume;
    uint8_t kind;
    uint8_t flags;
    uint32_t count; /* blocks: 1, or the range of ENTRY_ABSENT */
};
static_assert(sizeof(struct entry) == 40, "entry is 40 bytes");

/* ---- batch ------------------------------------------------------------------------------ */

#define BATCH_ENTRIES_MAX 49u

struct batch_header {
    uint64_t magic;
    uint8_t uuid[16];
    uint64_t generation;    /* of the segment */
    uint64_t ring_sequence; /* of the segment */
    uint64_t offset;        /* of this header on the device, bytes: no copy elsewhere is believed */
    uint64_t session;
    uint64_t durable_lsn; /* all of this shard up to here is durable */
    uint64_t watermark;
    uint32_t crc; /* of the whole 4 KiB with this field zero */
    uint16_t shard;
    uint16_t entry_count;
    uint16_t echo_count;  /* entries of the previous batch in this segment, so that one rotten
                             header below the durable mark hides nothing (I24) */
    uint16_t data_blocks; /* blocks that follow the header on flash */
    uint32_t echo_slot;   /* slot of the previous batch's header, 0 without one */
    uint32_t slot_count;  /* slots this batch owns after its header (zeros own slots, too) */
    uint32_t echo_slot_count;
    uint64_t lsn; /* of the batch itself, below those of its new entries; 0 without entries: at or
                          below the durable mark, all of the batch was durable */
    uint64_t echo_lsn; /* the same of the previous batch */
    uint8_t reserved[16];
    struct entry entries[BATCH_ENTRIES_MAX];
    struct entry echo[BATCH_ENTRIES_MAX];
    uint8_t padding[48];
};
static_assert(offsetof(struct batch_header, crc) == 72, "batch crc at 72");
static_assert(offsetof(struct batch_header, entries) == 128, "batch entries at 128");
static_assert(sizeof(struct batch_header) == BLOCK_BYTES, "batch header is one block");

/* ---- segment ---------------------------------------------------------------------------- */

#define SEGMENT_HEADER_SLOTS 2u
#define SEGMENT_MAP_BYTES    3584u
#define SEGMENT_SLOTS_MAX    (SEGMENT_BYTES_MAX / BLOCK_BYTES)
static_assert(SEGMENT_SLOTS_MAX <= SEGMENT_MAP_BYTES * 8, "a live map covers the largest segment");

#define MAP_VALID   1u
#define MAP_VERDICT 2u

/* Written to slot 0, then to slot 1, each durable before the next step.  The valid copy with the
 * larger (generation, map_sequence) holds. */
struct segment_header {
    uint64_t magic;
    uint8_t uuid[16];
    uint64_t generation;    /* footers and batches of another generation are dead (hazard 2) */
    uint64_t ring_sequence; /* 0: as the batches say; else the place the segment was kept at */
    uint64_t map_sequence;  /* counts rewrites within a generation */
    uint64_t session;
    uint32_t segment; /* number on the device */
    uint16_t shard;
    uint16_t map_valid; /* MAP_VALID: only slots set in the map are live (hazard 1); MAP_VERDICT:
                           only what the footer says counts, as a header was lost once */
    uint32_t crc;       /* of the whole 4 KiB with this field zero */
    uint8_t reserved[444];
    uint8_t map[SEGMENT_MAP_BYTES]; /* one bit per slot */
};
static_assert(offsetof(struct segment_header, crc) == 64, "segment crc at 64");
static_assert(offsetof(struct segment_header, map) == 512, "segment map at 512");
static_assert(sizeof(struct segment_header) == BLOCK_BYTES, "segment header is one block");

struct segment_footer {
    uint64_t magic;
    uint8_t uuid[16];
    uint64_t generation;
    uint64_t ring_sequence;
    uint64_t session;
    uint64_t durable_lsn;
    uint64_t watermark;
    uint32_t crc; /* of the used bytes (this structure and entry_count entries), this field zero */
    uint32_t segment;
    uint16_t shard;
    uint16_t reserved0;
    uint32_t entry_count;
    uint64_t lsn_last; /* the last that was issued when its last batch was written */
    uint8_t reserved[40];
    struct entry entries[];
};
static_assert(offsetof(struct segment_footer, entries) == 128, "footer entries at 128");

/* Slots that a footer takes at the end of a segment of this many slots. */
static inline uint32_t footer_slots(uint32_t segment_slots)
{
    return (uint32_t)((sizeof(struct segment_footer) +
                       (uint64_t)segment_slots * sizeof(struct entry) + BLOCK_BYTES - 1) /
                      BLOCK_BYTES);
}

#endif
