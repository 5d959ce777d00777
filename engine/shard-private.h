/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a shard, shared by the files of engine/.
 *
 *   index.c           slots and their hash chains: which record is a block's newest
 *   ram.c             RAM frames, promotion to flash
 *   heat.c            use counters: what enters flash, and what stays; ghost.c: of what left
 *   share.c           what of the flash each volume may take, and cannot lose
 *   log.c             appending: batches and the open segment
 *   log-end.c         batches that are on flash or failed; closing segments
 *   read.c            reads, fills, healing
 *   write.c           writes and zeros: admission, waiting, pacing
 *   write-merge.c     partial blocks
 *   write-backing.c   write-through, write-around
 *   loss.c            the flash failed, is not there, or came back
 *   destage.c         dirty blocks to the backing store; destage-flush.c: its flush, watermark
 *   epoch.c           ordered destaging: which epoch a dirty slot belongs to
 *   reclaim.c         the hand: generation bumps, kept segments
 *   reclaim-copy.c    reinsertion
 *   recover.c         from flash to index; recover-scan.c: segments without a footer;
 *                     recover-lost.c: without a header; recover-repair.c: header copies, and
 *                     the start
 *   shard.c    events in, actions out
 *
 * A *slot* is 4 KiB of flash.  slots[] has one 16-byte element per flash slot and, after these, one
 * per RAM frame; where a record is, is its index.  Elements with the same bucket are chained;
 * new ones go to the front, so that among the flash slots of one block the newest append comes
 * first.
 *
 * Positions: records of a block are ordered by where they were appended (segment's ring sequence,
 * then slot).  Recovery replays segments in ring order and the last record wins (I13).
 */
#ifndef ENGINE_SHARD_PRIVATE_H
#define ENGINE_SHARD_PRIVATE_H

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
    SLOT_ZERO = 128,     /* reads as zeros, no data on flash */
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

struct heat {
    unsigned bar;     /* least use counter that enters flash */
    uint32_t cursor;  /* next slot to be halved; slot_count: none until the next time */
    uint64_t clock;   /* block accesses, without those of bypassed streams */
    uint64_t aged_at; /* its value when the last time began */
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
    FOUND_FOOTER = 1, /* its entries are in slots[], not linked yet */
    FOUND_SCAN = 2,   /* no footer: batches are looked for */
    FOUND_REPLAY = 4, /* entries must be replayed one by one from the footer */
    FOUND_REPAIR = 8, /* a header copy is missing or old */
    FOUND_MAP = 16,   /* the live map limits it */
    FOUND_LOST = 32,  /* its header is lost, see recover-lost.c */
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

    bool shares; /* some volume has one */
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

    uint16_t volume_count;
    uint8_t volume_index[VOLUME_ID_MAX + 1]; /* 255: none */
    struct shard_volume *volumes;
};
static_assert(VOLUMES_MAX < 255, "a volume's index fits a byte");

/* ---- shard.c ---------------------------------------------------------------------------- */

struct action *action_add(struct actions *out, enum action_kind kind);
void action_reply(struct actions *out, struct piece *piece, int error);
void action_notice(struct actions *out, enum notice notice, uint16_t volume, uint64_t offset);
struct shard_volume *shard_volume(const struct shard *shard, uint16_t id); /* NULL: none */
void tick_want(struct shard *shard, uint64_t at_ns);
void piece_list_init(struct piece_list *list);
void piece_list_push(struct piece_list *list, struct piece *piece);
struct piece *piece_list_pop(struct piece_list *list);
/* Takes out the piece that *link, in the list, points at. */
struct piece *piece_list_cut(struct piece_list *list, struct piece **link);
void metadata_count(struct shard *shard, uint64_t bytes);
static inline bool actions_full(const struct actions *out)
{
    return out->count > ACTIONS_MAX - 160;
}

/* ---- index.c ---------------------------------------------------------------------------- */

