/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a shard, shared by the files of engine/.
 *
 *   index.c           slots and their hash chains: which record is a block's newest
 *   ram.c             RAM frames, promotion to flash
 *   heat.c            use counters: what enters flash, and what stays; ghost.c: of what left
 *   share.c           what of the flash each volume may take, and cannot lose; pin.c: ranges
 *                     that stay
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
 *   reclaim-copy.c    reinsertion; wear.c: whether enough segments are left
 *   recover.c         from flash to index; recover-scan.c: segments without a footer;
 *                     recover-lost.c: without a header; recover-repair.c: header copies, and
 *                     the start
 *   shard.c           events in, actions out
 *
 * Their state is in shard-state.h.
 */
#ifndef ENGINE_SHARD_PRIVATE_H
#define ENGINE_SHARD_PRIVATE_H

#include "common/hash.h"
#include "engine/shard-state.h"

/* ---- shard.c ---------------------------------------------------------------------------- */

struct action *action_add(struct actions *out, enum action_kind kind);
void action_reply(struct actions *out, struct piece *piece, int error);
void action_notice(struct actions *out, enum notice notice, uint16_t volume, uint64_t offset);
/* Also one that is not there any more, whose blocks are; NULL: none. */
static inline struct shard_volume *shard_volume_any(const struct shard *shard, uint16_t id)
{
    uint8_t index = id <= VOLUME_ID_MAX ? shard->volume_index[id] : UINT8_MAX;

    return index == UINT8_MAX ? NULL : &shard->volumes[index];
}

static inline struct shard_volume *shard_volume(const struct shard *shard, uint16_t id)
{
    struct shard_volume *volume = shard_volume_any(shard, id);

    return volume && volume->policy.present ? volume : NULL;
}

static inline void tick_want(struct shard *shard, uint64_t at_ns)
{
    if (at_ns < shard->tick_ns)
        shard->tick_ns = at_ns;
}

void piece_list_init(struct piece_list *list);
void piece_list_push(struct piece_list *list, struct piece *piece);
struct piece *piece_list_pop(struct piece_list *list);
/* Puts the piece before the one that *link, in the list, points at; NULL there: at the end. */
void piece_list_insert(struct piece_list *list, struct piece **link, struct piece *piece);
/* Takes out the piece that *link, in the list, points at. */
struct piece *piece_list_cut(struct piece_list *list, struct piece **link);
void metadata_count(struct shard *shard, uint64_t bytes);
/* Slots for data in a segment. */
static inline uint32_t segment_capacity(const struct shard *shard)
{
    return shard->usable_end - SEGMENT_HEADER_SLOTS;
}

/* Slots for data in the shard's part of the flash. */
static inline uint64_t shard_capacity(const struct shard *shard)
{
    return (uint64_t)shard->config.segments * segment_capacity(shard);
}

/* Blocks that destaging makes clean: what is lost stays until it is written again. */
static inline uint64_t volume_destageable(const struct shard_volume *volume)
{
    return volume->dirty - volume->lost;
}

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
/* The last three at once; what is older than a frame that can be read may be left out. */
struct index_entries {
    uint32_t flash, frame;
    bool pending;
};
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

/* Where the chain of a block begins: side by side for the blocks of a region, so that looking up
 * several of them costs few cache misses. */
static inline uint32_t *index_bucket(const struct shard *shard, uint64_t key)
{
    uint64_t hash = hash_mix64(key >> REGION_SHIFT) >> 32;

    return &shard->buckets[(hash * (shard->bucket_count - REGION_BLOCKS + 1) >> 32) +
                           (key & (REGION_BLOCKS - 1))];
}

static inline struct index_entries index_entries(const struct shard *shard, uint64_t key)
{
    struct index_entries entries = {.flash = NONE, .frame = NONE};

    for (uint32_t id = *index_bucket(shard, key); id != NONE; id = shard->slots[id].next) {
        const struct slot *slot = &shard->slots[id];

        if (slot_key(slot) != key)
            continue;
        if (is_frame(shard, id)) {
            entries.frame = id;
            if (!(slot->bits & FRAME_FILLING))
                break;
        } else if (slot->bits & SLOT_PENDING) {
            entries.pending = true;
        } else if (entries.flash == NONE) {
            entries.flash = id;
        }
    }
    return entries;
}

/* What index_lookup returns. */
static inline uint32_t entries_current(const struct shard *shard,
                                       const struct index_entries *entries)
{
    bool readable = entries->frame != NONE && !(shard->slots[entries->frame].bits & FRAME_FILLING);

    return readable ? entries->frame : entries->flash;
}

