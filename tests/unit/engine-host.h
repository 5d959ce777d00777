/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host for one shard, for unit tests: flash and backing store are arrays, every action is carried
 * out at once and in order.  Crashes lose nothing but RAM; what can go wrong with I/O is the
 * simulator's (tests/sim).
 */
#ifndef TESTS_UNIT_ENGINE_HOST_H
#define TESTS_UNIT_ENGINE_HOST_H

#include "engine/shard.h"

#define HOST_VOLUME  1u
#define HOST_OTHER   2u /* another one, when other.present, with the same blocks: to be read only */
#define HOST_BLOCKS  8192u /* of the volume */
#define HOST_QUEUE   65536u
#define HOST_SEGMENT (256u << 10)

struct host {
    struct shard *shard;
    struct shard_config config;
    struct volume_policy policy, other;
    uint16_t volume; /* that requests are for */
    void *memory;
    unsigned char *flash, *backing, *model, *ram, *data;
    size_t flash_bytes;
    uint64_t now_ns, random;
    uint64_t recovery_bytes; /* read from flash by recoveries */
    uint64_t replies, flash_writes, flash_fua, flash_flushes, backing_writes, backing_flushes;
    uint64_t notices[16];
    int last_error;
    /* At flash write number tear_write (1: the first) flash and model are kept as a power cut would
     * leave them that lets the write's first block land and no other. */
    uint64_t tear_write;
    unsigned char *torn_flash, *torn_model;
    uint64_t flash_write_ns;   /* that each of them takes */
    bool flash_held;           /* flash writes wait for host_flash_release */
    bool footers_held;         /* the same of the footers of segments alone */
    struct action waiting[64]; /* ... here */
    uint32_t waiting_count;
    int backing_error;           /* of all that is asked of the backing store */
    uint64_t backing_bad_offset; /* writes from here on fail; 0: none */
    uint64_t backing_error_ns;   /* when errors of writes come, after they began */
    struct action late[64];      /* ... and those that wait for theirs */
    uint64_t late_due_ns[64];
    uint32_t late_count;
    int flash_read_error, flash_write_error;        /* of what touches ... */
    uint64_t flash_error_offset, flash_error_bytes; /* ... this, when it is not 0 */
    uint64_t wrong_read_offset; /* the next read of this byte of data brings a wrong bit; 0: none */
    uint32_t retired[64], retired_count;
    struct piece piece;
    uint32_t queue_head, queue_tail;
    struct action queue[HOST_QUEUE];
    struct actions out;
};

struct host *host_new(enum volume_mode mode, bool flash_volatile, uint64_t seed);
void host_free(struct host *host);

/* Starts the shard on what is in `flash`, as after a crash.  Returns shard_ready's verdict. */
int host_boot(struct host *host);
void host_stop(struct host *host); /* cleanly; host_boot follows */

/* Starts it again with another size of the RAM tier. */
void host_ram(struct host *host, uint32_t frames);

/* Flash writes that were held back, and those to come, are carried out. */
void host_flash_release(struct host *host);

/* Lets time pass. */
void host_idle(struct host *host, uint64_t ns);

/* One request to its end; returns its error.  Writes bring random data, and keep `model`; reads are
 * compared with it (host_read fails the test on a difference). */
int host_write(struct host *host, uint64_t block, uint32_t count, uint32_t head, uint32_t tail,
               uint8_t flags);
int host_zero(struct host *host, uint64_t block, uint32_t count, uint8_t flags);
int host_read(struct host *host, uint64_t block, uint32_t count, uint8_t flags);
int host_invalidate(struct host *host, uint64_t block, uint32_t count, uint8_t flags);
int host_prefetch(struct host *host, uint64_t block, uint32_t count);
void host_read_all(struct host *host); /* every block of the volume matches the model */
void host_destage_all(struct host *host);
uint64_t host_random(struct host *host);

#endif
