/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short stories, told again and again with one thing going wrong at each possible place: a crash
 * after every step (and a second one after every step of the recovery), an error at every I/O.
 */
#ifndef TESTS_SIM_SCRIPT_H
#define TESTS_SIM_SCRIPT_H

#include "tests/sim/sim-world.h"

/* Beyond enum sim_op: things a script can ask for. */
enum sim_script_op {
    SCRIPT_DESTAGE = OPS, /* until nothing is dirty */
    SCRIPT_IDLE,          /* for `length` ns nothing is asked for */
    SCRIPT_RESTART,       /* a clean stop, and a new start */
};

struct sim_script {
    const char *name, *text;
    uint8_t mode; /* of the only volume */
    uint32_t blocks;
    uint32_t depth; /* requests at once */
    uint32_t cores, segments;
    bool flash_volatile;
    bool ordered;    /* its destaging */
    uint32_t shards; /* 0: one */
    uint32_t repeat; /* the list, so many times with other places: see step_blocks */
    uint32_t step_blocks;
    const struct sim_want *list;
    uint32_t count;
};

extern const struct sim_script sim_scripts[];
extern const uint32_t sim_script_count;
const struct sim_script *sim_script_find(const char *name); /* NULL: none */

/* What goes wrong; 0: nothing.  Steps count from power-on, I/Os from then, per device (0: flash). */
struct sim_mishap {
    uint64_t crash_step, second_step;
    bool killed; /* the process dies, not the machine */
    uint32_t variant;
    uint32_t fail_device;
    uint64_t fail_io;
};

/* Plays it and checks everything.  False when the story ended before the mishap. */
bool sim_script_play(struct sim_world *world, const struct sim_script *script, uint64_t seed,
                     const struct sim_mishap *mishap, bool print);

/* The client's side: the next request, or false when there is none now. */
bool sim_script_next(struct sim_world *world, struct sim_want *want);

#endif
