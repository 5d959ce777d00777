/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim-world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim-save.h"

#define SHARD_MEMORY_BYTES (16u << 20)
#define STEPS_MAX          3000000u /* in one phase, or without any progress */
#define PATIENCE_STEPS     50000u
#define QUIET_NS           UINT64_C(600000000000)

struct sim_world *sim_failing_world;

/* ---- failing ----------------------------------------------------------------------------- */

void sim_fail(struct sim_world *world, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr,
            "FAILED: seed %" PRIu64 " round %" PRIu64 " step %" PRIu64 " phase %d at %" PRIu64
            " ns: ",
            world->config.seed, world->round, world->trace.step, (int)world->phase, world->now_ns);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nrepeat with: %s\n", world->replay != NULL ? world->replay : "?");
    exit(1);
}

/* ---- life -------------------------------------------------------------------------------- */

static void *allocate(size_t bytes)
{
    void *memory =
        aligned_alloc(BLOCK_BYTES, (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES);

    if (memory == NULL)
        exit(2);
    memset(memory, 0, bytes);
    return memory;
}

struct sim_world *sim_world_create(void)
{
    struct sim_world *world = allocate(sizeof(*world));

    world->flash = disk_create(0, SIM_FLASH_BYTES);
    for (uint32_t i = 0; i < SIM_VOLUMES_MAX; i++)
        world->backings[i] = disk_create(1 + i, SIM_BACKING_BYTES);
    for (uint32_t i = 0; i < SIM_SHARDS_MAX; i++) {
        world->shards[i].memory = allocate(SHARD_MEMORY_BYTES);
        world->shards[i].memory_bytes = SHARD_MEMORY_BYTES;
        world->shards[i].ram = allocate(SIM_FRAMES_MAX * BLOCK_BYTES);
    }
    world->oracle = oracle_create();
    for (uint32_t i = 0; i < SIM_VOLUMES_MAX; i++)
        world->alone[i] = alone_create();
    world->ios = allocate(SIM_IOS_MAX * sizeof(*world->ios));
    world->requests = allocate(SIM_REQUESTS_MAX * sizeof(*world->requests));
    for (uint32_t i = 0; i < SIM_REQUESTS_MAX; i++) {
        world->requests[i].memory = allocate((SIM_READ_BLOCKS + 2) * BLOCK_BYTES);
        world->requests[i].merge = allocate(4 * BLOCK_BYTES);
    }
    return world;
}

static void reset_disks(struct sim_world *world)
{
    struct sim_config *config = &world->config;

    config->flash.bytes = DATA_OFFSET +
                          (uint64_t)config->shards * SIM_SEGMENTS_MAX * SEGMENT_BYTES_MIN +
                          SUPERBLOCK_BYTES;
    disk_reset(world->flash, &config->flash, config->seed, &world->trace);
    for (uint32_t i = 0; i < config->volume_count; i++) {
        config->volumes[i].backing.bytes = config->volumes[i].bytes;
        disk_reset(world->backings[i], &config->volumes[i].backing, config->seed, &world->trace);
        world->volumes[i] = (struct sim_volume){
            .bytes = config->volumes[i].bytes,
            .blocks = (config->volumes[i].bytes + BLOCK_BYTES - 1) / BLOCK_BYTES,
            .mode = config->volumes[i].mode,
            .ordered = config->volumes[i].ordered,
            .consistent = true,
            .whole = true,
            .backing = world->backings[i],
        };
        if (config->volumes[i].ordered)
            alone_reset(world->alone[i], config->volumes[i].bytes);
    }
}

void sim_world_begin(struct sim_world *world, const struct sim_config *config, bool print)
{
    struct oracle_volume volumes[SIM_VOLUMES_MAX];

    world->config = *config;
    world->trace = (struct sim_trace){.print = print};
    world->random = sim_random_stream(config->seed, 2);
    world->fate = sim_random_stream(config->seed, 5);
    world->alone_random = sim_random_stream(config->seed, 7);
    world->now_ns = 1000;
    world->round = 0;
    world->request_next_id = 1;
    world->boot.refusals = 0;
    world->recent_count = 0;
    sim_trace_note(&world->trace, TRACE_SEED, config->seed,
                   sim_trace_bytes(config, sizeof(*config)), 0);
    reset_disks(world);
    for (uint32_t i = 0; i < config->volume_count; i++)
        volumes[i] = (struct oracle_volume){.bytes = config->volumes[i].bytes,
                                            .atomic_blocks = config->volumes[i].atomic_blocks};
    oracle_reset(world->oracle, volumes, config->volume_count);
    for (uint32_t i = 0; i < SIM_REQUESTS_MAX; i++)
        world->requests[i].open = false;
    sim_client_reset(world);
    sim_request_drop_all(world);
    sim_core_reset(world);
    sim_fault_reset(world);
    world->phase = PHASE_DOWN;
    sim_fault_heal(world);
    sim_boot_format(world);
    sim_attach_reset(world);
}

void sim_world_phase(struct sim_world *world, enum sim_phase phase)
{
    sim_trace_note(&world->trace, TRACE_BOOT, phase, world->boot.superblock.session, 0);
    world->phase = phase;
    world->phase_since_ns = world->now_ns;
    world->phase_since_step = world->progress_step = world->trace.step;
}

/* ---- time -------------------------------------------------------------------------------- */

static struct disk *disk_at(struct sim_world *world, uint32_t index)
{
    return index == 0 ? world->flash : world->volumes[index - 1].backing;
}

static void complete_due(struct sim_world *world)
{
    for (uint32_t i = 0; i <= world->config.volume_count; i++)
        while (disk_run_one(disk_at(world, i), world->now_ns))
            ;
}

static bool shards_exist(const struct sim_world *world)
{
    return world->phase >= PHASE_RECOVER && world->phase <= PHASE_STOP_FLUSH;
}

static void queue_ticks(struct sim_world *world)
{
    if (!shards_exist(world))
        return;
    for (uint32_t i = 0; i < world->config.shards; i++) {
        struct sim_shard *shard = &world->shards[i];

        if (shard->due_ns > world->now_ns || shard->tick.queued)
            continue;
        shard->due_ns = UINT64_MAX;
        sim_task_push(world, shard->home, &shard->tick);
    }
}

static uint64_t next_event_ns(struct sim_world *world)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i <= world->config.volume_count; i++)
        if (disk_next_ns(disk_at(world, i)) < next)
            next = disk_next_ns(disk_at(world, i));
    for (uint32_t i = 0; shards_exist(world) && i < world->config.shards; i++)
        if (!world->shards[i].tick.queued && world->shards[i].due_ns < next)
            next = world->shards[i].due_ns;
    for (uint32_t i = 0; i < world->config.cores; i++)
        if (world->cores[i].stalled_until_ns > world->now_ns &&
            world->cores[i].stalled_until_ns < next)
            next = world->cores[i].stalled_until_ns;
    if (sim_attach_next_ns(world) < next)
        next = sim_attach_next_ns(world);
    /* Whoever waits for clean asks again. */
    if ((world->phase == PHASE_ATTACH || world->phase == PHASE_DRAIN) &&
        world->boot.destage_ns > world->now_ns && world->boot.destage_ns < next)
        next = world->boot.destage_ns;
    if (world->phase == PHASE_SERVE && !world->client.quiet &&
        world->client.next_ns > world->now_ns && world->client.next_ns < next)
        next = world->client.next_ns;
    return next;
}

