/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a shard.
 *
 * A *slot* is 4 KiB of flash.  slots[] has one 16-byte element per flash slot and, after these, one
 * per RAM frame; where a record is, is its index.  Elements with the same bucket are chained;
 * new ones go to the front, so that among the flash slots of one block the newest append comes
 * first.
 *
 * Positions: records of a block are ordered by where they were appended (segment's ring sequence,
 * then slot).  Recovery replays segments in ring order and the last record wins (I13).
 */
#ifndef ENGINE_SHARD_STATE_H
#define ENGINE_SHARD_STATE_H

#include <errno.h>
#include <string.h>

#include "engine/mutants.h"
#include "engine/shard.h"

#define NONE UINT32_MAX

/* ---- slots ------------------------------------------------------------------------------ */

#define USE_BITS 4
#define USE_MAX  15u

enum slot_bits {
    SLOT_USE = USE_MAX,  /* 4-bit use counter, see heat.c */
    SLOT_LINKED = 16,    /* in the index */
    SLOT_PENDING = 32,   /* appended, its batch is not on flash yet: no reader may see it */
    SLOT_DIRTY = 64,     /* newer than the flushed backing store */
    SLOT_ZERO = 128,     /* no data on flash: reads as zeros, or with SLOT_BAD, not at all */
    SLOT_HOLE = 256,     /* with SLOT_ZERO: the backing store may deallocate */
    SLOT_BAD = 512,      /* data failed their CRC: clean ones count as missed, dirty ones are EIO */
    SLOT_WRITTEN = 1024, /* dirty, written to the backing store, not flushed there yet (I4) */
    SLOT_DESTAGING = 2048,  /* in a destage run */
    SLOT_UNREADABLE = 4096, /* dirty, the flash failed to read it: destaging tries it again */
    SLOT_KEPT = 32768,      /* shard_attach_keep */
    SLOT_THROUGH = 16384,   /* a write-through piece brings it to the backing store */
    /* frames only; these share bits with states that a frame never has */
    FRAME_SEQUENTIAL = SLOT_HOLE,   /* read as part of a long run */
    FRAME_DROP = SLOT_UNREADABLE,   /* leaves RAM when the promotion is done */
    FRAME_HIT = SLOT_DESTAGING,     /* used since the hand looked at it */
    FRAME_UNWRITTEN = SLOT_WRITTEN, /* to be written to flash as soon as there is time */
    FRAME_FILLING = 8192,           /* the backing read is under way */
    FRAME_PROMOTING = SLOT_THROUGH, /* in a batch */
    FRAME_DEAD = SLOT_KEPT,         /* out of the index; free as soon as nobody uses it */
};

struct slot {
    uint32_t key_low;
    uint16_t key_high;
    uint16_t bits;
    uint32_t next;
    uint32_t crc;
};
static_assert(sizeof(struct slot) == 16, "an index entry is 16 bytes");

static inline uint64_t key_of(uint16_t volume, uint64_t block)
{
    return (uint64_t)volume << 36 | block;
}

static inline uint64_t slot_key(const struct slot *slot)
{
    return (uint64_t)slot->key_high << 32 | slot->key_low;
}

static inline void slot_key_set(struct slot *slot, uint64_t key)
{
    slot->key_low = (uint32_t)key;
    slot->key_high = (uint16_t)(key >> 32);
}

static inline uint16_t key_volume(uint64_t key)
{
    return (uint16_t)(key >> 36);
}

static inline uint64_t key_block(uint64_t key)
{
    return key & (VOLUME_BLOCKS_MAX - 1);
}

/* ---- frames ----------------------------------------------------------------------------- */

struct frame {
    atomic_uint pins;   /* sends under way, lock-free */
    uint32_t filled_at; /* shard->accesses then: near hits are one request in pieces */
    uint64_t debt;      /* volume's around_writes at the fill (hazard 8) */
};

/* ---- heat ---------------------------------------------------------------------------------- */

#define GHOST_WAYS     16u
#define GHOST_USE_BITS USE_BITS

/* Hits of blocks with each use counter, and how many there were of these when they were looked at;
 * both halved with each round of looking. */
struct heat_levels {
    uint64_t hits[USE_MAX + 1], blocks[USE_MAX + 1];
};