void index_insert(struct shard *shard, uint32_t id, uint64_t key);
void index_remove(struct shard *shard, uint32_t id);
/* What a reader gets: the RAM frame of the block, else its newest published flash slot, else NONE.
 * A frame still filling is not returned. */
uint32_t index_lookup(const struct shard *shard, uint64_t key);
uint32_t index_flash(const struct shard *shard, uint64_t key);  /* flash slot only */
uint32_t index_older(const struct shard *shard, uint32_t slot); /* of the same block; NONE */
bool index_pending(const struct shard *shard, uint64_t key);    /* a write is under way */
uint32_t index_frame(const struct shard *shard, uint64_t key);  /* any linked frame, filling too */
/* Whether a record of the same block was appended after this flash slot and is on flash. */
bool index_superseded(const struct shard *shard, uint32_t slot);
/* The flash slot of the block that was appended next after this one and is pending, or NONE. */
uint32_t index_newer_pending(const struct shard *shard, uint32_t slot);
void index_publish(struct shard *shard, uint32_t slot);
/* Takes a published flash slot out of the index, with all its accounting. */
void index_drop(struct shard *shard, uint32_t slot);
/* Drops published slots of the block that were appended before position (ring, slot). */
void index_drop_before(struct shard *shard, uint64_t key, uint64_t ring, uint32_t slot_in_segment);
void slot_clean(struct shard *shard, uint32_t slot);
void slot_dirty(struct shard *shard, uint32_t slot);
void slot_lost(struct shard *shard, uint32_t slot, int change);
void slot_unreadable(struct shard *shard, uint32_t slot, bool unreadable);

static inline bool is_frame(const struct shard *shard, uint32_t id)
{
    return id >= shard->slot_count;
}

static inline struct segment *slot_segment(struct shard *shard, uint32_t slot)
{
    return &shard->segments[slot >> shard->segment_shift];
}

static inline uint32_t slot_in_segment(const struct shard *shard, uint32_t slot)
{
    return slot & (shard->segment_slots - 1);
}

static inline uint64_t segment_offset(const struct shard *shard, uint32_t segment)
{
    return DATA_OFFSET +
           (uint64_t)(shard->config.segment_first + segment) * shard->config.segment_bytes;
}

static inline uint64_t slot_offset(const struct shard *shard, uint32_t slot)
{
    return segment_offset(shard, 0) + (uint64_t)slot * BLOCK_BYTES;
}

/* ---- ram.c ------------------------------------------------------------------------------ */

void ram_init(struct shard *shard);
uint32_t *ram_generation(struct shard *shard, uint64_t key);
uint32_t ram_take(struct shard *shard, uint64_t key, bool sequential); /* filling, or NONE */
void ram_filled(struct shard *shard, uint32_t id, uint32_t crc);
void ram_hit(struct shard *shard, uint32_t id);
void ram_drop(struct shard *shard, uint64_t key); /* the block's frame is out of date */
void ram_promoted(struct shard *shard, uint32_t id);
void ram_make_room(struct shard *shard, uint32_t frames, struct actions *out);
void ram_reserve(struct shard *shard, struct actions *out);
void ram_write(struct shard *shard, struct actions *out); /* to flash, what there is time for */

/* ---- heat.c, ghost.c ---------------------------------------------------------------------- */

/* Whether the clean block in this frame goes to flash when it leaves RAM. */
bool heat_admits(const struct shard *shard, const struct slot *frame);
/* Chooses at most `most` clean blocks of the victim that are to be appended again: the use counters
 * of the others are 0 then.  Returns their number; NONE: too many blocks are used too often. */
uint32_t heat_cull(struct shard *shard, uint32_t segment, uint32_t most);
/* How many clean blocks of the segment must stay because of their volumes' shares; when that is more than
 * may be appended again, the segment is no victim. */