/* A lost block that was moved has no data either, and reads as an error. */
static inline bool slot_is_zeros(const struct slot *slot)
{
    return (slot->bits & (SLOT_ZERO | SLOT_BAD)) == SLOT_ZERO;
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
/* Filling, or NONE. */
uint32_t ram_take(struct shard *shard, const struct shard_volume *volume, uint64_t key,
                  bool sequential);
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
/* Chooses at most `most` clean blocks of the victim that are to be appended again, `owed` of them
 * (heat_owed) whatever their use: the use counters of the others are 0 then.  Returns their number; NONE:
 * too many blocks are used too often. */
uint32_t heat_cull(struct shard *shard, uint32_t segment, uint32_t most, uint32_t owed);
/* How many clean blocks of the segment must stay because of their volumes' shares; when that is more than
 * may be appended again, the segment is no victim. */
uint32_t heat_owed(const struct shard *shard, uint32_t segment);
/* Whether one of the next segments in the ring would cost clearly fewer hits than this one. */
bool heat_cheaper_ahead(const struct shard *shard, uint32_t segment);
/* More of the flash is not promised to anybody: the log needs room to go round. */
#define PROMISED_MAX_PERCENT 80u
/* What dirty data may take of the flash, whatever is promised to whom. */
#define DIRTY_LEAST_PERCENT 5u
#define DIRTY_MOST_PERCENT  95u
#define KEEP_PERCENT \
    60u /* of a victim are appended again at most: bounds the write amplification */
static inline uint32_t keep_most(const struct shard *shard)
{
    return segment_capacity(shard) * KEEP_PERCENT / 100;
}
void heat_age(struct shard *shard); /* now and then, not for hits */

void ghost_add(struct shard *shard, uint64_t key, unsigned use); /* 0: nothing to remember */
unsigned ghost_take(struct shard *shard, uint64_t key);          /* how often it was used */
void ghost_age(struct shard *shard, uint32_t first, uint32_t count);
/* Adds how many of these have which counter. */
void ghost_count(const struct shard *shard, uint32_t first, uint32_t count, uint64_t *levels);

/* It is in the cache and was used. */
static inline void slot_used(struct slot *slot)
{
    slot->bits = (uint16_t)(slot->bits + ((slot->bits & SLOT_USE) < USE_MAX));
}

/* A read found it on flash. */
static inline void heat_hit(struct shard *shard, struct slot *slot)
{
    if (!(slot->bits & (SLOT_DIRTY | SLOT_ZERO)))
        shard->heat.flash.hits[slot->bits & SLOT_USE]++;
    slot_used(slot);
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

/* Whether a write that holds its blocks has one of these. */
static inline bool active_overlap(const struct shard *shard, uint64_t key, uint32_t count)
{
    for (const struct piece *piece = shard->merging; piece; piece = piece->active_next)
        if (piece_overlaps(piece, key, count))
            return true;
    return false;
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
bool write_passed(const struct shard *shard, const struct piece *piece, uint32_t i);
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
bool destage_has_unreadable(const struct shard *shard);

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
void epochs_detach(struct shard *shard, struct shard_volume *volume); /* nothing of it is dirty */
uint64_t epoch_append(struct shard *shard, uint32_t id, const struct append *append);
void epoch_recovered(struct shard *shard, uint32_t id);
uint64_t epoch_defer(struct shard *shard, uint32_t id);
void epoch_found(struct shard *shard, uint32_t id);  /* lost until now */
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

/* Dirty, and not known to be lost. */
static inline bool entry_kind_destaged(uint8_t kind, uint8_t flags)
{
    return (kind == ENTRY_DIRTY || kind == ENTRY_ZERO) && !(flags & ENTRY_POISON);
}

#define FRUITLESS_ROUNDS 4u /* of the hand after which nothing but dirty blocks is left */
void reclaim_retry(struct shard *shard, uint64_t delay_ns);
/* The victim's content is no longer needed (or its live map is fixed): write the headers. */
void reclaim_headers_start(struct shard *shard, struct actions *out);

/* wear.c */
#define READY_MIN 5u                         /* segments that the hand keeps ready at least */
bool wear_is_out(const struct shard *shard); /* too many segments are retired */
/* ... or hold what not even a backing store that takes everything would move. */
bool wear_sticks(const struct shard *shard);

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
/* Copies under way that will be dirty, of blocks that are clean by now. */
uint64_t reclaim_copies_dirty(const struct shard *shard, uint16_t volume);
bool reclaim_idle(const struct shard *shard);
uint32_t ready_target(const struct shard *shard); /* at least READY_MIN */
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
void recovery_footer_begin(struct shard *shard, uint32_t segment, uint64_t lsn_last);
struct segment_header *recovery_header_best(struct shard *shard, uint32_t segment);

/* recover-repair.c */
void recovery_repair_next(struct shard *shard, struct actions *out);
void recovery_repair_done(struct shard *shard, const struct event *event, struct actions *out);
void recovery_finish(struct shard *shard, struct actions *out);

/* recover-lost.c */
bool recovery_is_trace(const struct shard *shard, const void *block);
void recovery_generation_found(struct shard *shard, uint32_t segment, uint64_t generation,
                               uint64_t ring_sequence);
void recovery_entry_forget(struct entry *entry);
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
