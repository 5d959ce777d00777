/* SPDX-License-Identifier: Apache-2.0 */
/* One unit of the oracle: the contents it may have, and those it may go back to. */
#ifndef TESTS_SIM_ORACLE_UNIT_H
#define TESTS_SIM_ORACLE_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim-content.h"

#define UNIT_SECTORS     8u
#define UNIT_PENDING_MAX 6u
#define UNIT_STATES_MAX  64u
#define UNIT_PAST_MAX    64u
#define UNIT_REACH_MAX   1024u

struct unit_pending { /* a write that began and has not ended */
    uint64_t begun;
    uint32_t id;
    uint16_t from, to; /* bytes of the unit */
    bool fua;
};

struct unit_state {
    uint32_t ids[UNIT_SECTORS];
    uint32_t applied; /* pending writes it includes, one bit each */
};

struct unit_past {
    uint32_t ids[UNIT_SECTORS];
    uint32_t unapplied; /* writes, pending then and still, that it lacks */
    bool crash;         /* a crash may bring it back, unless a flush was sent after `until` */
    bool failed;        /* left by a write that failed: any restart may bring it back, whatever was
                           flushed, until a later write of the unit succeeds */
    uint64_t until;     /* when it stopped being possible */
};

/* A unit about which there is something to know besides its one content. */
struct unit {
    struct unit *next, *prev; /* of the volume, or free */
    uint64_t index;
    uint64_t first_sector;
    uint16_t volume, sectors;
    uint32_t reads;
    uint32_t discards;     /* in flight: any older content may come back until they end */
    uint64_t discarded;    /* when the last one ended, until a flush that was sent later ends: what
                              the backing store has is still at stake */
    uint64_t changed;      /* the last begin or end of a write */
    uint64_t ended;        /* the last end of a write */
    bool unknown, garbage; /* any content is legal; even a foreign one */
    /* It was unknown (and garbage) until then: for reads in flight, and for crashes. */
    uint64_t unknown_until, unknown_crash;
    bool was_garbage;
    /* Its newest record may be gone, and an older one, taken for clean, may hide what the backing store
     * has: a read does not tell which of the two the next one sees.  A write ends it, durably when
     * flushed after `stale_until`. */
    bool stale;
    uint64_t stale_until;
    bool failed;           /* a write failed: what a read does not see may still come back */
    uint64_t failed_until; /* when the last one that failed ended */
    uint32_t pending_mask;
    uint32_t state_count, past_count;
    struct unit_pending pending[UNIT_PENDING_MAX];
    struct unit_state states[UNIT_STATES_MAX];
    struct unit_past past[UNIT_PAST_MAX];
};

/* All contents that pending writes can make of the present states. */
struct unit_reach {
    uint32_t count;
    bool overflow;
    struct unit_state states[UNIT_REACH_MAX];
};

void unit_reach(struct content *content, const struct unit *unit, struct unit_reach *reach);

void unit_write_begin(struct unit *unit, const struct unit_pending *pending);
/* `reach` is scratch.  False: too contended, the unit is unknown now. */
bool unit_write_end(struct content *content, struct unit *unit, struct unit_reach *reach,
                    uint64_t begun, int error, uint64_t now);
void unit_crash(struct content *content, struct unit *unit, struct unit_reach *reach,
                uint64_t flushed, bool garbage);

/* The process dies; what it asked the disks for may or may not have happened. */
void unit_kill(struct content *content, struct unit *unit, struct unit_reach *reach, uint64_t now);

/* Forgets history that neither a crash after `flushed` nor a read in flight can show. */
void unit_forget(struct unit *unit, uint64_t flushed);

/* Might a read that began then return these; a crash leave these; sector by sector. */
bool unit_may_read(const struct unit *unit, const struct unit_reach *reach, const uint32_t *ids,
                   uint64_t begun);
bool unit_may_survive(const struct unit *unit, const struct unit_reach *reach, const uint32_t *ids,
                      uint64_t flushed);

/* What recovery found is what it is from now on: no failed write comes back any more. */
void unit_recovered(struct unit *unit);

/* A read that ran alone saw `ids`. */
void unit_collapse(struct unit *unit, const uint32_t *ids, uint64_t now);

void unit_doubt(struct unit *unit, bool garbage);

/* As unit_doubt, and reads do not end it. */
void unit_lose(struct unit *unit);

/* One content, no history, nothing pending. */
bool unit_is_plain(const struct unit *unit);

#endif