uint32_t heat_owed(const struct shard *shard, uint32_t segment);
/* Whether one of the next segments in the ring would cost clearly fewer hits than this one. */
bool heat_cheaper_ahead(const struct shard *shard, uint32_t segment);
#define KEEP_PERCENT \
    60u /* of a victim are appended again at most: bounds the write amplification */
void heat_age(struct shard *shard); /* now and then, not for hits */

void ghost_add(struct shard *shard, uint64_t key, unsigned use); /* 0: nothing to remember */
unsigned ghost_take(struct shard *shard, uint64_t key);          /* how often it was used */
void ghost_age(struct shard *shard, uint32_t first, uint32_t count);

/* It is in the cache and was used. */
static inline void slot_used(struct slot *slot)
{
    slot->bits = (uint16_t)(slot->bits + ((slot->bits & SLOT_USE) < USE_MAX));
}

/* ---- log.c ------------------------------------------------------------------------------ */

struct append {
    uint64_t key;
    uint64_t lsn; /* 0: a new one */
    uint64_t epoch;
    uint8_t kind, flags;
    uint32_t crc;
    uint32_t count;
    unsigned char *data;
    struct piece *piece;
    uint32_t frame; /* promoted from, or NONE */
    uint32_t from;  /* with an LSN: the slot it was in, whose epoch it keeps */
    unsigned use;   /* its use counter to begin with */
    bool reinserted;
    bool fua;
};

#define MARK_IDLE_NS       UINT64_C(500000000) /* after so long without appends the marks are written */
#define CLEAN_BATCH_AGE_NS UINT64_C(1000000000) /* clean entries alone wait so long for others */

void log_setup(struct shard *shard);
void log_hurry(struct shard *shard); /* somebody waits for a pending entry */
void log_mark(struct shard *shard, struct actions *out);
bool log_room(const struct shard *shard, uint32_t entries, bool reclaim);
/* Room for an entry that can wait, with enough left for writes of clients to find theirs. */
bool log_room_idle(const struct shard *shard);
uint32_t log_append(struct shard *shard, const struct append *append, struct actions *out);
void log_seal(struct shard *shard, uint16_t core, struct actions *out);
void log_seal_event(struct shard *shard, uint16_t core, struct actions *out);
void log_batch_done(struct shard *shard, struct batch *batch, int result, struct actions *out);
void log_segment_settled(struct shard *shard, uint32_t segment, struct actions *out);
void log_footer_done(struct shard *shard, struct footer_buffer *buffer, int result,
                     struct actions *out);
void log_closing_flushed(struct shard *shard, uint32_t segment, int result, struct actions *out);
void log_close_segment(struct shard *shard, struct actions *out);
void log_tick(struct shard *shard, struct actions *out);
uint64_t log_completed_lsn(const struct shard *shard);
void log_durable_advance(struct shard *shard, uint64_t lsn);
void log_footer_write(struct shard *shard, struct footer_buffer *buffer, struct actions *out);
void ring_append(struct shard *shard, uint32_t segment);
void ring_insert_before(struct shard *shard, uint32_t segment, uint32_t before);
void ring_remove(struct shard *shard, uint32_t segment);

/* ---- read.c ----------------------------------------------------------------------------- */

void read_request(struct shard *shard, struct piece *piece, struct actions *out);
void read_flash_done(struct shard *shard, const struct event *event, struct actions *out);
void read_backing_done(struct shard *shard, const struct event *event, struct actions *out);
void read_fill_done(struct shard *shard, const struct event *event, struct actions *out);

bool read_slot_bad(struct shard *shard, uint32_t id, uint64_t key, bool mismatch,
                   struct actions *out);

enum write_state {
    WRITE_NEW,          /* may wait in `blocked`; nothing is held */
    WRITE_MERGING,      /* reads old content of its edge blocks */
    WRITE_APPEND,       /* wants log room; may wait in `stalled` */
    WRITE_LOGGED,       /* in batches */
    WRITE_THROUGH_WAIT, /* another backing write of its blocks is under way: in `blocked` */
    WRITE_THROUGH,
    WRITE_ABSENT_APPEND, /* wants log room for its absent record; may wait in `stalled` */
    WRITE_ABSENT,
    WRITE_AROUND_WAIT,
    WRITE_AROUND,
};

