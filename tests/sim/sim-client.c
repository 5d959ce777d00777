/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked for: after a recovery, blocks whose content the crash left open (and sometimes all
 * of them) are read back; besides, a random workload of the seed's kind, or a script.
 */
#include <string.h>

#include "tests/sim/sim-script.h"

void sim_client_reset(struct sim_world *world)
{
    struct sim_client *client = &world->client;

    memset(client, 0, sizeof(*client));
    client->random = sim_random_stream(world->config.seed, 3);
}

/* ---- reading back ------------------------------------------------------------------------ */

static void check_volume(struct sim_world *world, uint16_t volume)
{
    struct sim_client *client = &world->client;

    while (volume < world->config.volume_count &&
           (world->volumes[volume].gone || world->volumes[volume].leaving))
        volume++;
    client->check_volume = volume;
    client->check_next = 0;
    client->check_count = 0;
    if (volume >= world->config.volume_count) {
        client->checking = false;
        return;
    }
    if (client->check_all) {
        while (client->check_count < world->volumes[volume].blocks) {
            client->check[client->check_count] = client->check_count;
            client->check_count++;
        }
        return;
    }
    client->check_count = oracle_ambiguous(world->oracle, volume, client->check, SIM_BLOCKS_MAX);
    for (unsigned i = 0; i < 4 && client->check_count < SIM_BLOCKS_MAX; i++)
        client->check[client->check_count++] =
            sim_random_below(&client->random, (uint32_t)world->volumes[volume].blocks);
}

void sim_client_recovered(struct sim_world *world)
{
    struct sim_client *client = &world->client;

    client->quiet = false;
    client->check_all =
        sim_random_percent(&client->random, world->damaged ? 40 : 10) || client->check_always;
    client->flush_next = client->script == NULL && sim_random_percent(&client->random, 20)
                             ? 0
                             : (uint16_t)world->config.volume_count;
    client->checking = sim_random_percent(&client->random, 80) || client->check_all;
    client->next_ns = world->now_ns;
    if (client->checking)
        check_volume(world, 0);
}

/* One read of neighbours that are in the list one after the other. */
static bool check_want(struct sim_world *world, struct sim_want *want)
{
    struct sim_client *client = &world->client;
    uint64_t first;
    uint32_t count = 1;

    while (client->checking && client->check_next == client->check_count)
        check_volume(world, (uint16_t)(client->check_volume + 1));
    if (!client->checking)
        return false;
    first = client->check[client->check_next++];
    while (count < 64 && client->check_next < client->check_count &&
           client->check[client->check_next] == first + count) {
        client->check_next++;
        count++;
    }
    *want = (struct sim_want){.kind = OP_READ,
                              .volume = client->check_volume,
                              .offset = first * BLOCK_BYTES,
                              .length = (uint64_t)count * BLOCK_BYTES};
    if (want->offset + want->length > world->volumes[want->volume].bytes)
        want->length = world->volumes[want->volume].bytes - want->offset;
    return true;
}

/* ---- the random workload ----------------------------------------------------------------- */

static enum sim_op choose_op(struct sim_client *client, const struct sim_workload *load)
{
    const uint32_t weights[OPS] = {
        [OP_READ] = load->read,         [OP_WRITE] = load->write,
        [OP_ZERO] = load->zero,         [OP_TRIM] = load->trim,
        [OP_PREFETCH] = load->prefetch, [OP_INVALIDATE] = load->invalidate,
        [OP_FLUSH] = load->flush,
    };
    uint32_t sum = 0, dice;
    unsigned op = 0;

    for (unsigned i = 0; i < OPS; i++)
        sum += weights[i];
    dice = sim_random_below(&client->random, sum);
    while (dice >= weights[op])
        dice -= weights[op++];
    return op;
}

static void choose_range(struct sim_world *world, struct sim_want *want)
{
    struct sim_client *client = &world->client;
    const struct sim_workload *load = &world->config.workload;
    struct sim_random *random = &client->random;
    const struct sim_volume *volume = &world->volumes[want->volume];
    bool zero = want->kind == OP_ZERO || want->kind == OP_TRIM || want->kind == OP_INVALIDATE;
    uint64_t blocks = sim_random_range(random, 1, load->blocks_max), block;

    if (sim_random_percent(random, load->large_percent))
        blocks = sim_random_range(random, 1, zero ? SIM_ZERO_BLOCKS : SIM_READ_BLOCKS - 2);
    if (sim_random_percent(random, load->sequential_percent))
        block = client->sequential[want->connection] / BLOCK_BYTES % volume->blocks;
    else if (sim_random_percent(random, load->hot_percent))
        block = sim_random_below(random, load->hot_blocks) % volume->blocks;
    else
        block = sim_random_below(random, (uint32_t)volume->blocks);
    want->offset = block * BLOCK_BYTES;
    want->length = blocks * BLOCK_BYTES;
    if (sim_random_percent(random, load->sector_percent)) {
        want->offset += sim_random_below(random, 8) * SECTOR_BYTES;
        want->length = sim_random_range(random, 1, (uint32_t)blocks * 8) * SECTOR_BYTES;
    }
    if (sim_random_percent(random, load->odd_percent)) {
        want->offset += sim_random_below(random, SECTOR_BYTES);
        want->length -= sim_random_below(random, SECTOR_BYTES);
    }
    if (want->offset >= volume->bytes)
        want->offset = 0;
    if (zero && want->kind != OP_INVALIDATE && sim_random_percent(random, load->whole_percent)) {
        want->offset = 0;
        want->length = volume->bytes;
    }
    if (want->length > volume->bytes - want->offset)
        want->length = volume->bytes - want->offset;
    client->sequential[want->connection] = want->offset + want->length;
}

