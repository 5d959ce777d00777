/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real policy: whole shards, as the daemon runs them, over devices that do every I/O at once and
 * keep no data.  Only what the engine reads back of its own metadata is kept: what it writes
 * alone, in an address range as large as the flash, of which the kernel gives only what is used.
 *
 * Time is the trace's, but goes on by REQUEST_NS at least from request to request; an I/O takes none.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/shard.h"
#include "engine/superblock.h"
#include "io/stream.h"
#include "replay/policy.h"

#define REQUEST_NS        UINT64_C(50000)
#define TICKS_MAX         64u /* between two requests; what is due is done before, but see run() */
#define REPLY_TICKS_MAX   100000u
#define QUEUE             (4 * ACTIONS_MAX) /* a power of two */
#define SEGMENTS_LEAST    64u
#define SEGMENT_BYTES_LOW 65536u

struct engine_shard {
    struct shard *shard;
    struct shard_config config;
    void *memory;
    size_t memory_bytes;
};

struct engine {
    struct replay_result result;
    struct replay_config config;
    struct superblock superblock;
    struct engine_shard *shards;
    struct stream_table streams[TRACE_VOLUMES];
    bool present[TRACE_VOLUMES]; /* a shard knows the volume from when it is first needed */
    unsigned char *flash;        /* metadata only */
    size_t flash_bytes;
    uint64_t now_ns;
    bool replied;
    uint32_t head, tail;
    struct action queue[QUEUE];
    struct actions out;
    struct piece piece;
    unsigned char *data; /* stands for every payload, and is never touched */
};

/* ---- carrying out actions ----------------------------------------------------------------- */

static void step(struct engine *engine, struct shard *shard, const struct event *event)
{
    shard_step(shard, engine->now_ns, event, 1, &engine->out);
    for (uint32_t i = 0; i < engine->out.count; i++) {
        if (engine->tail - engine->head == QUEUE)
            abort(); /* one request at a time asks for no more */
        engine->queue[engine->tail++ % QUEUE] = engine->out.list[i];
    }
}

static void done(struct engine *engine, struct shard *shard, const struct action *action)
{
    step(engine, shard, &(struct event){.kind = EVENT_IO_DONE, .action = action});
}

static void piece_io_ended(struct engine *engine, struct piece *piece)
{
    if (--piece->ios == 0)
        engine->replied = true;
}

static void read_flash(struct engine *engine, struct shard *shard, const struct action *action)
{
    if (!(action->flags & ACTION_VERIFY)) {
        if (engine->result.metadata_bytes == 0) /* nothing is there yet */
            memset(action->data, 0, action->length);
        else
            memcpy(action->data, engine->flash + action->offset, action->length);
    }
    if (action->flags & ACTION_REPORT) {
        done(engine, shard, action);
        return;
    }
    shard_flash_read_end(shard, action->slot);
    piece_io_ended(engine, action->owner);
}

static void write_flash(struct engine *engine, struct shard *shard, const struct action *action)
{
    struct flash_write *write = action->owner;

    if (write->iov_count == 1) {
        flash_write_seal(write);
        memcpy(engine->flash + action->offset, write->iov[0].iov_base, write->iov[0].iov_len);
    }
    engine->result.metadata_bytes += write->iov[0].iov_len;
    done(engine, shard, action);
}

static void carry_out(struct engine *engine, struct shard *shard, const struct action *action)
{
    switch ((enum action_kind)action->kind) {
    case ACTION_READ_FLASH: read_flash(engine, shard, action); return;
    case ACTION_WRITE_FLASH: write_flash(engine, shard, action); return;
    case ACTION_FLUSH_FLASH: shard_flush_end(shard, shard_flush_begin(shard)); break;
    case ACTION_REPLY: engine->replied = true; return;
    case ACTION_RESUME:
        step(engine, shard, &(struct event){.kind = EVENT_REQUEST, .piece = action->owner});
        return;
    case ACTION_NOTICE:
    case ACTION_EPOCH: return;
    case ACTION_READ_BACKING:
    case ACTION_WRITE_BACKING:
    case ACTION_ZERO_BACKING:
    case ACTION_FLUSH_BACKING:
    case ACTION_FILL:
    case ACTION_MERGE:
    case ACTION_RETIRE: break;
    }
    done(engine, shard, action);
}