static void stall_sometimes(struct sim_world *world, struct sim_core *core)
{
    if (sim_random_ppm(&world->random, world->config.stall_ppm))
        core->stalled_until_ns =
            world->now_ns + sim_random_range(&world->random, 1, world->config.core_ns * 1000);
}

/* Lets one of those who can do something do it. */
static bool run_somebody(struct sim_world *world)
{
    uint32_t ready[SIM_CORES_MAX + 1], count = 0, chosen;

    for (uint32_t i = 0; i < world->config.cores; i++)
        if (sim_core_ready(world, &world->cores[i]))
            ready[count++] = i;
    if (sim_client_ready(world))
        ready[count++] = SIM_CORES_MAX;
    if (count == 0)
        return false;
    chosen = ready[count > 1 ? sim_random_below(&world->random, count) : 0];
    if (chosen == SIM_CORES_MAX) {
        if (sim_client_run(world))
            return true;
        if (count == 1)
            return false;
        chosen = ready[0];
    }
    world->trace.step++;
    world->trace.now_ns = world->now_ns;
    sim_core_run(world, &world->cores[chosen]);
    stall_sometimes(world, &world->cores[chosen]);
    world->now_ns += sim_random_below(&world->random, world->config.core_ns) + 1;
    sim_fault_step(world);
    if (sim_random_ppm(&world->alone_random, world->config.alone_ppm))
        sim_epoch_check(world);
    sim_change_step(world);
    return true;
}