/* A trim is about the whole blocks inside; the short last one of the volume is one. */
static bool trim_range(const struct sim_volume *volume, struct sim_want *want)
{
    uint64_t end = want->offset + want->length;
    uint64_t first = (want->offset + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;

    if (end != volume->bytes)
        end = end / BLOCK_BYTES * BLOCK_BYTES;
    if (end <= first)
        return false;
    want->offset = first;
    want->length = end - first;
    return true;
}

static void choose_flags(struct sim_world *world, struct sim_want *want)
{
    struct sim_random *random = &world->client.random;
    const struct sim_workload *load = &world->config.workload;
    bool zero = want->kind == OP_ZERO || want->kind == OP_TRIM;

    if ((want->kind == OP_WRITE || zero) && sim_random_percent(random, load->fua_percent))
        want->flags |= PIECE_FUA;
    if (want->kind == OP_INVALIDATE && !world->volumes[want->volume].ordered &&
        sim_random_percent(random, load->discard_percent))
        want->flags |= PIECE_DISCARD;
    if (want->kind == OP_READ && sim_random_percent(random, load->no_fill_percent))
        want->flags |= PIECE_NO_FILL;
    /* Where blocks are atomic, nothing goes around the cache: the backing store may tear it. */
    if (zero && !world->config.volumes[want->volume].atomic_blocks &&
        sim_random_percent(random, load->around_percent))
        want->flags |= PIECE_AROUND;
}

static bool choose(struct sim_world *world, struct sim_want *want)
{
    struct sim_client *client = &world->client;
    const struct sim_workload *load = &world->config.workload;
    uint32_t connection = sim_random_below(&client->random, load->connections);
    bool changes;

    *want = (struct sim_want){.connection = connection};
    if (client->open_by_connection[connection] >= load->depth)
        return false;
    want->kind = (uint8_t)choose_op(client, load);
    want->volume = (uint16_t)sim_random_below(&client->random, world->config.volume_count);
    while (world->volumes[want->volume].gone || world->volumes[want->volume].leaving)
        want->volume = (uint16_t)((want->volume + 1) % world->config.volume_count);
    if (want->kind == OP_FLUSH) {
        if (sim_random_percent(&client->random, load->idle_percent))
            client->idle_ns = sim_random_range(&client->random, 100, 3000) * UINT64_C(1000000);
        return true;
    }
    choose_range(world, want);
    if (want->kind == OP_TRIM && !trim_range(&world->volumes[want->volume], want))
        return false;
    choose_flags(world, want);
    changes = want->kind == OP_WRITE || want->kind == OP_ZERO || want->kind == OP_TRIM;
    if (changes && oracle_crowded(world->oracle, want->volume, want->offset, want->length))
        want->kind = OP_FLUSH;
    return true;
}

/* ---- turns ------------------------------------------------------------------------------ */

bool sim_client_ready(const struct sim_world *world)
{
    const struct sim_client *client = &world->client;

    if (world->phase != PHASE_SERVE || client->quiet || client->next_ns > world->now_ns)
        return false;
    if (client->script != NULL)
        return client->open < client->script->depth &&
               (client->checking ||
                client->script_next < client->script->count * client->script->repeat);
    return client->open < SIM_REQUESTS_MAX &&
           client->open < world->config.workload.connections * world->config.workload.depth;
}

bool sim_client_run(struct sim_world *world)
{
    struct sim_client *client = &world->client;
    struct sim_want want;
    bool first = client->flush_next < world->config.volume_count;
    bool checks = first || check_want(world, &want), wants;

    if (first) /* as whoever mounts it does */
        want = (struct sim_want){.kind = OP_FLUSH, .volume = client->flush_next++};
    wants =
        checks || (client->script != NULL ? sim_script_next(world, &want) : choose(world, &want));

    if (wants)
        sim_request_submit(world, &want);
    if (client->script == NULL && !checks)
        client->next_ns = world->now_ns + client->idle_ns +
                          sim_random_below(&client->random, world->config.workload.think_ns + 1);
    if (client->script == NULL && !checks)
        client->idle_ns = 0;
    return wants;
}