static void run(struct engine *engine, struct shard *shard)
{
    for (; engine->head != engine->tail; engine->head++)
        carry_out(engine, shard, &engine->queue[engine->head % QUEUE]);
}

/* Everything that is due at `until_ns`, in order. */
static void let_pass(struct engine *engine, struct shard *shard, uint64_t until_ns)
{
    for (unsigned i = 0; i < TICKS_MAX && shard_next_tick(shard) <= until_ns; i++) {
        if (shard_next_tick(shard) > engine->now_ns)
            engine->now_ns = shard_next_tick(shard);
        step(engine, shard, &(struct event){.kind = EVENT_TICK});
        run(engine, shard);
        step(engine, shard, &(struct event){.kind = EVENT_SEAL});
        run(engine, shard);
    }
}

/* ---- requests ----------------------------------------------------------------------------- */

/* To its end, and with all that it leaves to be done at once. */
static void submit(struct engine *engine, struct shard *shard, struct piece *piece)
{
    engine->replied = false;
    step(engine, shard, &(struct event){.kind = EVENT_REQUEST, .piece = piece});
    run(engine, shard);
    step(engine, shard, &(struct event){.kind = EVENT_SEAL});
    run(engine, shard);
    for (unsigned i = 0; !engine->replied; i++) { /* a write may be paced, or wait for room */
        if (i == REPLY_TICKS_MAX || shard_next_tick(shard) == UINT64_MAX)
            abort();
        let_pass(engine, shard, shard_next_tick(shard));
    }
    let_pass(engine, shard, engine->now_ns);
}

static void unpin(struct shard *shard, const struct piece *piece)
{
    for (uint64_t left = piece->ram_mask; left != 0; left &= left - 1)
        shard_frame_unpin(shard, piece->frame[__builtin_ctzll(left)]);
}

static bool piece_submit(struct engine *engine, const struct trace_request *request, uint64_t first,
                         uint64_t end, uint8_t flags)
{
    struct piece *piece = &engine->piece;
    struct shard *shard =
        engine->shards[shard_of(request->volume, first, engine->superblock.shard_count)].shard;

    piece->op = request->is_write ? PIECE_WRITE : PIECE_READ;
    piece->flags = flags;
    piece->volume = request->volume;
    piece->block = first;
    piece->count = (uint16_t)(end - first);
    piece->head_bytes = piece->tail_bytes = 0;
    piece->data = engine->data;
    piece->ram_mask = 0;
    piece->state = piece->resumed = 0;
    submit(engine, shard, piece);
    if (request->is_write)
        return false;
    unpin(shard, piece);
    return piece->backing_blocks > 0;
}

static void volume_begin(struct engine *engine, uint16_t id)
{
    const struct replay_share *share = &engine->config.shares[id - 1];
    struct volume_policy policy = {.present = true,
                                   .mode = MODE_WRITE_BACK,
                                   .blocks = VOLUME_BLOCKS_MAX,
                                   .share_min_percent = share->least_percent,
                                   .share_max_percent = share->most_percent};

    for (uint32_t i = 0; i < engine->superblock.shard_count; i++)
        shard_volume_set(engine->shards[i].shard, id, &policy);
    engine->present[id - 1] = true;
}

