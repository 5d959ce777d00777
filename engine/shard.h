/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard: one independent slice of the cache, a pure state machine (I9).
 *
 * The caller (the daemon's cores, the simulator, the replay tool) owns threads, memory, time and
 * I/O.  It holds the shard's lock, calls shard_step() with events, drops the lock, carries out the
 * actions that came back, and reports those that ask for it as further events.
 *
 *      struct piece          a part of a client's request that lies in one region of one shard;
 *                            belongs to the caller, who must leave it alone from EVENT_REQUEST
 *                            until ACTION_REPLY (or until its last I/O is done, see PIECE I/O)
 *      struct event          what happened
 *      struct action         what to do
 *
 * The shard is passive: any core may step it.  What an action starts is done on the core that
 * stepped, except ACTION_REPLY and ACTION_RESUME, which go to the core that owns the piece.
 *
 * PIECE I/O.  For reads, the hit path needs no second step: the shard counts the I/Os it asks for
 * in piece->ios; the caller takes one off for each I/O of that piece that ended well, and the
 * piece is finished when none is left.  Only these are reported back: any action with
 * ACTION_REPORT set (always reported kinds have it, and backing reads), and a flash read that failed
 * or did not match its CRCs.  A reported I/O of a read piece is taken off by the shard, in that
 * step, which may ask for more; if none is left the shard emits ACTION_REPLY itself.  A read piece that needs no I/O at all gets
 * ACTION_REPLY at once.
 */
#ifndef ENGINE_SHARD_H
#define ENGINE_SHARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/ranges.h"
#include "engine/counters.h"
#include "engine/format.h"
#include "engine/mrc.h"

#define REGION_BLOCKS 64u /* 256 KiB: what one shard gets of a volume in one stretch */
#define REGION_SHIFT  6

struct shard;

/* ---- pieces ----------------------------------------------------------------------------- */

enum piece_op {
    PIECE_READ,
    PIECE_WRITE,
    PIECE_ZERO,       /* whole blocks read as zeros from now on; no payload */
    PIECE_PREFETCH,   /* bring into the cache; behaves as a read, the caller drops the data */
    PIECE_INVALIDATE, /* drop clean copies durably; -EBUSY if a block is dirty, unless DISCARD */
};

enum piece_flags {
    PIECE_FUA = 1,     /* acknowledge only when durable (volatile flash: the batch is written so) */
    PIECE_NO_FILL = 2, /* a miss does not enter the cache */
    PIECE_HOLE = 4,    /* with PIECE_ZERO: the backing store may deallocate (trim) */
    PIECE_HEADROOM = 8, /* BLOCK_BYTES before data are free for a batch header */
    PIECE_DISCARD = 16, /* with PIECE_INVALIDATE: dirty blocks are discarded, too.  What destaging
                           wrote of them is not flushed: for the caller this counts as a write
                           around the cache */
    PIECE_AROUND =
        32, /* a large zero or trim: straight to the backing store where no block is dirty */
    PIECE_SEQUENTIAL = 64, /* part of a long run: it does not take all of the flash's free room */
    PIECE_BEYOND = 128,    /* of a bypassed sequential stream: as NO_FILL, but for what is pinned */
};

struct piece {
    /* Set by the caller. */
    uint8_t op;
    uint8_t flags;
    uint16_t volume;
    uint16_t count;       /* blocks, 1 to REGION_BLOCKS, all in one region */
    uint16_t head_bytes;  /* PIECE_WRITE: bytes at the start of the first block to be kept */
    uint16_t tail_bytes;  /* PIECE_WRITE: bytes at the end of the last block to be kept */
    uint16_t core;        /* for the caller's use: who gets the reply */
    uint64_t block;       /* first 4 KiB block of the volume */
    uint64_t epoch;       /* flush epoch of the volume when the request arrived */
    unsigned char *data;  /* count * BLOCK_BYTES, 4 KiB-aligned; the payload is already in place */
    unsigned char *merge; /* two blocks of scratch when head_bytes or tail_bytes is set */

    /* PIECE_WRITE: CRC-32C of each whole block, set by the caller (a partial first or last block's
     * is set by piece_merge).  Reads: set by piece_fill. */
    uint32_t crc[REGION_BLOCKS];

    /* Results of a read, for the caller.  One bit per block. */
    uint64_t ram_mask;  /* in RAM frame frame[i], pinned: shard_frame_unpin() when sent */
    uint64_t fill_mask; /* missed and wanted in the cache; with ACTION_FILL: to frame frame[i] */
    uint64_t zero_mask; /* reads as zeros; data[] is not touched */
    uint32_t frame[REGION_BLOCKS];
    uint32_t flash_blocks; /* of this piece, served from flash, and ... */
    uint32_t backing_blocks;
    int error;    /* 0 or negative errno, valid at the end */
    uint32_t ios; /* I/Os under way, see PIECE I/O */

    void *private_pointer; /* for the caller's use */

    /* Internal to the shard. */
    struct piece *next;        /* in one of the shard's waiting lists */
    struct piece *active_next; /* in the list of active or of reading pieces */
    struct piece **active_link;
    uint64_t backing_mask;  /* blocks with a backing read under way */
    uint64_t unknown_mask;  /* blocks that were not in the index at all ... */
    uint64_t index_inserts; /* ... when this many entries had come */
    uint64_t since_ns;      /* when it began to wait; when a paced reply is due */
    uint64_t rerouted_lsn;  /* of its first record, when the flash failed under it; else 0 */
    uint64_t rerouted_mask; /* blocks whose records failed with it, and that nothing newer passed */
    uint32_t batches;       /* batches under way that carry blocks of it */
    uint8_t state;          /* 0 when the caller first submits it */
    uint8_t active, around, held;
    uint8_t rerouted;        /* the flash failed under it: it goes to the backing store instead */
    uint8_t resumed;         /* 0 when the caller first submits it */
    uint32_t generation;     /* of its region's writes when a read began */
    uint32_t flush_failures; /* the volume's when a write-through write began */
    uint32_t slots[REGION_BLOCKS]; /* where its blocks were appended */
};

/* Overlays the kept bytes of one edge block (head: the first block's start, else the last block's
 * end) from `old`, BLOCK_BYTES of the block's present content, and sets its CRC.  When the piece is
 * one block with both edges, one call does both.  Pure; called by whoever has the old block. */
void piece_merge(struct piece *piece, bool head, const unsigned char *old);

/* Copies blocks [first, first + count) that are in fill_mask to their frames, and sets their CRCs.
 * Needs no lock: nobody else knows the frames yet. */
void piece_fill(const struct shard *shard, struct piece *piece, uint32_t first, uint32_t count);

/* ---- actions ---------------------------------------------------------------------------- */

enum action_kind {
    /* Read `length` bytes at `offset` of the flash device into `data`.  With ACTION_VERIFY each
     * block i must match shard_slot_crc(shard, slot + i); the result goes into event.bad_mask.
     * When it is not reported, the caller ends it with shard_flash_read_end(shard, slot). */
    ACTION_READ_FLASH,
    /* Write what `owner`, a struct flash_write, says, at `offset`.  Always reported. */
    ACTION_WRITE_FLASH,
    /* Read `length` bytes at `offset` of the volume's backing store into `data`; past its end the
     * rest is zeros.  Always reported. */
    ACTION_READ_BACKING,
    ACTION_WRITE_BACKING, /* Always reported; data past the end of the volume is not written. */
    ACTION_ZERO_BACKING,  /* Write zeros (ACTION_MAY_UNMAP: may deallocate).  Always reported. */
    ACTION_FLUSH_FLASH,   /* A device flush that starts after now.  Always reported. */
    ACTION_FLUSH_BACKING, /* The same of `volume`'s backing store.  Always reported. */
    ACTION_FILL,          /* piece_fill(shard, piece, first, count), then report. */
    ACTION_MERGE,         /* piece_merge(piece, ACTION_HEAD, data), then report. */
    ACTION_REPLY,         /* The piece `owner` is finished: piece->error is set. */
    ACTION_RESUME,        /* Step EVENT_REQUEST with the piece `owner` again, on its own core. */
    ACTION_RETIRE, /* Record segment number `offset` as retired in both superblocks, report. */
    ACTION_NOTICE, /* Something an operator wants to know: `slot` is an enum notice. */
    ACTION_EPOCH,  /* Nothing of `volume`'s oldest epoch is left in this shard, see ORDERED. */
};

enum action_flags {
    ACTION_REPORT = 1,    /* report the end of this action in any case */
    ACTION_VERIFY = 2,    /* see ACTION_READ_FLASH */
    ACTION_FUA = 4,       /* writes: durable when done */
    ACTION_MAY_UNMAP = 8, /* see ACTION_ZERO_BACKING */
    ACTION_PIECE = 16,    /* `owner` is a struct piece whose `ios` counts this action */
    ACTION_HEAD = 32,     /* merge reads: which edge; the caller calls piece_merge when the read */
    ACTION_TAIL = 64,     /* succeeded (and verified), before it reports */
    ACTION_BACKGROUND = 128, /* destage, reclaim, recovery: may be paced behind foreground I/O */
};

/* X(name, text): what ACTION_NOTICE tells; `offset` and `volume` say where. */
#define NOTICES(X)                                                                                 \
    X(NOTICE_CLEAN_HEALED, "a clean block failed its checksum and is read from the backing store") \
    X(NOTICE_DIRTY_LOST, "a dirty block failed its checksum: it cannot be read until rewritten")   \
    X(NOTICE_DIRTY_UNREADABLE, "the flash failed to read a dirty block: its readers get an error") \
    X(NOTICE_SEGMENT_FAILED, "a flash write failed: its segment will be retired")                  \
    X(NOTICE_FLASH_FAILED, "flash writes fail: the shard takes no more data")                      \
    X(NOTICE_BACKING_ERROR, "the backing store failed a destage write, which is repeated")         \
    X(NOTICE_BACKING_BACK, "the backing store takes destage writes again")                         \
    X(NOTICE_RECORDS_LOST, "log records below the durable mark cannot be read")

enum notice {
#define X(name, text) name,
    NOTICES(X)
#undef X
};

/* A flash write.  The first vector is metadata in the shard's memory; flash_write_seal() must be
 * called on it, outside the lock, before the device sees it. */
#define FLASH_WRITE_VECTORS (BATCH_ENTRIES_MAX + 1)

struct flash_write {
    struct iovec iov[FLASH_WRITE_VECTORS];
    uint32_t iov_count;
    uint32_t seal_bytes; /* the CRC covers these many bytes of iov[0] */
    uint32_t *seal_crc;  /* where it goes */
    bool headroom; /* iov[1] is the only data, and the block before it may take a copy of iov[0]:
                      one contiguous write */
};

void flash_write_seal(struct flash_write *write);

struct action {
    uint8_t kind;
    uint8_t flags;
    uint16_t volume;
    uint16_t first; /* block within the piece */
    uint16_t count; /* blocks */
    uint32_t slot;
    uint32_t length; /* bytes */
    uint64_t offset; /* bytes, on flash or on the backing store */
    unsigned char *data;
    void *owner;
};

/* What one event can emit at most; the caller's array has room for this after any event. */
#define ACTIONS_MAX 512

struct actions {
    uint32_t count;
    bool again; /* there is more to do: step EVENT_TICK soon (before sleeping) */
    struct action list[ACTIONS_MAX];
};

/* ---- events ----------------------------------------------------------------------------- */

enum event_kind {
    EVENT_REQUEST, /* `piece` arrived, or is resumed */
    EVENT_IO_DONE, /* `action` ended with `result` (0 or negative errno) and, for verified reads,
                      `bad_mask` (bit i: block i did not match) */
    EVENT_SEAL,    /* the core that stepped this shard enters the kernel: write the open batch */
    EVENT_TICK,    /* home core: background work, paced replies */
    EVENT_STOP,    /* no further requests come: close the log; shard_idle() tells when done */
};

struct event {
    uint8_t kind;
    int result;
    uint16_t core; /* EVENT_SEAL: which core (0 to cores - 1) */
    uint64_t bad_mask;
    struct piece *piece;
    const struct action *action; /* only read during the step */
};

/* ---- life ------------------------------------------------------------------------------- */

enum volume_mode {
    MODE_WRITE_BACK,
    MODE_WRITE_THROUGH,
    MODE_WRITE_AROUND,
    MODE_PASS_THROUGH
};
enum destage_order {
    DESTAGE_SORTED,
    DESTAGE_ORDERED
};

struct volume_policy {
    bool present;
    uint8_t mode;       /* enum volume_mode */
    uint8_t destage;    /* enum destage_order */
    bool backing_debt;  /* the backing store may hold unflushed writes from before this start */
    bool returns;       /* its flash was away: recovery keeps each version for shard_attach_keep */
    uint64_t blocks;    /* size, in 4 KiB blocks, rounded up */
    uint64_t floor_lsn; /* records at or below are dead (recovery) */
    uint32_t dirty_max_percent; /* of the shard's slots, high watermark of destaging; 0: 70 */
    uint32_t share_min_percent; /* of the flash: what others cannot take from it */
    uint32_t share_max_percent; /* what it may take; 0: 100 */
    struct ranges pins;         /* blocks that stay on flash, see pin.c */
    uint64_t stall_timeout_ns;  /* -ENOSPC for a write that waited so long for space while the
                                   backing store fails; 0: 30 s */
};

struct shard_config {
    uint8_t uuid[16];
    uint64_t session;       /* of this start: already durable in both superblocks */
    uint16_t shard;         /* number */
    uint16_t cores;         /* cores that step it: bounds the batches in flight */
    uint32_t segment_first; /* number on the device of the shard's first segment */
    uint32_t segments;
    uint32_t segment_bytes;
    uint32_t ram_frames;     /* at least SHARD_FRAMES_MIN; what the RAM tier may hold */
    unsigned char *ram;      /* ram_frames * BLOCK_BYTES, owned by the caller, never read here */
    bool flash_volatile;     /* the device has a volatile cache: completion is not durability */
    bool clean_start;        /* the superblock says so: no segment is open */
    uint64_t watermark;      /* from the superblock */
    uint64_t durable_lsn;    /* from the superblock */
    const uint32_t *retired; /* segment numbers on the device, from the superblock */
    uint32_t retired_count;
    uint32_t ordered_volumes; /* at most so many volumes have ordered destaging */
    uint32_t epochs_max;      /* of each of them, undestaged at once: a power of two; 0: 2048 */
    bool detached; /* there is no flash: no recovery, and no flash I/O ever; `segments` bounds how
                      many blocks shard_lost_add takes */
    bool held;     /* after recovery nothing is appended, destaged or reclaimed: shard_release */
};

#define SHARD_FRAMES_MIN 256u

/* Bytes that shard_create needs for this geometry, a multiple of BLOCK_BYTES. */
size_t shard_memory_bytes(const struct shard_config *config);

/* Builds a shard in `memory` (zeroed, BLOCK_BYTES-aligned, kept by the caller until the end).  The
 * shard recovers before it serves: step EVENT_TICK, carry out what it asks, until shard_ready(). */
struct shard *shard_create(const struct shard_config *config, void *memory);

/* Volumes may be set before the first step and at any time after; id up to VOLUME_ID_MAX but at
 * most VOLUMES_MAX present (those with something dirty also count when they are not).  One becomes
 * absent when none of its pieces is under way, and does not come back under its id.  Records of volumes
 * that are not present are dropped at recovery. */
void shard_volume_set(struct shard *shard, uint16_t id, const struct volume_policy *policy);

/* `out` is emptied first.  Several events in one call must not ask for more than ACTIONS_MAX
 * actions together: one event a call is always safe. */
void shard_step(struct shard *shard, uint64_t now_ns, const struct event *events, uint32_t count,
                struct actions *out);

/* Recovery is over and the shard serves.  Negative errno when it cannot (then it never will). */
int shard_ready(const struct shard *shard);

/* After EVENT_STOP: nothing is under way and every segment is closed. */
bool shard_idle(const struct shard *shard);

/* When EVENT_TICK is due, in ns of the caller's clock; UINT64_MAX: not before something happens. */
uint64_t shard_next_tick(const struct shard *shard);

/* ---- without a step --------------------------------------------------------------------- */

/* CRC of a flash slot: stable, lock-free, while a read of it is under way. */
uint32_t shard_slot_crc(const struct shard *shard, uint32_t slot);

/* Ends a flash read that is not reported.  Lock-free. */
void shard_flash_read_end(struct shard *shard, uint32_t slot);

unsigned char *shard_frame(const struct shard *shard, uint32_t frame);
void shard_frame_unpin(struct shard *shard, uint32_t frame); /* lock-free */

/* The flash device's flush coordinator brackets each flush, for every shard, under its lock:
 * what shard_flush_begin returned goes to shard_flush_end when the flush succeeded.  Only needed
 * when flash_volatile. */
uint64_t shard_flush_begin(const struct shard *shard);
void shard_flush_end(struct shard *shard, uint64_t token);

/* For the superblock at a clean stop, and for status. */
struct shard_status {
    uint64_t watermark, durable_lsn, next_lsn;
    uint64_t slots_total, slots_used, slots_dirty, slots_lost, frames_used, frames_total;
    uint64_t segments_total, segments_free, segments_retired;
    uint64_t slots_pinned, slots_pinned_max; /* in pinned ranges; those that pins hold at most */
    uint64_t memory_bytes;                   /* all but the RAM tier's data and: */
    uint64_t buffer_bytes;                   /* data of destaging and reclaim on its way */
    uint64_t recovery_entries;
    uint64_t stalled_pieces;
    bool flash_failed;
};

void shard_status(const struct shard *shard, struct shard_status *status);
const struct counters *shard_counters(const struct shard *shard, uint16_t volume);
const struct flash_counters *shard_flash_counters(const struct shard *shard);

/* ORDERED.  One coordinator per volume with ordered destaging, over all shards (see
 * docs/ordered-destage.md).  After recovery, whenever an epoch ended, and after ACTION_EPOCH, it
 *   1. tells each shard the volume's present epoch with shard_epoch_begin, and gets the oldest one
 *      that has something dirty there (UINT64_MAX: none has); and asks shard_backing_fails;
 *   2. takes the smallest of these and the present one, and whether any is failing; if something
 *      of that is new, tells it each shard with shard_epoch_open: only this epoch may be destaged
 *      from now on;
 *   3. steps EVENT_TICK where shard_next_tick says so.
 * What was recovered counts as epoch 0: real epochs begin with 1.  Both under the shard's lock. */
uint64_t shard_epoch_begin(struct shard *shard, uint16_t volume, uint64_t epoch, uint64_t now_ns);
void shard_epoch_open(struct shard *shard, uint16_t volume, uint64_t oldest, bool failing,
                      uint64_t now_ns);

/* The backing store alone is a legal crash state when the oldest epoch is a later one than this in
 * all shards, and no dirty block is lost. */
uint64_t shard_epoch_broken(const struct shard *shard, uint16_t volume);

/* When the oldest epoch ended that is not destaged in this shard; UINT64_MAX: all are. */
uint64_t shard_epoch_ended_ns(const struct shard *shard, uint16_t volume);

/* Destage everything of `volume` (or of all, VOLUME_ALL) that is dirty now, without pacing. */
#define VOLUME_ALL UINT16_MAX
void shard_destage_all(struct shard *shard, uint16_t volume);
uint64_t shard_dirty_blocks(const struct shard *shard, uint16_t volume);
uint64_t shard_flash_blocks(const struct shard *shard,
                            uint16_t volume); /* on flash, dirty or not */
uint64_t shard_pinned_blocks(const struct shard *shard, uint16_t volume); /* of these, pinned */
struct ranges shard_volume_pins(const struct shard *shard, uint16_t volume);

/* Of the dirty blocks, those that the backing store was not sent: neither written to it, if only into
 * its volatile cache, nor on their way as part of a write that is not acknowledged before they are.
 * From *cursor (0 at first) on, a bounded stretch; *cursor is UINT32_MAX at the end.  Lost blocks do
 * not count. */
uint64_t shard_owed_blocks(const struct shard *shard, uint16_t volume, uint32_t *cursor);

/* Of the dirty blocks, those whose data failed their CRC, or all when the flash is lost: they never
 * become clean by themselves, so that whoever waits for clean waits until dirty equals lost. */
uint64_t shard_lost_blocks(const struct shard *shard, uint16_t volume);

/* Dirty blocks that the flash failed to read the last time; destaging tries them again. */
uint64_t shard_unreadable_blocks(const struct shard *shard, uint16_t volume);

/* The last thing that destaging asked of the volume's backing store failed. */
bool shard_backing_fails(const struct shard *shard, uint16_t volume);

/* ---- loss of the flash, and its return: docs/attachment.md ------------------------------------ */

/* The flash device is lost (the shard found out itself, and told by NOTICE_FLASH_FAILED, or another
 * one did): nothing is appended any more.  Clean blocks are read from the backing store, writes
 * wait (at most stall_timeout_ns, then -EIO). */
void shard_flash_lost(struct shard *shard);

/* Nothing is under way any more that could change which blocks are dirty. */
bool shard_flash_settled(const struct shard *shard);

/* After that, for each volume, when its epoch and its dirty blocks are durable in the state
 * directory (hazard 16): its writes go to the backing store; those of dirty blocks fail. */
void shard_pass_through(struct shard *shard, uint16_t volume);

struct dirty_block {
    uint64_t block;
    uint32_t crc; /* CRC-32C of its data, unless zero or lost */
    uint16_t volume;
    bool zero;
    bool lost; /* its data cannot be read */
};

/* Dirty blocks, at most `max`, from *cursor (0 at first) on; looks at a bounded number of slots.
 * *cursor is UINT32_MAX when there are no more.  No step may come between the calls, unless the
 * shard is settled, held or idle. */
uint32_t shard_dirty_list(const struct shard *shard, uint32_t *cursor, struct dirty_block *list,
                          uint32_t max);

/* A shard without flash: this block cannot be written, nor read unless it is known to be zeros.
 * False: no place. */
bool shard_lost_add(struct shard *shard, uint16_t volume, uint64_t block, bool zero);

/* A held shard, of a volume whose flash was away (policy.returns): keeps this dirty block if it is
 * there, as it was (false: it is not), though something newer may have landed that was under way when
 * the flash failed; then all blocks of the volume that were not kept are dropped, without a trace
 * on flash: the caller makes that durable by the volume's floor LSN. */
bool shard_attach_keep(struct shard *shard, const struct dirty_block *block);
void shard_attach_drop(struct shard *shard, uint16_t volume);

/* Destages what is dirty, although held. */
void shard_attach_drain(struct shard *shard);

/* Ends being held. */
void shard_release(struct shard *shard);

/* What is known of `count` blocks (at most REGION_BLOCKS).  The first three are those of
 * blkcached:state. */
enum shard_block_state {
    SHARD_BLOCK_RAM = 1,
    SHARD_BLOCK_FLASH = 2,
    SHARD_BLOCK_DIRTY = 4,
    SHARD_BLOCK_ZERO = 8,  /* known to be zeros */
    SHARD_BLOCK_HOLE = 16, /* and the backing store may deallocate it */
};
void shard_block_state(const struct shard *shard, uint16_t volume, uint64_t block, uint32_t count,
                       uint8_t *state);

/* From here on a volume's accesses go into `mrc`, which stays the caller's; NULL: into none.  Adds what
 * it has to `sum`; `octaves` as in mrc_add. */
void shard_mrc_set(struct shard *shard, uint16_t volume, struct mrc *mrc);
void shard_mrc_add(const struct shard *shard, uint16_t volume, struct mrc_sum *sum,
                   unsigned octaves);

/* Which of `shards` (a power of two) a block belongs to. */
uint32_t shard_of(uint16_t volume, uint64_t block, uint32_t shards);

#endif
