/* SPDX-License-Identifier: Apache-2.0 */
/* A shard from outside: memory, events in, actions out, status. */
#include "engine/pin.h"
#include "engine/shard-private.h"
#include "engine/share.h"

#define BUFFER_BYTES (SCRATCH_BYTES + BATCH_ENTRIES_MAX * BLOCK_BYTES)
#define OWED_LOOKS   1024u /* at slots and clean segments, in one hold of the lock */

/* ---- memory ----------------------------------------------------------------------------- */

/* Hands out parts of one block of memory; without a base it only counts. */
struct carver {
    unsigned char *base;
    size_t used;
};

static void *carve(struct carver *carver, size_t bytes, size_t align)
{
    void *part;

    carver->used = (carver->used + align - 1) & ~(align - 1);
    part = carver->base ? carver->base + carver->used : NULL;
    carver->used += bytes;
    return part;
}

static void geometry_set(struct shard *shard, const struct shard_config *config)
{
    shard->config = *config;
    shard->segment_slots = config->segment_bytes / BLOCK_BYTES;
    shard->segment_shift = 0;
    while (1u << shard->segment_shift < shard->segment_slots)
        shard->segment_shift++;
    shard->footer_slots = footer_slots(shard->segment_slots);
    shard->usable_end = shard->segment_slots - shard->footer_slots;
    shard->slot_count = config->segments << shard->segment_shift;
    shard->frame_count = config->ram_frames;
    shard->bucket_count = shard->slot_count + shard->frame_count;
    shard->ghost_sets = shard->slot_count / GHOST_WAYS;
    shard->batch_count = 2u * config->cores + 16;
    if (shard->config.epochs_max == 0)
        shard->config.epochs_max = EPOCHS_MAX;
}

static void memory_carve(struct shard *shard, struct carver *carver)
{
    unsigned char *headers;

    shard->slots =
        carve(carver, ((size_t)shard->slot_count + shard->frame_count) * sizeof(struct slot), 64);
    if (shard->config.ordered_volumes > 0) {
        uint32_t volumes = shard->config.ordered_volumes;

        shard->tags = carve(carver, (size_t)shard->slot_count * sizeof(uint16_t), 64);
        shard->epochs = carve(carver, volumes * sizeof(struct epochs), 64);
        shard->epoch_pool =
            carve(carver, (size_t)volumes * shard->config.epochs_max * sizeof(struct epoch), 64);
    }
    shard->buckets = carve(carver, (size_t)shard->bucket_count * sizeof(uint32_t), 64);
    shard->ghosts = carve(carver, (size_t)shard->ghost_sets * GHOST_WAYS * sizeof(uint16_t), 64);
    shard->frames = carve(carver, (size_t)shard->frame_count * sizeof(struct frame), 64);
    shard->segments = carve(carver, (size_t)shard->config.segments * sizeof(struct segment), 64);
    shard->order = carve(carver, (size_t)shard->config.segments * sizeof(struct window_item), 64);
    shard->batches = carve(carver, shard->batch_count * sizeof(struct batch), 64);
    shard->writing_by_core = carve(carver, shard->config.cores * sizeof(uint32_t), 64);
    shard->volumes = carve(carver, VOLUMES_MAX * sizeof(struct shard_volume), 64);
    shard->destage.window = carve(carver, DESTAGE_WINDOW * sizeof(struct window_item), 64);
    shard->destage.written = carve(carver, WRITTEN_MAX * sizeof(uint32_t), 64);
    shard->destage.runs = carve(carver, DESTAGE_RUNS * sizeof(struct run), 64);
    shard->scratch = carve(carver, SCRATCH_BYTES, BLOCK_BYTES);
    headers = carve(carver, (size_t)shard->batch_count * BLOCK_BYTES, BLOCK_BYTES);
    shard->reclaim.buffer = carve(carver, BATCH_ENTRIES_MAX * BLOCK_BYTES, BLOCK_BYTES);
    shard->reclaim.header.header = carve(carver, BLOCK_BYTES, BLOCK_BYTES);
    shard->reclaim.footer = carve(carver, (size_t)shard->footer_slots * BLOCK_BYTES, BLOCK_BYTES);
    for (uint32_t i = 0; i < FOOTER_BUFFERS; i++)
        shard->footers[i].footer =
            carve(carver, (size_t)shard->footer_slots * BLOCK_BYTES, BLOCK_BYTES);
    if (!carver->base)
        return;
    for (uint32_t i = 0; i < shard->batch_count; i++)
        shard->batches[i].header = (void *)(headers + (size_t)i * BLOCK_BYTES);
    for (uint32_t i = 0; i < DESTAGE_RUNS; i++)
        shard->destage.runs[i].buffer = shard->scratch + (size_t)i * REGION_BLOCKS * BLOCK_BYTES;
}