bool sim_world_advance(struct sim_world *world)
{
    enum sim_phase phase = world->phase;
    uint64_t next;

    complete_due(world);
    queue_ticks(world);
    if (!run_somebody(world)) {
        next = next_event_ns(world);
        if (next == UINT64_MAX) {
            sim_boot_advance(world);
            if (world->phase != phase || next_event_ns(world) != UINT64_MAX)
                return true;
            if (world->healed)
                return false;
            /* Everything that could happen is stuck. */
            sim_fault_heal(world);
        } else if (next > world->now_ns) {
            world->now_ns = next;
            world->trace.now_ns = next;
        }
        complete_due(world);
    }
    sim_boot_advance(world);
    return true;
}

static const char *phase_name(enum sim_phase phase)
{
    static const char *const names[] = {
        [PHASE_DOWN] = "down",
        [PHASE_FILES] = "state directory",
        [PHASE_SESSION] = "session",
        [PHASE_RECOVER] = "recovery",
        [PHASE_ATTACH] = "return of the flash",
        [PHASE_SERVE] = "service",
        [PHASE_DRAIN] = "drain",
        [PHASE_STOP] = "stop",
        [PHASE_STOP_FLUSH] = "stop's flush",
        [PHASE_STOP_SUPERBLOCK] = "stop's superblock",
        [PHASE_STOPPED] = "stopped",
        [PHASE_REFUSED] = "refused",
    };

    return names[phase];
}

static void describe_stuck(struct sim_world *world)
{
    for (uint32_t i = 0; shards_exist(world) && i < world->config.shards; i++) {
        struct shard_status status;

        shard_status(world->shards[i].shard, &status);
        fprintf(stderr,
                "shard %" PRIu32 ": ready %d idle %d dirty %" PRIu64 " free segments %" PRIu64
                " stalled %" PRIu64 " next tick %" PRIu64 "\n",
                i, shard_ready(world->shards[i].shard), shard_idle(world->shards[i].shard),
                status.slots_dirty, status.segments_free, status.stalled_pieces,
                shard_next_tick(world->shards[i].shard));
    }
    for (uint32_t i = 0; i < SIM_REQUESTS_MAX; i++)
        if (world->requests[i].open)
            fprintf(stderr,
                    "request %" PRIu64 " op %u volume %u offset %" PRIx64 " open parts %u\n",
                    world->requests[i].id, world->requests[i].kind, world->requests[i].op.volume,
                    world->requests[i].op.offset, world->requests[i].open_parts);
}

/* Liveness: when faults cease, everything ends in bounded steps and time.  They cease at the latest
 * when nothing ends any more. */
void sim_world_check_progress(struct sim_world *world)
{
    uint64_t since = world->progress_step > world->phase_since_step ? world->progress_step
                                                                    : world->phase_since_step;
    uint64_t steps = world->trace.step - since;

    if (!world->healed && steps > PATIENCE_STEPS) {
        sim_fault_heal(world);
        world->progress_step = world->trace.step;
        world->phase_since_ns = world->now_ns; /* one that was stuck took hours, perhaps */
        return;
    }
    if (!world->healed ||
        (steps < STEPS_MAX && world->now_ns - world->phase_since_ns < 100 * QUIET_NS))
        return;
    describe_stuck(world);
    sim_fail(world, "no progress in %s", phase_name(world->phase));
}

void sim_world_until(struct sim_world *world, enum sim_phase phase)
{
    while (world->phase != phase && world->phase != PHASE_REFUSED) {
        if (!sim_world_advance(world)) {
            describe_stuck(world);
            sim_fail(world, "nothing will ever happen again in %s", phase_name(world->phase));
        }
        sim_world_check_progress(world);
    }
}

/* ---- ends -------------------------------------------------------------------------------- */

static void collect(struct sim_world *world);

void sim_world_crash(struct sim_world *world, bool power)
{
    bool garbage = false;

    sim_trace_note(&world->trace, TRACE_CRASH, world->round, power, world->phase);
    collect(world);
    for (uint32_t i = 0; i <= world->config.volume_count; i++) {
        if (power)
            disk_power_cut(disk_at(world, i));
        else
            disk_owner_killed(disk_at(world, i));
    }
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        garbage |= world->config.volumes[i].backing.garbage;
    sim_request_drop_all(world);
    /* What a flush of the flash dropped before a kill is gone as after a loss of power. */
    oracle_crash(world->oracle, power || world->attach.dropped, power && garbage);
    for (uint32_t i = 0; i < world->config.volume_count; i++)
        if (world->volumes[i].ordered)
            alone_crash(world->alone[i], world->now_ns);
    sim_epoch_check(world);
    sim_damage_judge(world);
    sim_attach_crash(world, power);
    sim_core_reset(world);
    world->phase = PHASE_DOWN;
    if (world->images != NULL)
        sim_save(world->flash, world->images, world->images_saved++);
}