/* ---- write.c ---------------------------------------------------------------------------- */

void write_request(struct shard *shard, struct piece *piece, struct actions *out);
void write_logged(struct shard *shard, struct piece *piece, struct actions *out);
void write_merge_done(struct shard *shard, const struct event *event, struct actions *out);
void write_backing_done(struct shard *shard, const struct event *event, struct actions *out);
void write_progress(struct shard *shard, struct actions *out); /* stalled, blocked */
void active_add(struct shard *shard, struct piece *piece);
bool active_overlap(const struct shard *shard, uint64_t key, uint32_t count);
uint64_t dirty_high(const struct shard *shard, const struct shard_volume *volume);
void write_tick(struct shard *shard, struct actions *out); /* paced replies, time-outs */

static inline uint64_t piece_key(const struct piece *piece)
{
    return key_of(piece->volume, piece->block);
}

/* A piece's mask of its blocks [first, first + count). */
static inline uint64_t piece_range(uint32_t first, uint32_t count)
{
    return (count < REGION_BLOCKS ? (UINT64_C(1) << count) - 1 : UINT64_MAX) << first;
}

static inline bool keys_overlap(uint64_t key, uint32_t count, uint64_t other, uint32_t other_count)
{
    return key < other + other_count && other < key + count;
}

static inline bool piece_overlaps(const struct piece *piece, uint64_t key, uint32_t count)
{
    return keys_overlap(piece_key(piece), piece->count, key, count);
}

static inline void mrc_note(const struct shard_volume *volume, const struct piece *piece)
{
    for (uint32_t i = 0; volume->mrc && i < piece->count; i++)
        mrc_access(volume->mrc, piece->block + i, piece->op != PIECE_WRITE);
}

void write_finish(struct shard *shard, struct piece *piece, struct actions *out);
void write_fail(struct shard *shard, struct piece *piece, int error, struct actions *out);
void write_stall(struct shard *shard, struct piece *piece);
/* The old content of its edge blocks is in; error or not. */
void write_merged(struct shard *shard, struct piece *piece, struct actions *out);

/* ---- backing-order.c -------------------------------------------------------------------- */

/* A backing read of these blocks of a read piece is under way. */
void backing_read_begin(struct shard *shard, struct piece *piece, uint32_t first, uint32_t count);
void backing_read_end(struct shard *shard, struct piece *piece, uint32_t first, uint32_t count);
/* A write around the cache of one of its blocks is under way or waits for readers. */
bool backing_read_waits(const struct shard *shard, const struct piece *piece);
bool backing_writers_overlap(const struct shard *shard, uint64_t key, uint32_t count);
/* Backing reads or writes under way of any of these blocks: no write may start. */
bool backing_busy(const struct shard *shard, uint64_t key, uint32_t count);
/* A backing write of the piece's blocks may start now; _begin starts it, until backing_write_end. */
bool backing_write_fits(const struct shard *shard, const struct piece *piece);
bool backing_write_begin(struct shard *shard, struct piece *piece);
void backing_write_end(struct shard *shard, struct piece *piece);

/* write-merge.c */
void write_merge_start(struct shard *shard, struct piece *piece, struct actions *out);

/* write-backing.c */
void write_through_start(struct shard *shard, struct piece *piece, struct actions *out);
void write_around_start(struct shard *shard, struct piece *piece, struct actions *out);
void write_around(struct shard *shard, struct piece *piece, struct actions *out);
void write_absent_append(struct shard *shard, struct piece *piece, struct actions *out);