size_t shard_memory_bytes(const struct shard_config *config)
{
    struct shard shard;
    struct carver carver = {.base = NULL, .used = sizeof(shard)};

    memset(&shard, 0, sizeof(shard));
    geometry_set(&shard, config);
    memory_carve(&shard, &carver);
    return (carver.used + BLOCK_BYTES - 1) & ~(size_t)(BLOCK_BYTES - 1);
}

struct shard *shard_create(const struct shard_config *config, void *memory)
{
    struct shard *shard = memory;
    struct carver carver = {.base = memory, .used = sizeof(*shard)};

    assert(config->ram_frames >= SHARD_FRAMES_MIN && config->segments >= 16);
    geometry_set(shard, config);
    memory_carve(shard, &carver);
    shard->memory_bytes = shard_memory_bytes(config);
    memset(shard->buckets, 0xff, (size_t)shard->bucket_count * sizeof(uint32_t));
    memset(shard->volume_index, 0xff, sizeof(shard->volume_index));
    for (uint32_t i = 0; i < config->segments; i++)
        shard->segments[i].ring_prev = shard->segments[i].ring_next = NONE;
    shard->ring_oldest = shard->ring_newest = shard->reclaim.left = NONE;
    piece_list_init(&shard->stalled);
    piece_list_init(&shard->blocked);
    piece_list_init(&shard->paced);
    ram_init(shard);
    shard->heat.cursor = shard->pin_cursor = shard->slot_count;
    log_setup(shard);
    destage_init(shard);
    shard->held = config->held;
    if (config->detached) {
        shard->flash_lost = shard->flash_failed = shard->flash_failed_told = true;
        shard->next_lsn = 1;
    } else {
        recovery_init(shard);
    }
    return shard;
}

/* ---- small things for the other files --------------------------------------------------- */

struct action *action_add(struct actions *out, enum action_kind kind)
{
    struct action *action;

    assert(out->count < ACTIONS_MAX);
    action = &out->list[out->count++];
    *action = (struct action){.kind = (uint8_t)kind};
    return action;
}

void action_reply(struct actions *out, struct piece *piece, int error)
{
    piece->error = error;
    action_add(out, ACTION_REPLY)->owner = piece;
}

void action_notice(struct actions *out, enum notice notice, uint16_t volume, uint64_t offset)
{
    struct action *action = action_add(out, ACTION_NOTICE);

    action->slot = notice;
    action->volume = volume;
    action->offset = offset;
}

void piece_list_init(struct piece_list *list)
{
    list->first = NULL;
    list->last = &list->first;
    list->count = 0;
}

void piece_list_push(struct piece_list *list, struct piece *piece)
{
    piece->next = NULL;
    *list->last = piece;
    list->last = &piece->next;
    list->count++;
}

void piece_list_insert(struct piece_list *list, struct piece **link, struct piece *piece)
{
    piece->next = *link;
    *link = piece;
    if (!piece->next)
        list->last = &piece->next;
    list->count++;
}

struct piece *piece_list_cut(struct piece_list *list, struct piece **link)
{
    struct piece *piece = *link;

    *link = piece->next;
    if (list->last == &piece->next)
        list->last = link;
    list->count--;
    return piece;
}

struct piece *piece_list_pop(struct piece_list *list)
{
    return piece_list_cut(list, &list->first);
}

void metadata_count(struct shard *shard, uint64_t bytes)
{
    shard->counters.flash_metadata_writes++;
    shard->counters.flash_bytes += bytes;
}

/* ---- events ----------------------------------------------------------------------------- */

static void request(struct shard *shard, struct piece *piece, struct actions *out)
{
    assert(!shard->recovering && piece->count >= 1 && piece->count <= REGION_BLOCKS);
    assert(piece->block >> REGION_SHIFT == (piece->block + piece->count - 1) >> REGION_SHIFT);
    if (piece->op == PIECE_READ || piece->op == PIECE_PREFETCH)
        read_request(shard, piece, out);
    else
        write_request(shard, piece, out);
}