struct heat {
    unsigned bar;       /* least use counter that enters flash */
    uint32_t cursor;    /* next slot to be halved; slot_count: none until the next time */
    uint64_t clock;     /* block accesses, without those of bypassed streams */
    uint64_t aged_at;   /* its value when the last time began */
    uint32_t look;      /* next slot to be looked at; slot_count: none until the next round */
    uint64_t looked_at; /* the clock when the last round began */
    bool measured;      /* one is over */
    struct heat_levels flash, ghosts;
    uint32_t lost[USE_MAX + 1]; /* by the last victim: blocks, by their counters */
    unsigned above;             /* all of these */
};

/* ---- segments --------------------------------------------------------------------------- */

enum segment_state {
    SEGMENT_FREE,    /* nothing needed in it; generation not bumped in this session */
    SEGMENT_READY,   /* bumped: may be opened */
    SEGMENT_OPEN,    /* appended to */
    SEGMENT_CLOSING, /* full: waits for its batches, then for its footer */
    SEGMENT_CLOSED,  /* in the ring */
    SEGMENT_VICTIM,  /* being reclaimed or kept */
    SEGMENT_RETIRED, /* never used again */
};

struct segment {
    uint64_t generation;
    uint64_t ring_sequence;
    uint64_t map_sequence;
    uint64_t lsn_first; /* no dirty record in it has a smaller LSN */
    uint64_t lsn_last;  /* recovery: the largest LSN in it */
    uint64_t opened_ns;
    atomic_uint users;  /* flash reads and runs that rely on its content (I7) */
    uint32_t live;      /* linked slots */
    uint32_t dirty;     /* of these, dirty */
    uint32_t next_slot; /* OPEN: where the next batch goes */
    uint32_t batches;   /* opened or under way */
    uint32_t ring_prev, ring_next;
    uint8_t state;
    bool failed;    /* a write to it failed: retire it instead of reusing it */
    bool verdict;   /* a header of it was lost: MAP_VERDICT */
    bool untrusted; /* ... a batch, and no footer says yet that its entries do not count */
    uint8_t footer; /* OPEN, CLOSING: index of its footer buffer, or FOOTER_NONE: it gets none */
    uint8_t found;  /* recovery: enum found_bits */
};

#define GENERATIONS      1024u
#define RING_SPACING     65536u
#define RING_MAX         (UINT64_MAX / 2) /* recovery believes no larger place: there is room behind it */
#define RESERVE_SEGMENTS 2u               /* only reclaim may open these (C10) */
#define FOOTER_NONE      UINT8_MAX
#define FOOTER_BUFFERS   4u

/* Generations are session << GENERATION_SESSION_SHIFT | count. */
#define GENERATION_SESSION_SHIFT 32

struct footer_buffer {
    struct flash_write write;      /* first: actions carry its address */
    struct segment_footer *footer; /* footer_slots blocks */
    uint32_t segment;              /* NONE: free */
};

struct header_buffer {
    struct flash_write write;
    struct segment_header *header;
};

/* What an I/O that belongs to no piece is for: in `first` of its action. */
enum tag {
    TAG_BATCH = 1,
    TAG_FOOTER,
    TAG_CLOSING, /* flash flush before the footer; `slot` is the segment */
    TAG_DESTAGE,
    TAG_RECLAIM,
    TAG_RECOVERY,
};

/* ---- batches ---------------------------------------------------------------------------- */

enum batch_state {
    BATCH_FREE,
    BATCH_OPEN,
    BATCH_WRITING,
    BATCH_FAILED
};

struct batch {
    struct flash_write write; /* first: actions carry its address */
    struct batch_header *header;
    struct batch *next;
    uint64_t lsn_first; /* next_lsn when it was opened, or less after a failure */
    uint64_t opened_ns;
    uint32_t segment;
    uint32_t header_slot;  /* within the segment */
    uint32_t footer_first; /* index of its first entry in the footer buffer */
    uint32_t data_blocks;
    uint32_t slot_count;
    uint16_t core;
    uint8_t state;
    bool fua;
    bool urgent; /* somebody waits: it is not only clean entries */
    bool has_zeros;
    struct piece
        *pieces[BATCH_ENTRIES_MAX];     /* whose entry it is, or NULL; a piece's are adjacent */
    uint32_t slots[BATCH_ENTRIES_MAX];  /* NONE for ENTRY_ABSENT */
    uint32_t frames[BATCH_ENTRIES_MAX]; /* promoted frame or NONE */
    unsigned char *data[BATCH_ENTRIES_MAX];
    bool reinserted[BATCH_ENTRIES_MAX];
};