/* loss.c: a write when the flash has failed. */
void loss_write(struct shard *shard, struct piece *piece, struct actions *out);
/* A flash slot that reads must not use. */
static inline bool loss_bypasses(const struct shard *shard, const struct slot *slot)
{
    return shard->flash_failed && !(slot->bits & SLOT_DIRTY);
}

/* ---- destage.c -------------------------------------------------------------------------- */

void destage_init(struct shard *shard);
void destage_tick(struct shard *shard, struct actions *out);
void destage_read_done(struct shard *shard, const struct event *event, struct actions *out);
void destage_write_done(struct shard *shard, const struct event *event, struct actions *out);
void destage_flash_flushed(struct shard *shard, const struct event *event, struct actions *out);
void window_sort(struct window_item *items, uint32_t count);
bool destage_idle(const struct shard *shard);

/* destage-flush.c */
#define BACKOFF_MIN_NS UINT64_C(100000000)

enum flash_flush_purpose {
    FLUSH_FOR_WINDOW,
    FLUSH_FOR_WATERMARK
};

/* Ends in destage_flash_flushed. */
void destage_flash_flush(enum flash_flush_purpose purpose, struct actions *out);
void destage_watermark_flushed(struct shard *shard, int result);
void destage_backing_flushed(struct shard *shard, const struct event *event, struct actions *out);
void destage_written(struct shard *shard, uint32_t slot,
                     uint32_t flush_failures); /* I4: queue for the next flush */
void destage_flush_consider(struct shard *shard, struct actions *out);
/* A destage write or a flush of the volume's backing store failed, or ended well. */
void destage_volume_failed(struct shard *shard, struct shard_volume *volume, struct actions *out);
void destage_volume_works(struct shard *shard, struct shard_volume *volume, struct actions *out);

/* ---- epoch.c: all of these may be asked of any volume ----------------------------------- */

void epochs_attach(struct shard *shard, struct shard_volume *volume);
uint64_t epoch_append(struct shard *shard, uint32_t id, const struct append *append);
void epoch_recovered(struct shard *shard, uint32_t id);
uint64_t epoch_defer(struct shard *shard, uint32_t id);
void epoch_remove(struct shard *shard, uint32_t id); /* clean, lost, or not there any more */
/* Must this dirty slot stay although a newer version is published? */
bool epoch_retains(const struct shard *shard, uint32_t older, uint32_t newer);
/* Is it an older version, kept only to be destaged? */
bool epoch_outdated(const struct shard *shard, uint32_t id);
/* No room for a record that arrived in this epoch. */
bool epoch_full(const struct shard *shard, const struct shard_volume *volume, uint64_t epoch);
/* Does the order allow that this dirty slot is destaged now; should it be at once? */
bool epoch_may_destage(const struct shard *shard, const struct shard_volume *volume, uint32_t id);
bool epoch_urgent(const struct shard *shard, const struct shard_volume *volume, uint32_t id);
bool epoch_due(const struct shard *shard); /* something is urgent, and not written yet */
/* All of the oldest epoch is written, and it is over: flush the backing store. */
bool epoch_wants_flush(const struct shard_volume *volume, const struct shard *shard);
/* Here or, where this shard has to wait for them, in others. */
bool volume_failing(const struct shard_volume *volume);
/* How late it is, in permille of what it may be. */
uint64_t epoch_late_permille(const struct shard *shard, const struct shard_volume *volume);
void epoch_report(struct shard *shard, struct actions *out);
/* A version was lost: what came after it is destaged without it. */
void epoch_broken(struct shard *shard, uint32_t id);
/* What the flash has not been able to read for long holds nothing up. */
void epoch_unstick(struct shard *shard);

static inline bool epoch_around(const struct shard_volume *volume, const struct piece *piece)
{
    return !volume->epochs || piece->epoch <= volume->epochs->oldest;
}

/* ---- reclaim.c -------------------------------------------------------------------------- */

#define RETRY_NS UINT64_C(2000000)