static void piece_io_done(struct shard *shard, const struct event *event, struct actions *out)
{
    bool merge = event->action->flags & (ACTION_HEAD | ACTION_TAIL);

    switch (event->action->kind) {
    case ACTION_READ_FLASH:
        if (merge)
            write_merge_done(shard, event, out);
        else
            read_flash_done(shard, event, out);
        break;
    case ACTION_READ_BACKING:
        if (merge)
            write_merge_done(shard, event, out);
        else
            read_backing_done(shard, event, out);
        break;
    case ACTION_FILL: read_fill_done(shard, event, out); break;
    case ACTION_MERGE: write_merge_done(shard, event, out); break;
    default: write_backing_done(shard, event, out); break;
    }
}

static void destage_io_done(struct shard *shard, const struct event *event, struct actions *out)
{
    switch (event->action->kind) {
    case ACTION_READ_FLASH: destage_read_done(shard, event, out); break;
    case ACTION_FLUSH_FLASH: destage_flash_flushed(shard, event, out); break;
    case ACTION_FLUSH_BACKING: destage_backing_flushed(shard, event, out); break;
    default: destage_write_done(shard, event, out); break;
    }
}

static void io_done(struct shard *shard, const struct event *event, struct actions *out)
{
    const struct action *action = event->action;

    if (action->flags & ACTION_PIECE) {
        piece_io_done(shard, event, out);
        return;
    }
    switch (action->first) {
    case TAG_BATCH: log_batch_done(shard, action->owner, event->result, out); break;
    case TAG_FOOTER: log_footer_done(shard, action->owner, event->result, out); break;
    case TAG_CLOSING: log_closing_flushed(shard, action->slot, event->result, out); break;
    case TAG_DESTAGE: destage_io_done(shard, event, out); break;
    case TAG_RECLAIM: reclaim_io_done(shard, event, out); break;
    case TAG_RECOVERY: recovery_io_done(shard, event, out); break;
    default: assert(false);
    }
}

static bool quiet(const struct shard *shard)
{
    return shard->batches_free == shard->batch_count && !shard->merging &&
           shard->writing_count == 0 && shard->stalled.count == 0 && shard->blocked.count == 0 &&
           shard->paced.count == 0 && destage_idle(shard) && reclaim_idle(shard);
}

/* Towards idle: everything under way ends, then the open segment gets its footer. */
static void stop_progress(struct shard *shard, struct actions *out)
{
    if (shard->batch_open)
        log_seal(shard, UINT16_MAX, out);
    if (!quiet(shard) || shard->stop_footer)
        return;
    shard->stop_footer = true;
    if (shard->open_segment != NONE)
        log_close_segment(shard, out);
}

static void tick(struct shard *shard, struct actions *out)
{
    shard->tick_ns = UINT64_MAX;
    if (shard->failed)
        return;
    if (shard->recovering) {
        recovery_tick(shard, out);
        return;
    }
    write_tick(shard, out);
    log_tick(shard, out);
    destage_tick(shard, out);
    reclaim_tick(shard, out);
    pin_tick(shard);
    ram_write(shard, out);
}

void shard_step(struct shard *shard, uint64_t now_ns, const struct event *events, uint32_t count,
                struct actions *out)
{
    out->count = 0;
    out->again = false;
    shard->now_ns = now_ns;
    for (uint32_t i = 0; i < count; i++) {
        const struct event *event = &events[i];

        switch (event->kind) {
        case EVENT_REQUEST: request(shard, event->piece, out); break;
        case EVENT_IO_DONE: io_done(shard, event, out); break;
        case EVENT_SEAL: log_seal_event(shard, event->core, out); break;
        case EVENT_TICK: tick(shard, out); break;
        case EVENT_STOP:
            shard->stopping = shard->unblock = true;
            tick_want(shard, now_ns);
            break;
        }
    }
    if (shard->recovering)
        return;
    if (shard->flash_failed && !shard->flash_failed_told) {
        shard->flash_failed_told = true;
        tick_want(shard, now_ns); /* for the time-outs of writes that wait now */
        action_notice(out, NOTICE_FLASH_FAILED, 0, segment_offset(shard, 0));
    }
    if (shard->unblock || shard->stalled.count > 0)
        write_progress(shard, out);
    if (shard->stopping)
        stop_progress(shard, out);
    if (shard->epochs_changed)
        epoch_report(shard, out);
}