static void engine_request(struct replay *replay, const struct trace_request *request)
{
    struct engine *engine = (struct engine *)replay;
    uint64_t first = request->offset >> BLOCK_SHIFT, next;
    uint64_t end = (request->offset + request->length + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
    uint64_t now_ns = request->time_us * 1000;
    uint8_t flags = 0;
    bool missed = false;

    if (now_ns < engine->now_ns + REQUEST_NS)
        now_ns = engine->now_ns + REQUEST_NS;
    for (uint32_t i = 0; i < engine->superblock.shard_count; i++)
        let_pass(engine, engine->shards[i].shard, now_ns);
    if (now_ns > engine->now_ns)
        engine->now_ns = now_ns;
    if (!engine->present[request->volume - 1])
        volume_begin(engine, request->volume);
    engine->result.requests++;
    engine->result.reads += !request->is_write;
    engine->result.writes += request->is_write;
    if (!request->is_write) {
        bool is_run;
        uint64_t run = stream_note(&engine->streams[request->volume - 1], request->offset,
                                   request->length, &is_run);

        flags |= is_run ? PIECE_SEQUENTIAL : 0;
        if (engine->config.cutoff_bytes != 0 && run > engine->config.cutoff_bytes)
            flags |= PIECE_BEYOND;
    }
    for (; first < end; first = next) {
        next = (first | (REGION_BLOCKS - 1)) + 1;
        next = next < end ? next : end;
        missed |= piece_submit(engine, request, first, next, flags);
    }
    engine->result.read_misses += missed;
}

/* ---- life --------------------------------------------------------------------------------- */

static void engine_destroy(struct replay *replay)
{
    struct engine *engine = (struct engine *)replay;

    for (uint32_t i = 0; engine->shards && i < engine->superblock.shard_count; i++)
        if (engine->shards[i].memory)
            munmap(engine->shards[i].memory, engine->shards[i].memory_bytes);
    free(engine->shards);
    if (engine->flash)
        munmap(engine->flash, engine->flash_bytes);
    free(engine->data);
    free(engine);
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* As blkcachectl format lays the device out; one too small for that gets smaller segments still. */
static int geometry(struct engine *engine, const struct replay_config *config, char *why,
                    size_t why_bytes)
{
    static const uint8_t uuid[16] = {'r', 'e', 'p', 'l', 'a', 'y'};
    struct superblock *sb = &engine->superblock;
    uint64_t usable = config->flash_bytes, segment_bytes = SEGMENT_BYTES_MIN;
    int error =
        superblock_init(sb,
                        &(struct superblock_geometry){.device_bytes = config->flash_bytes,
                                                      .segment_bytes = config->segment_bytes,
                                                      .shards = config->shards,
                                                      .cores = 1},
                        uuid, why, why_bytes);

    if (error != -ENOSPC || config->segment_bytes || config->shards)
        return error;
    engine->result.too_small = true;
    while (segment_bytes > SEGMENT_BYTES_LOW && usable / segment_bytes < SEGMENTS_LEAST)
        segment_bytes /= 2;
    memset(sb, 0, sizeof(*sb));
    memcpy(sb->uuid, uuid, sizeof(uuid));
    sb->segment_bytes = segment_bytes;
    sb->shard_count = 1;
    sb->segments_per_shard = (uint32_t)(usable / segment_bytes);
    sb->device_bytes = usable + DATA_OFFSET + SUPERBLOCK_BYTES;
    if (sb->segments_per_shard >= 16)
        return 0;
    snprintf(why, why_bytes, "the flash is too small: it needs 1M at least");
    return -ENOSPC;
}

static bool shard_start(struct engine *engine, uint32_t index)
{
    const struct superblock *sb = &engine->superblock;
    struct engine_shard *own = &engine->shards[index];
    uint64_t frames = engine->config.ram_bytes / BLOCK_BYTES / sb->shard_count;

    own->config = (struct shard_config){
        .session = 1,
        .shard = (uint16_t)index,
        .cores = 1,
        .segment_first = index * sb->segments_per_shard,
        .segments = sb->segments_per_shard,
        .segment_bytes = (uint32_t)sb->segment_bytes,
        .ram_frames = (uint32_t)(frames < SHARD_FRAMES_MIN ? SHARD_FRAMES_MIN : frames),
        .ram = engine->data,
        .clean_start = true,
    };
    memcpy(own->config.uuid, sb->uuid, sizeof(sb->uuid));
    own->memory_bytes = shard_memory_bytes(&own->config);
    own->memory = map(own->memory_bytes);
    if (!own->memory)
        return false;
    own->shard = shard_create(&own->config, own->memory);
    while (shard_ready(own->shard) == 0) {
        step(engine, own->shard, &(struct event){.kind = EVENT_TICK});
        run(engine, own->shard);
    }
    let_pass(engine, own->shard, engine->now_ns);
    engine->result.ram_blocks += own->config.ram_frames;
    return shard_ready(own->shard) > 0;
}

/* The first one, whose counters hold what is no volume's, and those that are promised something. */
static void volumes_begin(struct engine *engine)
{
    volume_begin(engine, 1);
    for (uint16_t id = 2; id <= TRACE_VOLUMES; id++)
        if (engine->config.shares[id - 1].least_percent > 0)
            volume_begin(engine, id);
}

static struct replay *engine_create(const struct replay_config *config, char *why, size_t why_bytes)
{
    struct engine *engine = calloc(1, sizeof(*engine));

    if (engine) {
        engine->config = *config;
        engine->now_ns = 1;
        if (geometry(engine, config, why, why_bytes) < 0) {
            engine_destroy((struct replay *)engine);
            return NULL;
        }
        engine->flash_bytes = engine->superblock.device_bytes;
        engine->flash = map(engine->flash_bytes);
        engine->data = aligned_alloc(BLOCK_BYTES, (size_t)REGION_BLOCKS * BLOCK_BYTES);
        engine->shards = calloc(engine->superblock.shard_count, sizeof(*engine->shards));
    }
    if (engine && engine->flash && engine->data && engine->shards) {
        uint32_t started = 0;

        while (started < engine->superblock.shard_count && shard_start(engine, started))
            started++;
        if (started == engine->superblock.shard_count) {
            volumes_begin(engine);
            return (struct replay *)engine;
        }
    }
    snprintf(why, why_bytes, "not enough memory");
    if (engine)
        engine_destroy((struct replay *)engine);
    return NULL;
}

static void volume_result(const struct shard *shard, uint16_t id, struct replay_result *result)
{
    const struct counters *counters = shard_counters(shard, id);
    struct replay_volume *volume = &result->volumes[id - 1];

    volume->read_blocks += counters->read_blocks;
    volume->miss_blocks += counters->miss_blocks;
    volume->flash_blocks += shard_flash_blocks(shard, id);
    result->read_blocks += counters->read_blocks;
    result->ram_hit_blocks += counters->ram_hit_blocks;
    result->flash_hit_blocks += counters->flash_hit_blocks + counters->zero_hit_blocks;
    result->miss_blocks += counters->miss_blocks;
    result->fill_blocks += counters->flash_fill_blocks - counters->flash_promote_blocks;
    result->promote_blocks += counters->flash_promote_blocks;
    result->reinsert_blocks += counters->flash_reinsert_blocks;
    result->write_blocks += counters->flash_write_blocks;
}

static void engine_result(struct replay *replay, struct replay_result *result)
{
    struct engine *engine = (struct engine *)replay;

    *result = engine->result;
    result->shards = engine->superblock.shard_count;
    result->segments = engine->superblock.segments_per_shard;
    result->segment_bytes = engine->superblock.segment_bytes;
    for (uint32_t i = 0; i < engine->superblock.shard_count; i++) {
        const struct shard *shard = engine->shards[i].shard;
        struct shard_status status;

        shard_status(shard, &status);
        result->flash_blocks += status.slots_total;
        result->memory_bytes += status.memory_bytes;
        for (uint16_t id = 1; id <= TRACE_VOLUMES; id++)
            if (engine->present[id - 1])
                volume_result(shard, id, result);
    }
}

const struct replay_policy replay_engine = {
    .name = "blkcached",
    .text = "what blkcached does: its own code (the default)",
    .create = engine_create,
    .request = engine_request,
    .result = engine_result,
    .destroy = engine_destroy,
};