/* ---- destaging -------------------------------------------------------------------------- */

#define DESTAGE_RUNS   8u
#define WRITING_MAX    256u /* pieces of clients with a backing write under way */
#define DESTAGE_WINDOW 512u
#define WRITTEN_MAX    8192u /* blocks written to a backing store and not flushed there */

/* A stretch of blocks that somebody writes to the backing store: at most one per block (I22). */
struct run {
    struct run *next; /* active or free */
    uint64_t key;     /* first block */
    uint32_t count;
    uint32_t ios;
    uint32_t flush_failures; /* the volume's when it began to write */
    uint64_t bad_mask;       /* blocks that could not be read from flash */
    bool zero, hole;
    int error;
    unsigned char *buffer; /* REGION_BLOCKS blocks */
    uint32_t slots[REGION_BLOCKS];
};

struct window_item {
    uint64_t key;
    uint32_t slot;
};

enum destage_state {
    DESTAGE_IDLE,
    DESTAGE_FLUSHING,
    DESTAGE_ISSUING
};

struct destage {
    uint8_t state;
    bool flush_backing_busy;
    uint32_t window_count, window_next;
    uint32_t gather_next; /* segment to go on with, NONE: the oldest */
    struct window_item *window;
    struct run *runs; /* all of them */
    struct run *free, *active;
    uint32_t active_count;
    uint32_t *written; /* ring of slots, WRITTEN_MAX */
    uint32_t written_head, written_count;
    uint32_t flush_count; /* the flush under way covers these many from the head */
    uint16_t flush_volume;
    uint64_t candidate; /* watermark once the flash flush under way is done */
    uint64_t block_ns;  /* smoothed cost of one destaged block, for pacing */
    uint64_t last_done_ns;
    uint64_t retry_ns;
    uint64_t flush_due_ns, around_due_ns;
    uint64_t flush_around; /* the volume's around_writes when the flush under way was asked for */
    bool watermark_flushing;
    /* What the flash did not return is tried again from this slot on, then, and so much later. */
    uint32_t unreadable_next;
    uint64_t unreadable_due_ns, unreadable_ns;
    /* None of them was returned since, as far as was tried until. */
    uint64_t unreadable_since_ns, unreadable_until_ns;
};

/* ---- reclaim ---------------------------------------------------------------------------- */

enum reclaim_state {
    RECLAIM_IDLE,
    RECLAIM_FOOTER, /* reading the victim's footer for LSNs */
    RECLAIM_READ,   /* reading hot blocks */
    RECLAIM_APPEND, /* waiting for log room, or for the batches with reinserted blocks */
    RECLAIM_FLUSH,  /* flash flush before anything is given up (hazard 3) */
    RECLAIM_HEADER_A,
    RECLAIM_HEADER_B,
    RECLAIM_RETIRE,
    RECLAIM_DRAIN, /* dropping what is left in the victim, then waiting for its readers */
};

struct reclaim {
    uint8_t state;
    bool keep;       /* kept in place instead of reclaimed */
    bool compact;    /* its dirty blocks, which cannot be destaged now, are reinserted, too */
    bool never_used; /* the victim was free: only its generation is bumped */
    bool hot;        /* the victim has blocks to be reinserted */
    uint32_t victim;
    uint32_t left;          /* the last victim that could not be emptied: it is kept. NONE */
    uint32_t cursor;        /* next slot of the victim to look at */
    uint32_t footer_cursor; /* next entry of its footer to look at */
    uint32_t read_slot, read_count;
    uint64_t bad_mask;
    uint64_t generation, ring_sequence; /* the victim's afterwards */
    uint32_t outstanding;               /* reinserted entries in batches */
    uint32_t kept_since_open;
    uint32_t passed;           /* segments kept since the last reclaimed one */
    uint32_t fruitless_rounds; /* of the hand, since then */
    uint64_t retry_ns;
    struct segment_footer *footer; /* footer_slots blocks */
    unsigned char *buffer;         /* BATCH_ENTRIES_MAX blocks */
    struct header_buffer header;
};

/* ---- recovery: see recover.c ------------------------------------------------------------ */