/* ---- state ------------------------------------------------------------------------------ */

int shard_ready(const struct shard *shard)
{
    return shard->failed ? shard->error : !shard->recovering;
}

bool shard_idle(const struct shard *shard)
{
    return shard->stop_footer && shard->closing_count == 0 && quiet(shard);
}

uint64_t shard_next_tick(const struct shard *shard)
{
    return shard->tick_ns;
}

uint32_t shard_slot_crc(const struct shard *shard, uint32_t slot)
{
    return shard->slots[slot].crc;
}

void shard_flash_read_end(struct shard *shard, uint32_t slot)
{
    atomic_fetch_sub_explicit(&slot_segment(shard, slot)->users, 1, memory_order_release);
}

unsigned char *shard_frame(const struct shard *shard, uint32_t frame)
{
    return shard->config.ram + (size_t)(frame - shard->slot_count) * BLOCK_BYTES;
}

void shard_frame_unpin(struct shard *shard, uint32_t frame)
{
    atomic_fetch_sub_explicit(&shard->frames[frame - shard->slot_count].pins, 1,
                              memory_order_release);
}

uint64_t shard_flush_begin(const struct shard *shard)
{
    if (MUTANT(301))
        return shard->recovering ? 0 : shard->next_lsn - 1;
    return shard->recovering ? 0 : log_completed_lsn(shard);
}

void shard_flush_end(struct shard *shard, uint64_t token)
{
    if (shard->recovering)
        return;
    if (token >= shard->volatile_last)
        shard->volatile_first = UINT64_MAX;
    else if (token >= shard->volatile_first)
        shard->volatile_first = token + 1;
    log_durable_advance(shard, token);
    tick_want(shard, shard->last_append_ns + MARK_IDLE_NS); /* for the mark */
}

/* Of a volume that is gone without anything left of it, or a new one. */
static uint8_t volume_place(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];

        if (volume->policy.present || volume->dirty > 0 || volume->stalled > 0)
            continue;
        epochs_detach(shard, volume);
        shard->volume_index[volume->id] = UINT8_MAX;
        memset(volume, 0, sizeof(*volume));
        return (uint8_t)i;
    }
    assert(shard->volume_count < VOLUMES_MAX);
    return (uint8_t)shard->volume_count++;
}

void shard_volume_set(struct shard *shard, uint16_t id, const struct volume_policy *policy)
{
    struct shard_volume *volume;
    bool fresh = shard->volume_index[id] == UINT8_MAX;
    struct ranges pins;

    assert(id <= VOLUME_ID_MAX);
    if (fresh)
        shard->volume_index[id] = volume_place(shard);
    volume = &shard->volumes[shard->volume_index[id]];
    volume->id = id;
    pins = volume->policy.pins;
    volume->policy = *policy;
    if (!policy->present)
        volume->policy.pins.count = 0;
    if (fresh)
        epochs_attach(shard, volume);
    else if (!policy->present && volume->dirty == 0)
        epochs_detach(shard, volume);
    if (fresh && policy->backing_debt)
        volume->around_writes = 1; /* hazard 13 */
    if (fresh)
        share_count(shard, volume);
    share_set(shard);
    if (!ranges_same(&pins, &volume->policy.pins))
        pin_recount(shard);
    tick_want(shard, shard->now_ns);
}

void shard_destage_all(struct shard *shard, uint16_t id)
{
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];

        if (id != VOLUME_ALL && volume->id != id)
            continue;
        if (!volume->destage_all) /* who waits asks again and again */
            shard->destage.unreadable_ns = shard->destage.unreadable_due_ns = 0;
        volume->destage_all = volume_destageable(volume) > 0;
    }
    tick_want(shard, shard->now_ns);
}

uint64_t shard_dirty_blocks(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume;

    if (id == VOLUME_ALL)
        return shard->dirty_blocks + reclaim_copies_dirty(shard, id);
    volume = shard_volume(shard, id);
    return volume ? volume->dirty + reclaim_copies_dirty(shard, id) : 0;
}