void reclaim_retry(struct shard *shard, uint64_t delay_ns);
/* The victim's content is no longer needed (or its live map is fixed): write the headers. */
void reclaim_headers_start(struct shard *shard, struct actions *out);

/* reclaim-copy.c */
bool reclaim_slot_hot(const struct slot *slot);
/* Dirty, in good order, and the newest version. */
bool reclaim_slot_copyable(const struct shard *shard, uint32_t id);
bool reclaim_footer_valid(const struct shard *shard, uint32_t segment);
void reclaim_copy_next(struct shard *shard, struct actions *out);
void reclaim_copy_append(struct shard *shard, struct actions *out);

void reclaim_tick(struct shard *shard, struct actions *out);
void reclaim_io_done(struct shard *shard, const struct event *event, struct actions *out);
void reclaim_reinserted(struct shard *shard, uint32_t slot, bool ok);
bool reclaim_idle(const struct shard *shard);
/* So many segments are retired that too little is left to go round. */
bool reclaim_worn_out(const struct shard *shard);
uint32_t ready_target(const struct shard *shard);
void header_fill(const struct shard *shard, struct segment_header *header, uint32_t segment,
                 uint64_t generation, uint64_t ring_sequence, uint64_t map_sequence);
/* Emits the write of a filled segment header, durable when done, to copy 0 or 1; tagged
 * TAG_RECLAIM. */
void header_write(struct shard *shard, struct header_buffer *buffer, uint32_t segment,
                  unsigned copy, struct actions *out);

/* ---- recover.c -------------------------------------------------------------------------- */

#define ATTEMPTS_MAX 4u /* of a read, before it counts as rotten or fails */

void recovery_init(struct shard *shard);
struct action *recovery_read(struct shard *shard, uint32_t segment, uint32_t slot, uint32_t slots,
                             unsigned char *data, void *owner, struct actions *out);
void recovery_fail(struct shard *shard, int error);
bool recovery_crc_ok(void *data, size_t bytes, uint32_t *crc);
/* Numbers that a session up to this one may have given out: others are a mistake, whatever their
 * checksum says, and would outlive everything that comes after them. */
bool recovery_place_ok(const struct shard *shard, uint64_t session, uint64_t generation,
                       uint64_t ring_sequence);
bool recovery_lsn_ok(const struct shard *shard, uint64_t lsn);
/* An entry that can be believed as far as its form goes, of a volume that is still there. */
bool recovery_entry_ok(struct shard *shard, const struct entry *entry);
bool recovery_entry_live(const struct segment_header *header, const struct entry *entry);
void recovery_marks_note(struct shard *shard, uint64_t watermark, uint64_t durable_lsn);
void recovery_entry_replay(struct shard *shard, uint32_t segment, const struct entry *entry);

/* The header copy in areas[0] that holds for this segment; NULL: none. */
struct segment_header *recovery_header_best(struct shard *shard, uint32_t segment);

/* recover-repair.c */
void recovery_repair_next(struct shard *shard, struct actions *out);
void recovery_repair_done(struct shard *shard, const struct event *event, struct actions *out);
void recovery_finish(struct shard *shard, struct actions *out);

/* recover-lost.c */
bool recovery_is_trace(const struct shard *shard, const void *block);
void recovery_generation_found(struct shard *shard, uint32_t segment, uint64_t generation,
                               uint64_t ring_sequence);
void recovery_lost_entry(struct shard *shard, uint32_t segment, struct entry *entry);
void recovery_lost_note(struct shard *shard, uint32_t segment);
void recovery_lost_tell(struct shard *shard, struct actions *out);

/* recover-scan.c */
void recovery_scan_start(struct shard *shard, uint32_t segment, bool replaying,
                         struct actions *out);
bool recovery_scan_done(struct shard *shard, const struct event *event, struct actions *out);

/* recover.c again */
void recovery_tick(struct shard *shard, struct actions *out);
void recovery_io_done(struct shard *shard, const struct event *event, struct actions *out);

#endif
