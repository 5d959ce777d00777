/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-drive.h"

#include <inttypes.h>
#include <stdio.h>

static bool play(struct sim_world *world, const struct sim_script *script,
                 const struct sim_drive *drive, const struct sim_mishap *mishap)
{
    static char line[256];

    snprintf(line, sizeof(line),
             "blkcache-sim --script %s --seed %" PRIu64 " --crash-at %" PRIu64
             " --second-at %" PRIu64 " --variant %u --kill %d --fail-device %u --fail-at %" PRIu64
             " --trace",
             script->name, drive->seed, mishap->crash_step, mishap->second_step, mishap->variant,
             mishap->killed, mishap->fail_device, mishap->fail_io);
    world->replay = line;
    return sim_script_play(world, script, drive->seed, mishap, drive->print);
}

static bool mine(const struct sim_drive *drive, uint64_t n)
{
    return n % drive->workers == drive->worker;
}

void sim_drive_crashes(struct sim_world *world, const struct sim_script *script,
                       const struct sim_drive *drive)
{
    uint64_t stride = script->repeat > 10 ? drive->stride : 1; /* long ones: some places */

    for (uint64_t n = 0;; n++) {
        uint64_t step = 1 + n * stride;

        if (!mine(drive, n))
            continue;
        for (uint32_t variant = 0; variant <= drive->variants; variant++) {
            struct sim_mishap mishap = {
                .crash_step = step, .variant = variant, .killed = variant == drive->variants};

            if (!play(world, script, drive, &mishap))
                return;
            world->totals.crash_points++;
        }
    }
}

void sim_drive_double(struct sim_world *world, const struct sim_script *script,
                      const struct sim_drive *drive)
{
    uint32_t stride = script->repeat > 10 ? drive->stride * 20 : drive->stride;
    bool first = true;

    for (uint64_t step = 1 + drive->worker; first; step += stride * drive->workers) {
        for (uint64_t second = 1 + step % stride;; second += stride) {
            struct sim_mishap mishap = {
                .crash_step = step, .second_step = second, .variant = (uint32_t)(step + second)};

            if (!play(world, script, drive, &mishap)) {
                /* Past the recovery's end, or past the story's. */
                first = second > 1 + step % stride;
                break;
            }
            world->totals.crash_points++;
        }
    }
}

void sim_drive_errors(struct sim_world *world, const struct sim_script *script,
                      const struct sim_drive *drive)
{
    for (uint32_t device = 0; device < 2; device++)
        for (uint64_t nth = 1;; nth++) {
            struct sim_mishap mishap = {.fail_device = device, .fail_io = nth};

            if (!mine(drive, nth))
                continue;
            if (!play(world, script, drive, &mishap))
                break;
            world->totals.failed_ios++;
        }
}

void sim_drive_one(struct sim_world *world, const struct sim_script *script,
                   const struct sim_drive *drive)
{
    bool happened = play(world, script, drive, &drive->only);

    printf("steps %" PRIu64 ", %s\n", world->trace.step,
           happened ? "it happened" : "the story ended before");
}
