/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator of volumes with ordered destaging, as io/epoch.c has it: asks every shard, then
 * tells every shard.  Shards are asked and told one by one, in steps of their own.  And: whenever
 * somebody looks, the backing store alone must be a legal crash state.
 */
#include <string.h>

#include "common/list.h"
#include "tests/sim/sim-world.h"

static void epoch_start(struct sim_world *world, struct sim_volume *volume)
{
    struct sim_epoch *epoch = &volume->coordinator;

    epoch->busy = true;
    epoch->again = epoch->telling = false;
    epoch->failing = false;
    epoch->shard = 0;
    epoch->now = epoch->smallest = volume->epoch;
    epoch->task.kind = TASK_EPOCH;
    sim_task_push(world, sim_random_below(&world->random, world->config.cores), &epoch->task);
}

void sim_epoch_reset(struct sim_world *world, struct sim_volume *volume)
{
    (void)world;
    memset(&volume->coordinator, 0, sizeof(volume->coordinator));
    volume->oldest = 0;
}

void sim_epoch_advance(struct sim_world *world, struct sim_volume *volume)
{
    if (!volume->ordered)
        return;
    if (volume->coordinator.busy)
        volume->coordinator.again = true;
    else
        epoch_start(world, volume);
}

static void end(struct sim_world *world, struct sim_volume *volume)
{
    volume->coordinator.busy = false;
    if (volume->coordinator.again)
        epoch_start(world, volume);
}

/* One shard is asked or told. */
void sim_epoch_run(struct sim_world *world, struct sim_task *task)
{
    struct sim_epoch *epoch = container_of(task, struct sim_epoch, task);
    struct sim_volume *volume = container_of(epoch, struct sim_volume, coordinator);
    struct sim_shard *shard = &world->shards[epoch->shard++];
    uint64_t held;

    if (epoch->telling) {
        shard_epoch_open(shard->shard, volume->id, epoch->smallest, epoch->failing, world->now_ns);
    } else {
        held = shard_epoch_begin(shard->shard, volume->id, epoch->now, world->now_ns);
        epoch->failing |= shard_backing_fails(shard->shard, volume->id);
        if (held < epoch->smallest)
            epoch->smallest = held;
    }
    if (shard_next_tick(shard->shard) < shard->due_ns)
        shard->due_ns = shard_next_tick(shard->shard);
    if (epoch->shard == world->config.shards) {
        if (epoch->telling ||
            (epoch->smallest == volume->oldest && epoch->failing == epoch->told_failing)) {
            end(world, volume);
            return;
        }
        epoch->telling = true;
        epoch->shard = 0;
        epoch->told_failing = epoch->failing;
        world->totals.epochs_opened += epoch->smallest > volume->oldest;
        volume->oldest = epoch->smallest;
        volume->consistent |= volume->oldest > 0;
    }
    sim_task_push(world, sim_random_below(&world->random, world->config.cores), &epoch->task);
}

/* From now on something that was recovered may be destaged. */
void sim_epoch_shard_ready(struct sim_world *world, const struct shard *shard)
{
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        struct sim_volume *volume = &world->volumes[v];

        if (volume->ordered && shard_dirty_blocks(shard, volume->id) > 0)
            volume->consistent = false;
    }
}

/* ---- the flash is lost ------------------------------------------------------------------- */

static void check_image(struct sim_world *world, uint16_t v, const unsigned char *image)
{
    struct sim_totals *totals = &world->totals;
    struct alone_age age;
    char why[300];

    if (!alone_check(world->alone[v], oracle_content(world->oracle), v, image,
                     world->config.volumes[v].backing.garbage, world->now_ns, &age, why,
                     sizeof(why)))
        sim_fail(world, "without the flash, volume %u is no crash state: %s", v, why);
    totals->alone_checks++;
    totals->alone_ns += age.ns;
    totals->alone_boundaries += age.boundaries;
    if (age.ns > totals->alone_ns_max)
        totals->alone_ns_max = age.ns;
    if (age.boundaries > totals->alone_boundaries_max)
        totals->alone_boundaries_max = age.boundaries;
}

/* The engine knows when versions could not be read; that outlives a crash, and is not known to the
 * shards that recover from it. */
static bool consistent(struct sim_world *world, struct sim_volume *volume)
{
    if (world->phase <= PHASE_RECOVER || world->phase > PHASE_STOPPED)
        return volume->whole && volume->consistent;
    volume->whole = volume->consistent;
    for (uint32_t i = 0; i < world->config.shards; i++) {
        const struct shard *shard = world->shards[i].shard;

        if (shard_lost_blocks(shard, volume->id) > 0 ||
            (volume->oldest > 0 && shard_epoch_broken(shard, volume->id) >= volume->oldest))
            volume->whole = false;
    }
    return volume->whole;
}

/* Both what the backing store would have if everything it cached landed, and if nothing did. */
void sim_epoch_check(struct sim_world *world)
{
    for (uint16_t v = 0; v < world->config.volume_count; v++) {
        struct sim_volume *volume = &world->volumes[v];

        if (!volume->ordered)
            continue;
        /* What went past a lost flash is no part of the history. */
        if (!consistent(world, volume) || world->damaged || world->config.faults.loss) {
            world->totals.alone_skipped++;
            continue;
        }
        check_image(world, v, disk_durable(volume->backing));
        check_image(world, v, disk_current(volume->backing));
    }
}