static void compare_backing(struct sim_world *world)
{
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        const struct sim_volume *volume = &world->volumes[v];
        unsigned char block[BLOCK_BYTES] = {0};

        for (uint64_t i = 0; i < volume->blocks; i++) {
            uint64_t offset = i * BLOCK_BYTES, length = BLOCK_BYTES;

            if (offset + length > volume->bytes)
                length = volume->bytes - offset;
            memcpy(block, disk_durable(volume->backing) + offset, length);
            if (!oracle_matches(world->oracle, (uint16_t)v, i, block))
                sim_fail(world, "after everything was destaged, the backing store differs: %s",
                         oracle_why(world->oracle));
        }
    }
}

static void flush_ended(struct sim_world *world, struct sim_flush_waiter *waiter, int result)
{
    (void)waiter;
    (void)result;
    world->client.open--;
}

/* What went around the cache is on the backing store once that is flushed. */
static void flush_backings(struct sim_world *world)
{
    static struct sim_flush_waiter waiters[SIM_VOLUMES_MAX];

    for (uint32_t i = 0; i < world->config.volume_count; i++) {
        waiters[i].done = flush_ended;
        world->client.open++;
        sim_flush_join(&world->volumes[i].flusher, &waiters[i]);
    }
    while (world->client.open > 0)
        sim_world_advance(world);
}

static void wait_for_answers(struct sim_world *world)
{
    while (world->client.open > 0) {
        if (!sim_world_advance(world)) {
            describe_stuck(world);
            sim_fail(world, "requests are never answered");
        }
        sim_world_check_progress(world);
    }
}

/* A dirty block whose only copy is damaged cannot be read or destaged until it is written again:
 * then all is well. */
static void rewrite_lost(struct sim_world *world)
{
    for (uint16_t v = 0; v < world->config.volume_count; v++)
        for (uint64_t block = 0; !world->volumes[v].gone && block < world->volumes[v].blocks;
             block++) {
            struct sim_want want = {
                .kind = OP_READ, .volume = v, .offset = block * BLOCK_BYTES, .length = BLOCK_BYTES};

            if (want.offset + want.length > world->volumes[v].bytes)
                want.length = world->volumes[v].bytes - want.offset;
            sim_request_submit(world, &want);
            wait_for_answers(world);
            if (world->client.last_error == 0)
                continue;
            want.kind = OP_WRITE;
            sim_request_submit(world, &want);
            wait_for_answers(world);
            if (world->client.last_error != 0)
                sim_fail(world, "volume %u block %" PRIu64 " cannot be written: %d", v, block,
                         world->client.last_error);
        }
}

void sim_world_finish(struct sim_world *world)
{
    sim_fault_heal(world);
    if (world->misread && !world->damaged && world->phase != PHASE_DOWN)
        sim_world_crash(world, false); /* whatever was read wrong is right: nothing is lost */
    while (world->phase != PHASE_SERVE || world->attach.loss != LOSS_NONE) {
        if (world->phase == PHASE_REFUSED || world->phase == PHASE_SERVE)
            sim_world_crash(world, false);
        if (world->phase == PHASE_DOWN)
            sim_boot_start(world);
        sim_world_until(world, PHASE_SERVE);
    }
    world->client.quiet = true;
    wait_for_answers(world);
    if (world->damaged)
        rewrite_lost(world);
    flush_backings(world);
    sim_boot_stop(world, true);
    sim_world_until(world, PHASE_STOPPED);
    compare_backing(world);
    sim_epoch_check(world);
    collect(world);
    world->totals.clean_stops++;
}

