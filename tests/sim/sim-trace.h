/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was decided, in order: folded into a hash that two runs of a seed must agree on, and printed
 * when somebody wants to read it.  No address, no time of day and no environment may enter it.
 */
#ifndef TESTS_SIM_TRACE_H
#define TESTS_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, text): text is a printf format of exactly three uint64_t. */
#define SIM_TRACES(X)                                                    \
    X(TRACE_SEED, "seed %lu, config %lx %lx")                            \
    X(TRACE_ROUND, "round %lu: %lu steps, then end %lu")                 \
    X(TRACE_STEP, "core %lu task %lu shard %lu")                         \
    X(TRACE_ACTION, "  action %lu flags %lx offset %lx")                 \
    X(TRACE_ACTION_MORE, "    volume %lu length %lu slot %lu")           \
    X(TRACE_IO, "io done: action %lu result %ld bad %lx")                \
    X(TRACE_REQUEST, "request %lu: op %lu flags %lx")                    \
    X(TRACE_REQUEST_RANGE, "    volume %lu offset %lx length %lx")       \
    X(TRACE_REPLY, "request %lu answered %ld after %lu ns")              \
    X(TRACE_PIECE, "    read masks ram %lx fill %lx zero %lx")           \
    X(TRACE_DISK, "disk %lu op %lu at %lx")                              \
    X(TRACE_DISK_DONE, "disk %lu done, result %ld, at %lx")              \
    X(TRACE_DISK_FAULT, "disk %lu fault %lu at %lx")                     \
    X(TRACE_DISK_CRASH, "disk %lu crash style %lu, %lu writes at stake") \
    X(TRACE_FATE, "  write at %lx, %lu bytes: fate %lu")                 \
    X(TRACE_CRASH, "crash %lu (power %lu) at phase %lu")                 \
    X(TRACE_BOOT, "boot phase %lu session %lu error %ld")                \
    X(TRACE_SHARD_READY, "shard %lu ready %ld entries %lu")              \
    X(TRACE_FLUSH, "flush of device %lu: begin %lu result %ld")          \
    X(TRACE_NOTICE, "notice %lu volume %lu offset %lx")                  \
    X(TRACE_FAULT, "fault %lu device %lu on %lu")                        \
    X(TRACE_STOP, "stop phase %lu error %ld dirty %lu")                  \
    X(TRACE_GONE, "volume %lu, id %lu, is taken away: %lu")              \
    X(TRACE_ATTACH, "volume %lu: attachment state %lu, %lu blocks")      \
    X(TRACE_MODE, "volume %lu now has mode %lu floor %lx")

enum sim_trace_kind {
#define X(name, text) name,
    SIM_TRACES(X)
#undef X
    SIM_TRACE_KINDS
};

struct sim_trace {
    uint64_t hash;
    uint64_t step;   /* micro-operations of virtual cores since the seed began */
    uint64_t now_ns; /* virtual time, for printing */
    bool print;
};

void sim_trace_print(const struct sim_trace *trace, enum sim_trace_kind kind, uint64_t a,
                     uint64_t b, uint64_t c);

static inline void sim_trace_note(struct sim_trace *trace, enum sim_trace_kind kind, uint64_t a,
                                  uint64_t b, uint64_t c)
{
    uint64_t hash = trace->hash + kind;

    hash = (hash ^ a) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 32 ^ b) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 29 ^ c) * UINT64_C(0x94d049bb133111eb);
    trace->hash = hash ^ hash >> 32;
    if (trace->print)
        sim_trace_print(trace, kind, a, b, c);
}

/* Fold the content of some bytes, too. */
uint64_t sim_trace_bytes(const void *data, uint32_t bytes);

#endif