enum found_bits {
    FOUND_FOOTER = 1,   /* its entries are in slots[], not linked yet */
    FOUND_SCAN = 2,     /* no footer: batches are looked for */
    FOUND_REPLAY = 4,   /* entries must be replayed one by one from the footer */
    FOUND_REPAIR = 8,   /* a header copy is missing or old */
    FOUND_MAP = 16,     /* the live map limits it */
    FOUND_LOST = 32,    /* its header is lost, see recover-lost.c */
    FOUND_VERDICT = 64, /* it was lost earlier, and now the footer that said what counts */
};

#define RECOVERY_DEPTH 16u
#define SCRATCH_BYTES  (DESTAGE_RUNS * REGION_BLOCKS * BLOCK_BYTES)

struct recovery_area { /* one segment's metadata being read */
    uint32_t segment;  /* NONE: unused */
    uint32_t pending;
    bool failed;
    unsigned attempts, headers_lost;
    unsigned char *headers, *footer;
};

enum recovery_state {
    RECOVERY_METADATA, /* headers and footers of all segments */
    RECOVERY_SURVEY,   /* batch headers of segments without a footer */
    RECOVERY_REPLAY,   /* all segments in ring order */
    RECOVERY_REPLAY_IO,
    RECOVERY_REPAIR,
    RECOVERY_REPAIR_IO,
    RECOVERY_FLUSH,
    RECOVERY_DONE,
};

struct recovery {
    uint8_t state;
    bool replaying; /* a scan applies what it finds; else it only surveys */
    uint32_t next;  /* segment (METADATA, SURVEY, REPAIR) or place in `order` (REPLAY) */
    uint32_t area_count, areas_busy;
    struct recovery_area areas[RECOVERY_DEPTH];
    uint32_t order_count;
    /* scan of one segment, chunk by chunk */
    uint32_t scan_segment, scan_slot, chunk_slot, chunk_slots, previous_slot;
    uint64_t expected_lsn; /* that the next batch must have; 0: the segment's first is due */
    bool in_gap, scan_any;
    unsigned attempts;
    unsigned repair_step;
    uint64_t watermark, durable_lsn, ring_max;
    uint64_t unknown_lost, unknown_lost_at; /* lost records of unknown blocks: segments, offset */
    const struct segment_header *map; /* limits the segment being scanned; NULL: nothing does */
};

/* ---- volumes ---------------------------------------------------------------------------- */

/* An epoch of which something is dirty in this shard. */
struct epoch {
    uint64_t number;   /* 0: what was recovered */
    uint64_t ended_ns; /* 0: not yet */
    uint64_t count;    /* slots: dirty and in good order, or pending */
};

struct epochs { /* NULL in a volume: not ordered */
    struct epoch *ring;
    uint16_t first; /* sequence number of the oldest; a slot's tag is that of its epoch */
    uint32_t count;
    uint64_t now;           /* what new records get */
    uint64_t oldest;        /* what may be destaged */
    uint64_t written;       /* slots with SLOT_WRITTEN */
    uint64_t opened_ns;     /* when `oldest` changed */
    uint64_t broken;        /* until it is destaged, the backing store alone is not consistent */
    bool changed;           /* perhaps nothing of the oldest is left */
    bool told_failing;      /* what was reported last */
    bool failing_elsewhere; /* another shard cannot destage */
};

#define EPOCHS_MAX 2048u /* of a volume, in one shard */

struct shard_volume {
    struct volume_policy policy;
    struct epochs *epochs;
    struct counters counters;
    struct mrc *mrc; /* NULL: nobody asks */
    uint64_t dirty, lost, unreadable;
    uint64_t live;                 /* published slots */
    uint64_t pinned;               /* of these, those in pinned ranges */
    uint64_t share_min, share_max; /* slots */
    uint32_t dirty_limit_percent;
    uint64_t records_lost, records_lost_at; /* recovery: see recover-lost.c; offset on flash */
    uint64_t around_writes, around_flushed; /* unflushed writes on the backing store (hazard 8) */
    uint32_t flush_failures;                /* of the backing store, as the shard was told */
    uint64_t debt_lost_after, debt_lost;    /* fills with a debt between may be of lost writes */
    uint64_t backoff_until_ns, backoff_ns;  /* destage errors */
    bool failing;
    uint64_t failing_since_ns;
    bool destage_all;
    bool pass; /* shard_pass_through */
    uint32_t stalled;
    uint16_t id;
};

/* ---- the shard -------------------------------------------------------------------------- */