uint64_t shard_owed_blocks(const struct shard *shard, uint16_t id, uint32_t *cursor)
{
    uint64_t owed = 0;

    for (uint32_t looks = 0; looks < OWED_LOOKS && *cursor < shard->slot_count; looks++) {
        uint32_t segment = *cursor >> shard->segment_shift;
        const struct slot *slot = &shard->slots[*cursor];

        if (shard->segments[segment].dirty == 0) {
            *cursor = (segment + 1) << shard->segment_shift;
            continue;
        }
        owed +=
            (slot->bits & (SLOT_DIRTY | SLOT_WRITTEN | SLOT_THROUGH | SLOT_BAD)) == SLOT_DIRTY &&
            key_volume(slot_key(slot)) == id;
        ++*cursor;
    }
    if (*cursor >= shard->slot_count)
        *cursor = UINT32_MAX;
    return owed;
}

uint64_t shard_flash_blocks(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume ? volume->live : 0;
}

uint64_t shard_pinned_blocks(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume ? volume->pinned : 0;
}

struct ranges shard_volume_pins(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume ? volume->policy.pins : (struct ranges){0};
}

uint64_t shard_lost_blocks(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume;

    if (shard->flash_lost)
        return shard_dirty_blocks(shard, id);
    if (id == VOLUME_ALL)
        return shard->lost_blocks;
    volume = shard_volume(shard, id);
    return volume ? volume->lost : 0;
}

uint64_t shard_unreadable_blocks(const struct shard *shard, uint16_t id)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < shard->volume_count; i++)
        if (id == VOLUME_ALL || shard->volumes[i].id == id)
            sum += shard->volumes[i].unreadable;
    return sum;
}

bool shard_backing_fails(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume && volume->failing;
}

void shard_mrc_set(struct shard *shard, uint16_t id, struct mrc *mrc)
{
    struct shard_volume *volume = shard_volume(shard, id);

    if (volume)
        volume->mrc = mrc;
}

void shard_mrc_add(const struct shard *shard, uint16_t id, struct mrc_sum *sum, unsigned octaves)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    if (volume && volume->mrc)
        mrc_add(volume->mrc, sum, octaves);
}

const struct counters *shard_counters(const struct shard *shard, uint16_t id)
{
    const struct shard_volume *volume = shard_volume(shard, id);

    return volume ? &volume->counters : NULL;
}

const struct flash_counters *shard_flash_counters(const struct shard *shard)
{
    return &shard->counters;
}

void shard_status(const struct shard *shard, struct shard_status *status)
{
    *status = (struct shard_status){
        .watermark = shard->watermark,
        .durable_lsn = shard->durable_lsn,
        .next_lsn = shard->next_lsn,
        .slots_total =
            (uint64_t)(shard->config.segments - shard->retired_count) * segment_capacity(shard),
        .slots_used = shard->live_blocks,
        .slots_pinned = shard->pinned,
        .slots_pinned_max = pin_most(shard),
        .slots_dirty = shard->dirty_blocks,
        .slots_lost = shard->lost_blocks,
        .frames_used = shard->frame_count - shard->frames_free,
        .frames_total = shard->frame_count,
        .segments_total = shard->config.segments,
        .segments_free = shard->free_count + shard->ready_count,
        .segments_retired = shard->retired_count,
        .memory_bytes = shard->memory_bytes - BUFFER_BYTES,
        .buffer_bytes = BUFFER_BYTES,
        .recovery_entries = shard->recovery_entries,
        .stalled_pieces = shard->stalled.count,
        .flash_failed = shard->flash_failed,
    };
}

void shard_block_state(const struct shard *shard, uint16_t volume, uint64_t block, uint32_t count,
                       uint8_t *state)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t key = key_of(volume, block + i);
        uint32_t flash = index_flash(shard, key), any = index_lookup(shard, key);
        unsigned bits = flash == NONE ? 0 : shard->slots[flash].bits;
        bool zero = flash != NONE && slot_is_zeros(&shard->slots[flash]);

        state[i] =
            (uint8_t)((any != NONE && is_frame(shard, any) ? SHARD_BLOCK_RAM : 0) |
                      (flash != NONE ? SHARD_BLOCK_FLASH : 0) |
                      (bits & SLOT_DIRTY ? SHARD_BLOCK_DIRTY : 0) | (zero ? SHARD_BLOCK_ZERO : 0) |
                      (zero && bits & SLOT_HOLE ? SHARD_BLOCK_HOLE : 0));
    }
}