static void add_counters(struct sim_world *world, uint32_t shard)
{
    struct sim_totals *totals = &world->totals;
    struct shard_status status;

    shard_status(world->shards[shard].shard, &status);
    totals->segments_retired += status.segments_retired;
    totals->segments_reclaimed +=
        shard_flash_counters(world->shards[shard].shard)->segments_reclaimed;
    totals->segments_kept += shard_flash_counters(world->shards[shard].shard)->segments_kept;
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        const struct counters *counters =
            shard_counters(world->shards[shard].shard, world->volumes[v].id);

        if (counters == NULL)
            continue;
        totals->reinserted += counters->flash_reinsert_blocks;
        totals->destaged += counters->destage_blocks;
        totals->healed += counters->healed_blocks;
    }
}

/* Before shards go. */
static void collect(struct sim_world *world)
{
    if (world->phase < PHASE_RECOVER || world->phase > PHASE_STOPPED)
        return;
    for (uint32_t i = 0; i < world->config.shards; i++)
        add_counters(world, i);
}

void sim_world_count(struct sim_world *world)
{
    struct sim_totals *totals = &world->totals;

    for (uint32_t i = 0; i <= world->config.volume_count; i++) {
        const struct disk_stats *stats = disk_stats(disk_at(world, i));

        totals->read_errors += stats->read_errors;
        totals->write_errors += stats->write_errors;
        totals->flush_errors += stats->flush_errors;
        totals->faults_slow += stats->slowed;
        totals->faults_stuck += stats->stuck;
        totals->faults_misdirected += stats->misdirected;
        totals->faults_rot += stats->rotten;
        totals->faults_dropped += stats->dropped;
        *(i == 0 ? &totals->flash_removed : &totals->backing_removed) += stats->removals;
        *(i == 0 ? &totals->flash_inserted : &totals->backing_inserted) += stats->insertions;
        totals->fates_landed += stats->landed;
        totals->fates_vanished += stats->vanished;
        totals->fates_torn += stats->torn;
        totals->fates_garbage += stats->garbage;
    }
    totals->ambiguous += oracle_stats(world->oracle)->ambiguous;
    totals->lost_track += oracle_stats(world->oracle)->lost_track;
    totals->bytes_checked += oracle_stats(world->oracle)->blocks_checked * BLOCK_BYTES;
    totals->steps += world->trace.step;
}

/* ---- rounds ------------------------------------------------------------------------------ */

/* Short rounds are as interesting as long ones. */
static uint64_t round_steps(struct sim_world *world)
{
    uint32_t bound = world->config.steps_max;

    while (bound > 16 && sim_random_below(&world->fate, 2))
        bound /= 2;
    return sim_random_range(&world->fate, 1, bound);
}

static void run_steps(struct sim_world *world, uint64_t steps)
{
    uint64_t end = world->trace.step + steps;

    while (world->trace.step < end && world->phase != PHASE_REFUSED &&
           world->phase != PHASE_STOPPED) {
        if (!sim_world_advance(world)) {
            if (world->phase == PHASE_SERVE && world->client.open == 0)
                return;
            describe_stuck(world);
            sim_fail(world, "nothing will ever happen again in %s", phase_name(world->phase));
        }
        sim_world_check_progress(world);
    }
}

static void run_round(struct sim_world *world)
{
    const struct sim_config *config = &world->config;
    uint64_t steps = round_steps(world);
    bool in_boot = sim_random_percent(&world->fate, config->boot_crash_percent);
    bool clean = sim_random_percent(&world->fate, config->clean_percent);
    bool power = !sim_random_percent(&world->fate, config->kill_percent);

    sim_trace_note(&world->trace, TRACE_ROUND, world->round, steps,
                   in_boot ? 0 : (clean ? 2u : 4u) + power);
    sim_fault_round(world);
    sim_boot_start(world);
    if (!in_boot)
        sim_world_until(world, PHASE_SERVE);
    run_steps(world, steps);
    if (clean && world->phase == PHASE_SERVE) {
        sim_boot_stop(world, sim_random_percent(&world->fate, 50));
        if (sim_random_percent(&world->fate, 70))
            sim_world_until(world, PHASE_STOPPED);
        else
            run_steps(world, round_steps(world));
    }
    if (world->phase == PHASE_STOPPED && world->boot.destage_first && world->healed)
        world->totals.clean_stops++;
    else if (world->phase < PHASE_SERVE)
        world->totals.crashes_boot++;
    world->totals.crashes_power += power;
    world->totals.crashes_kill += !power;
    sim_world_crash(world, power);
    world->totals.rounds++;
    world->round++;
}

void sim_world_run(struct sim_world *world, uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds; i++)
        run_round(world);
    sim_world_finish(world);
    sim_world_count(world);
    world->totals.seeds++;
}
