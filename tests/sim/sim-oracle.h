/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a read may return.
 *
 * A volume is cut into units: blocks of 4 KiB where the cache promises that a block never tears
 * (I2), sectors of 512 bytes where writes go around it.  Each unit has the set of contents that it
 * may have now: one, as long as nothing is in flight; more while writes are, after a write failed,
 * or after a crash, until a read tells which it is.
 *
 *      write begins  -> it may take effect from now on
 *      write ends    -> it has: what lacks it is history
 *      flush ends    -> what was history when the flush was sent cannot come back
 *      crash         -> may be: everything that may be now, and the history since the last flush
 *      read ends     -> must have seen something that was possible while it ran; if nothing else
 *                       went on, the unit is what the read saw, from now on and after a crash (I19)
 *
 * Writes are linearised exactly: contents are kept with the set of pending writes they include.
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim-content.h"

#define ORACLE_VOLUMES_MAX 8u

struct oracle;

struct oracle_volume {
    uint64_t bytes;     /* multiple of 512 */
    bool atomic_blocks; /* units are blocks, not sectors */
};

/* A request; kept by the client from begin to end.  Ranges in bytes. */
struct oracle_op {
    uint16_t volume;
    bool fua, zeros;
    uint64_t offset, length;
    uint32_t id; /* what is written: set by oracle_write_begin */
    uint64_t begun;
};

struct oracle_stats {
    uint64_t blocks_checked; /* 4 KiB blocks */
    uint64_t ambiguous;      /* units with several legal contents after a crash */
    uint64_t lost_track;     /* units that were too contended to follow */
};

struct oracle *oracle_create(void);
void oracle_destroy(struct oracle *oracle);
void oracle_reset(struct oracle *oracle, const struct oracle_volume *volumes, uint32_t count);
struct content *oracle_content(struct oracle *oracle);
const struct oracle_stats *oracle_stats(const struct oracle *oracle);

void oracle_write_begin(struct oracle *oracle, struct oracle_op *op);
void oracle_write_end(struct oracle *oracle, const struct oracle_op *op, int error);

void oracle_flush_begin(struct oracle *oracle, struct oracle_op *op);
void oracle_flush_end(struct oracle *oracle, const struct oracle_op *op, int error);

/* Reads are of whole blocks.  oracle_read_block is called for each, once, before oracle_read_end;
 * it returns false when that was not legal.  Sectors past the volume's end are not looked at. */
void oracle_read_begin(struct oracle *oracle, struct oracle_op *op);
bool oracle_read_block(struct oracle *oracle, const struct oracle_op *op, uint64_t block,
                       const unsigned char *data);
void oracle_read_end(struct oracle *oracle, const struct oracle_op *op);

/* Is this a content that the block may have now; changes nothing. */
bool oracle_matches(struct oracle *oracle, uint16_t volume, uint64_t block,
                    const unsigned char *data);

/* Could this be what is left when the cache is lost, and every write that a flush covered is on
 * the backing store (write-through; around)?  Sector by sector. */
bool oracle_survives(struct oracle *oracle, uint16_t volume, uint64_t block,
                     const unsigned char *data);

/* Why the last check failed. */
const char *oracle_why(const struct oracle *oracle);

/* All requests in flight are gone; reads must have been ended.  A loss of `power` undoes what was
 * not flushed; when only the process dies, what was answered stays, for now: a later loss of power
 * may still undo it.  With `garbage`, sectors that were not durable in units of 512 bytes may be
 * anything. */
void oracle_crash(struct oracle *oracle, bool power, bool garbage);

/* The cache serves again: what it found, it has made durable (I19).  Where writes go around it,
 * only a flush does that. */
void oracle_recovered(struct oracle *oracle);

/* Nothing is known of this range any more but that it holds its own sectors (with `garbage`: not
 * even that), until it is read or written. */
void oracle_doubt(struct oracle *oracle, uint16_t volume, uint64_t offset, uint64_t length,
                  bool garbage);

/* The newest record of this range may be lost.  Then an older one counts, which the cache may take for a
 * copy of what the backing store has: reads may see either, in turn, until it is written again. */
void oracle_lose(struct oracle *oracle, uint16_t volume, uint64_t offset, uint64_t length,
                 bool garbage);

/* Whole blocks go back to what the backing store has, at any time in between: some older content, or
 * with `garbage` what a power cut made of what destaging had not flushed.  Until the next flush ends
 * a power cut may change it once more, whatever a restart made durable. */
void oracle_discard_begin(struct oracle *oracle, const struct oracle_op *op, bool garbage);
void oracle_discard_end(struct oracle *oracle, const struct oracle_op *op);

/* Another write there, or without a flush before it, would be more than the oracle can follow. */
bool oracle_crowded(struct oracle *oracle, uint16_t volume, uint64_t offset, uint64_t length);

/* Blocks that may have several contents (one may be named twice); returns how many, at most `max`.
 */
uint32_t oracle_ambiguous(const struct oracle *oracle, uint16_t volume, uint64_t *blocks,
                          uint32_t max);

#endif
