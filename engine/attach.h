/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a volume may be used with this flash, or without any: docs/attachment.md.  Pure: the
 * caller reads and writes the state directory and the superblock.
 */
#ifndef ENGINE_ATTACH_H
#define ENGINE_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

struct dirty_block;

enum attachment_state {
    ATTACHMENT_NONE,     /* the state directory knows nothing of the volume */
    ATTACHMENT_ATTACHED, /* in use, or left by a crash: what is dirty on the flash is not known */
    ATTACHMENT_STOPPED,  /* `dirty` is exactly what is dirty on the flash */
    ATTACHMENT_DETACHED, /* used without a flash: of the flash only `dirty` still counts */
};

/* What the state directory says of one volume. */
struct attachment {
    uint8_t state;
    uint8_t flash[16]; /* UUID of the cache that it speaks of */
    uint64_t sequence; /* that its superblock has reached; 0: not known */
    uint64_t epoch;
    struct dirty_block *dirty; /* by rising block */
    uint64_t dirty_count;
};

/* What the flash says of it. */
struct attach_flash {
    bool here;            /* there is one */
    uint8_t uuid[16];     /* of the cache on it */
    uint64_t sequence;    /* of its superblock */
    uint8_t replaces[16]; /* of the cache that formatting overwrote; zeros: none */
    bool known;           /* it has records of the volume */
    uint64_t epoch;       /* then: of the volume there */
};

enum attach_verdict {
    ATTACH_NORMAL,  /* what is on flash counts */
    ATTACH_NEW,     /* nothing is on flash; an older flash of the volume becomes stale */
    ATTACH_RETURNS, /* of what is on flash, only the list counts */
    ATTACH_WITHOUT, /* no flash: pass-through, but for the list */

    /* Refused. */
    ATTACH_STALE,   /* the volume was used since without this flash, or with a later copy of it */
    ATTACH_BLOCKS,  /* blocks on the list are on another flash, or have vanished from this one */
    ATTACH_UNKNOWN, /* another flash, or the one that is not here, may hold dirty blocks */
    ATTACH_STATE,   /* the state directory is lost, older than the flash, or of another machine */
};

enum attach_force {
    ATTACH_DISCARD = 1, /* what cannot be had consistently is given up */
    ATTACH_TRUST = 2,   /* flash and volume belong together, whatever the state directory says */
};

struct attach_plan {
    uint8_t verdict;
    bool discards;  /* only because it was forced: the list, or what is on flash, is given up */
    uint64_t epoch; /* from now on, in both places; always at least what either says */
};

static inline bool attach_refuses(const struct attach_plan *plan)
{
    return plan->verdict >= ATTACH_STALE;
}

struct attach_plan attach_decide(const struct attachment *file, const struct attach_flash *flash,
                                 unsigned force);

#endif