struct piece_list {
    struct piece *first, **last;
    uint32_t count;
};

struct shard {
    struct shard_config config;
    uint64_t now_ns;
    uint32_t segment_slots, segment_shift, footer_slots, usable_end;
    uint32_t slot_count; /* flash slots; frames follow */
    uint32_t frame_count;

    struct slot *slots;
    uint16_t *tags; /* by slot: sequence number of its epoch; NULL: no volume is ordered */
    struct epochs *epochs;
    struct epoch *epoch_pool;
    uint32_t epochs_used;
    bool epochs_changed;
    uint32_t *buckets;
    uint32_t bucket_count;
    uint64_t index_inserts; /* so many entries came */

    struct frame *frames;
    uint32_t frame_free_first, frame_free_last, frames_free, frame_hand;
    uint32_t frames_unwritten, frame_write_hand;
    uint16_t *ghosts;
    uint32_t ghost_sets;
    struct heat heat;
    uint32_t accesses;
    uint32_t generations[GENERATIONS]; /* counts writes by region: was a missed block written while
                                          it was read? */

    struct segment *segments;
    uint32_t ring_oldest, ring_newest;
    uint32_t ready_count, free_count, retired_count;
    uint32_t closing_count;
    uint32_t dirty_segments;
    uint32_t open_segment; /* NONE */
    uint64_t ring_next;
    uint64_t generation_next;
    struct footer_buffer footers[FOOTER_BUFFERS];

    uint64_t next_lsn, durable_lsn, watermark;
    /* Volatile flash: completed batches that were not written durably and no flush has covered have
     * LSNs from here to there; UINT64_MAX and 0: none. */
    uint64_t volatile_first, volatile_last;
    uint64_t marked_durable, marked_watermark; /* in the last batch header written */
    uint64_t last_append_ns;
    uint64_t last_write_ns; /* the last record of a client's write was appended; 0: none yet */
    struct batch *batches;
    uint32_t batch_count, batches_free;
    struct batch *batch_free;
    struct batch *batch_open;
    struct batch *batch_failed; /* to be appended again elsewhere, in order */
    uint32_t *writing_by_core;
    struct entry echo[BATCH_ENTRIES_MAX];
    uint32_t echo_count, echo_slot, echo_slot_count;
    uint64_t echo_lsn;
    uint32_t write_failures; /* in a row */
    uint32_t untrusted_count;
    bool room_short; /* a stalled piece waits for log room, not only for its volume's limit */
    bool flash_failed, flash_failed_told;
    bool flash_lost;      /* shard_flash_lost: which blocks are dirty is about to be fixed */
    bool held, draining;  /* shard_attach_drain */
    uint32_t held_pieces; /* of write-through: logged, not answered yet */

    struct piece_list stalled; /* writes waiting for log room, first come first served */
    struct piece_list blocked; /* waiting for a pending write, merge or backing write of a block */
    struct piece_list paced;   /* finished writes whose reply is delayed */
    struct piece *merging;     /* active pieces, see write.c; by active_next */
    struct piece *reading;     /* with a backing read under way; by active_next */
    struct piece *writing[WRITING_MAX]; /* pieces with a backing write under way */
    uint32_t writing_count;
    bool unblock; /* something that `blocked` waits for has happened */

    bool shares;         /* some volume has one, or pins */
    bool pins;           /* some volume has pinned ranges */
    uint64_t promised;   /* sum of the volumes' share_min */
    uint64_t pinned;     /* published slots in pinned ranges, of those below ... */
    uint32_t pin_cursor; /* slot_count: all are counted */
    uint64_t live_blocks, dirty_blocks;
    uint64_t lost_blocks; /* dirty and unreadable: only a rewrite helps */
    struct destage destage;
    struct reclaim reclaim;
    struct recovery recovery;
    struct window_item *order; /* recovery: segments by ring sequence */
    unsigned char *scratch;    /* SCRATCH_BYTES: the runs' buffers */
    bool recovering, failed, stopping, stop_footer;
    uint64_t recovery_entries;
    int error;

    uint64_t tick_ns;
    size_t memory_bytes;

    struct flash_counters counters;
    uint16_t volume_count;
    uint8_t volume_index[VOLUME_ID_MAX + 1]; /* 255: none */
    struct shard_volume *volumes;
};
static_assert(VOLUMES_MAX < 255, "a volume's index fits a byte");

#endif
