/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated disk.
 *
 * Two images: `current` is what reads see, `durable` is what a power cut leaves.  Without a
 * volatile cache they are one.  With it, each completed write is also a record in a queue, in
 * order of completion; a flush moves the records that were completed before it was submitted to
 * the durable image.  The cache is bounded: when it is full, the oldest records become durable by
 * themselves, as in a real drive.
 *
 *      disk_submit -> in flight (ordered by when each will be done) -> disk_run_one -> done()
 *                                                                        |
 *                                     current <-- write --> record --flush--> durable
 *
 * A power cut decides the fate of each record and of each write in flight alone: it lands, it
 * vanishes, some of its 512-byte sectors land, or (a trait) what was underneath turns to garbage.
 * The data of a write are taken from the caller's memory when it completes, or at the crash, as
 * DMA does: a caller that changes them too early is found out.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/sim/sim-random.h"
#include "tests/sim/sim-trace.h"

enum disk_op {
    DISK_READ,
    DISK_WRITE,
    DISK_ZERO,
    DISK_FLUSH
};

struct disk_io {
    /* Set by the caller, who keeps it and all memory it names until done(). */
    uint8_t op;
    bool fua;
    bool drops_nothing; /* a flush, when it fails */
    uint64_t offset;    /* multiple of 512, as is the length */
    uint64_t length;    /* the sum of the vectors */
    const struct iovec *iov;
    uint32_t iov_count;
    void (*done)(struct disk_io *io, int result);

    /* Internal. */
    struct iovec single; /* for disk_io_prepare */
    uint64_t due_ns, order, flush_mark;
    int result;
    bool misdirected;
    bool unreached; /* submitted to a removed device */
};

/* Faults are per million I/Os. */
struct disk_traits {
    uint64_t bytes;   /* size that is used; 0: all */
    bool write_cache; /* completion is not durability */
    bool tears_reads; /* a read during a write may see sectors of both */
    bool garbage;     /* unsynced sectors may turn to garbage in a power cut */
    uint32_t delay_min_ns, delay_max_ns;
    uint32_t read_error_ppm, write_error_ppm, flush_error_ppm;
    uint32_t
        flush_drops_percent; /* of the unsynced writes, when a flush fails; the next succeeds */
    uint32_t slow_ppm, stuck_ppm; /* slow: slow_ns more; stuck: until disk_heal() */
    uint32_t misdirect_ppm;       /* a write lands elsewhere and is reported as done */
    uint64_t slow_ns;
};

struct disk_stats {
    uint64_t reads, writes, flushes;
    uint64_t errors, slowed, stuck, misdirected, rotten, removals, insertions;
    uint64_t read_errors, write_errors, flush_errors; /* of those, what failed */
    uint64_t dropped;                                 /* writes, by flushes that failed */
    uint64_t landed, vanished, torn, garbage;         /* fates in power cuts */
};

struct disk;

/* One per device and process: a big, lazily populated mapping.  Dies when there is no memory. */
struct disk *disk_create(uint32_t number, uint64_t bytes);
void disk_destroy(struct disk *disk);

/* Empties it (all zeros) and forgets everything, for the next seed. */
void disk_reset(struct disk *disk, const struct disk_traits *traits, uint64_t seed,
                struct sim_trace *trace);
struct disk_traits *disk_traits(struct disk *disk);

void disk_io_prepare(struct disk_io *io, enum disk_op op, uint64_t offset, void *data,
                     uint64_t length);
void disk_submit(struct disk *disk, struct disk_io *io, uint64_t now_ns);

/* When the next I/O completes, UINT64_MAX if none does; complete one that is due. */
uint64_t disk_next_ns(const struct disk *disk);
bool disk_run_one(struct disk *disk, uint64_t now_ns);
uint32_t disk_in_flight(const struct disk *disk);

/* The machine loses power: I/O in flight is gone without done().  Two power cuts with
 * nothing in between change nothing. */
void disk_power_cut(struct disk *disk);

/* The process dies, the kernel lives: writes in flight still land, without done(). */
void disk_owner_killed(struct disk *disk);

/* Unplugged: everything in flight and everything later fails; what was cached is kept. */
void disk_remove(struct disk *disk, uint64_t now_ns);
void disk_insert(struct disk *disk);
bool disk_is_removed(const struct disk *disk);

/* No more faults from now on, and what is stuck goes on.  Slow stays slow. */
void disk_heal(struct disk *disk, uint64_t now_ns);

/* The `nth` I/O from now (1: the next) fails with EIO; 0: none. */
void disk_fail_nth(struct disk *disk, uint64_t nth);
uint64_t disk_io_count(const struct disk *disk); /* submitted since the reset */

/* Other decisions from now on. */
void disk_reseed(struct disk *disk, uint64_t seed);

/* Somebody else writes, durably, past the queue. */
void disk_poke(struct disk *disk, uint64_t offset, const unsigned char *data, uint64_t length);

/* Flips a few bits, durably. */
void disk_rot(struct disk *disk, uint64_t offset, uint32_t bytes);

/* The images, for oracles. */
const unsigned char *disk_current(const struct disk *disk);
const unsigned char *disk_durable(const struct disk *disk);
uint64_t disk_bytes(const struct disk *disk);
const struct disk_stats *disk_stats(const struct disk *disk);

/* Called for each extent at `place` that a fault other than an error damages.  What was there, or
 * would be there, is at `content` of the current image. */
struct disk_damage {
    void (*damaged)(struct disk_damage *damage, struct disk *disk, uint64_t place, uint64_t content,
                    uint64_t length);
};
void disk_on_damage(struct disk *disk, struct disk_damage *damage);

#endif
