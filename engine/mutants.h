/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planted bugs: each takes out one rule, and the simulator must find each of them.
 *
 * They are compiled in only with ENGINE_MUTANTS, for tests/sim/blkcache-sim-mutants; everywhere else
 * MUTANT(n) is 0.  A rule that lives outside of the engine is broken in the simulator's model of
 * that layer (tests/sim), and the text says so.
 *
 * X(number, volatile, mode, faults, style, rule, text): flash with a volatile cache, mode of all
 * volumes, faults, and style of the workload where it shows best (-1: any); the rule is a hazard (section 12 of the design, "H") or an
 * invariant (I).
 */
#ifndef ENGINE_MUTANTS_H
#define ENGINE_MUTANTS_H

#define MUTANTS(X)                                                                                \
    X(101, -1, -1, 1, 1, "H1 I13", "the live map of a kept segment calls every record alive")     \
    X(113, -1, -1, 1, 1, "H1 I13", "a kept segment takes its new place behind the open one")      \
    X(23, -1, 0, 1, 1, "H1", "absent records of a kept segment still count, at its new place")    \
    X(2, -1, -1, 0, -1, "H2",                                                                     \
      "blocks are dropped from the index before the generation bump is durable")                  \
    X(202, -1, -1, 0, 1, "H2", "recovery believes batches of earlier generations")                \
    X(103, 1, 0, 0, 3, "H3 I15", "no flash flush before a victim is given up")                    \
    X(4, -1, -1, 1, 2, "H4 I16",                                                                  \
      "reinsertion does not look whether something newer is on its way")                          \
    X(104, -1, 0, 1, 3, "H4 I16",                                                                 \
      "the source of a reinserted record is dropped before the copy is on flash")                 \
    X(17, -1, 0, 0, -1, "H5 I17", "the watermark passes what is still dirty")                     \
    X(106, -1, -1, 0, -1, "H6 I18", "LSNs start from 1 in each session")                          \
    X(7, -1, 2, 0, -1, "H7", "no durable absent record before a write goes around the cache")     \
    X(223, -1, -1, 0, -1, "H7 I23", "a write goes around the cache although the block is dirty")  \
    X(8, -1, 2, 0, 2, "H8 I21",                                                                   \
      "fills go to flash while the backing store's cache may hold what was read")                 \
    X(9, -1, -1, 0, -1, "H9", "the id of a removed volume is given to the next one")              \
    X(10, -1, 2, -1, -1, "H10", "recovery takes only the first block of an absent range")         \
    X(110, -1, 2, -1, -1, "H10 I14", "recovery ignores absent records")                           \
    X(11, 1, 0, 0, 1, "H11", "the footer of a segment is written before its batches are durable") \
    X(111, 1, 0, 0, -1, "H11 I20", "recovery stops at the first gap of a segment")                \
    X(12, -1, 0, 0, -1, "H12 I19", "recovery closes no segment: its verdicts are not durable")    \
    X(212, 1, 0, 0, -1, "H12 I19", "recovery does not flush the flash before it serves")          \
    X(13, -1, 2, 0, -1, "H13", "simulator: after an unclean stop no flush debt is assumed")       \
    X(213, -1, 2, 0, -1, "H13", "simulator: a backing flush covers what completed while it ran")  \
    X(313, -1, 2, 0, 2, "H13 I21",                                                                \
      "the same in the engine: fills of what the flush did not cover")                            \
    X(413, 1, -1, 1, -1, "H13", "simulator: a flash that failed a flush is used further")         \
    X(14, -1, 0, 1, 0, "H14 I24", "rot below the durable mark is taken for a tear")               \
    X(114, -1, 0, 1, 0, "H14 I24", "recovery ignores the echo of a batch whose header is rotten") \
    X(124, -1, 0, 1, -1, "H14 I24", "recovery takes what it cannot read for a gap")               \
    X(15, -1, 0, 1, -1, "H15 I22", "simulator: a backing write is given up on, and lands later")  \
    X(22, -1, -1, -1, -1, "I22",                                                                  \
      "destaging starts while another backing write of the block is under way")                   \
    X(117, -1, 1, 1, -1, "H17",                                                                   \
      "a write-through record turns clean although the backing write failed")                     \
    X(201, 1, 0, 0, -1, "I1", "FUA is not honoured on flash with a volatile cache")               \
    X(301, 1, 0, 0, -1, "I1",                                                                     \
      "a flush counts records as durable that were not on flash when it began")                   \
    X(18, -1, 0, 0, -1, "H18", "ordered: a version that an unfinished epoch needs is dropped")    \
    X(118, -1, 0, 0, -1, "H18", "ordered: versions of any epoch are destaged at once")            \
    X(218, -1, 0, 0, -1, "H18",                                                                   \
      "ordered: an epoch counts as over before the backing store's flush")                        \
    X(1, -1, 0, -1, 1, "I2", "a batch that ends late supersedes a newer one of the block")        \
    X(6, -1, -1, -1, -1, "I2", "a partial write does not wait for a pending write of its block")  \
    X(5, -1, 2, 0, 2, "I2", "a miss fills the RAM tier while a write goes around the cache")      \
    X(105, -1, -1, 0, 2, "I2",                                                                    \
      "a miss fills the RAM tier although the block was written meanwhile")                       \
    X(102, -1, -1, 0, -1, "I2", "a backing write does not wait for backing reads of its blocks")  \
    X(3, 1, 0, 0, 1, "I3", "destaging starts before the log record is durable")                   \
    X(204, -1, 0, 0, -1, "I4", "a block is clean before the backing store was flushed")           \
    X(306, -1, 0, 0, -1, "I2",                                                                    \
      "a partial write overtakes a write of its block that waits for room")                       \
    X(206, -1, -1, 1, -1, "I6", "simulator: flash reads are not verified")                        \
    X(107, -1, 0, 0, 2, "I7", "a segment is reused while it is read")                             \
    X(207, -1, 0, 0, 1, "I7", "a segment is reused although it holds dirty blocks")               \
    X(208, -1, -1, 1, -1, "I8", "footers are believed without their checksum")                    \
    X(211, -1, 0, 0, -1, "I11", "the log takes entries without room for them")                    \
    X(312, -1, -1, 0, -1, "I12", "a write leaves the block's RAM frame as it is")                 \
    X(214, -1, 2, 1, 2, "I14",                                                                    \
      "a clean block that could not be read is forgotten, its record stays")                      \
    X(225, -1, -1, 1, -1, "I25", "simulator: the superblock is written to one copy only")         \
    X(226, -1, -1, 1, -1, "I25", "simulator: the superblock's current copy is believed intact")

#ifdef ENGINE_MUTANTS
extern int engine_mutant; /* the one that is active, 0: none */
#    define MUTANT(n) (engine_mutant == (n))
#else
#    define MUTANT(n) 0
#endif

#endif
