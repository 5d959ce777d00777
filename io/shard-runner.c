/* SPDX-License-Identifier: Apache-2.0 */
/* Stepping shards: locks, queues, seals and ticks. */
#include "io/shard-runner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "io/cache-private.h"
#include "io/core-private.h"

#define STEPS_PER_TURN 1024u /* then the core looks at its completions again */
#define SEAL_ROUNDS    4u
#define LOOK_NS        UINT64_C(10000000)
#define SLABS_RESERVED 8u /* of I/Os: see request_enter */

/* ---- life --------------------------------------------------------------------------------- */

int shard_runner_enter(struct core *core)
{
    struct runner_core *own = calloc(1, sizeof(*own));

    if (own == NULL)
        return -ENOMEM;
    list_init(&own->slabs);
    list_init(&own->again);
    core->runner = own;
    for (unsigned i = 0; i < SLABS_RESERVED; i++) {
        if (!shard_io_reserve(core)) {
            shard_runner_leave(core);
            return -ENOMEM;
        }
    }
    return 0;
}

void shard_runner_leave(struct core *core)
{
    while (!list_empty(&core->runner->slabs))
        free(list_take_first(&core->runner->slabs));
    free(core->runner);
    core->runner = NULL;
}

/* ---- ticks -------------------------------------------------------------------------------- */

/* On the home core: a tick before it sleeps. */
static void tick_again(struct core *core, struct shard_runner *runner)
{
    core_timer_disarm(core, &runner->timer);
    if (list_empty(&runner->again))
        list_add_tail(&core->runner->again, &runner->again);
}

static void set_tick(struct core *core, struct shard_runner *runner, uint64_t due_ns)
{
    if (due_ns <= core->now_ns)
        tick_again(core, runner);
    else if (!list_empty(&runner->again))
        ; /* comes sooner, and sets the next one */
    else if (due_ns == UINT64_MAX)
        core_timer_disarm(core, &runner->timer);
    else
        core_timer_arm(core, &runner->timer, due_ns);
}

static void tick_due(struct core *core, struct core_timer *timer)
{
    tick_again(core, container_of(timer, struct shard_runner, timer));
}

/* Another core's step, or another thread, moved the tick forward. */
static void woken(struct core *core, struct core_message *message)
{
    struct shard_runner *runner = container_of(message, struct shard_runner, wake);
    uint64_t due_ns;

    pthread_mutex_lock(&runner->lock);
    due_ns = runner->tick_now ? 0 : runner->tick_due_ns;
    runner->tick_now = false;
    runner->wake_queued = false;
    pthread_mutex_unlock(&runner->lock);
    set_tick(core, runner, due_ns);
}

void shard_runner_kick(struct shard_runner *runner)
{
    bool send;

    pthread_mutex_lock(&runner->lock);
    runner->tick_now = true;
    send = !runner->wake_queued;
    runner->wake_queued = true;
    pthread_mutex_unlock(&runner->lock);
    if (send)
        core_message_send(core_at(runner->home), &runner->wake);
}

uint64_t shard_runner_flush_begin(struct shard_runner *runner)
{
    uint64_t token;

    pthread_mutex_lock(&runner->lock);
    token = shard_flush_begin(runner->shard);
    pthread_mutex_unlock(&runner->lock);
    return token;
}

/* Under the lock, after something else than a step: true when the home core is to be woken. */
static bool tick_moved(struct shard_runner *runner)
{
    uint64_t due_ns = shard_next_tick(runner->shard);
    bool send;

    if (due_ns >= runner->tick_due_ns)
        return false;
    runner->tick_due_ns = due_ns;
    send = !runner->wake_queued;
    runner->wake_queued = true;
    return send;
}

void shard_runner_flush_end(struct shard_runner *runner, uint64_t token)
{
    bool send;

    pthread_mutex_lock(&runner->lock);
    shard_flush_end(runner->shard, token);
    send = tick_moved(runner);
    pthread_mutex_unlock(&runner->lock);
    if (send)
        core_message_send(core_at(runner->home), &runner->wake);
}

uint64_t shard_runner_epoch_begin(struct shard_runner *runner, uint16_t volume, uint64_t epoch,
                                  uint64_t now_ns, bool *failing)
{
    uint64_t held;
    bool send;

    pthread_mutex_lock(&runner->lock);
    held = shard_epoch_begin(runner->shard, volume, epoch, now_ns);
    *failing |= shard_backing_fails(runner->shard, volume);
    send = tick_moved(runner);
    pthread_mutex_unlock(&runner->lock);
    if (send)
        core_message_send(core_at(runner->home), &runner->wake);
    return held;
}

void shard_runner_epoch_open(struct shard_runner *runner, uint16_t volume, uint64_t oldest,
                             bool failing, uint64_t now_ns)
{
    bool send;

    pthread_mutex_lock(&runner->lock);
    shard_epoch_open(runner->shard, volume, oldest, failing, now_ns);
    send = tick_moved(runner);
    pthread_mutex_unlock(&runner->lock);
    if (send)
        core_message_send(core_at(runner->home), &runner->wake);
}

/* ---- stepping ----------------------------------------------------------------------------- */

static void touch(struct runner_core *own, const struct shard_runner *runner)
{
    if (own->is_touched[runner->index])
        return;
    own->is_touched[runner->index] = true;
    own->touched[own->touched_count++] = (uint16_t)runner->index;
}

/* On the home core, after each step while the shard recovers or stops. */
static void check_progress(struct core *core, struct shard_runner *runner, int state, int ready,
                           bool idle)
{
    int next = state;

    if (state == RUNNER_RECOVERING && ready != 0)
        next = ready < 0 ? RUNNER_FAILED : RUNNER_SERVING;
    else if (state == RUNNER_STOPPING && idle && runner->stop_told)
        next = RUNNER_STOPPED;
    if (next == state)
        return;
    atomic_store(&runner->state, next);
    cache_runner_changed(core_cache(core), ready < 0 ? ready : 0);
}

/* Nobody's request moves a shard on that recovers or stops: the end of an I/O does, and now and then
 * the home core looks, because the I/O may have been another core's. */
static uint64_t hurry(const struct core *core, const struct event *event, uint64_t due_ns)
{
    if (event->kind == EVENT_IO_DONE)
        return 0;
    return due_ns < core->now_ns + LOOK_NS ? due_ns : core->now_ns + LOOK_NS;
}

/* One event, one hold of the lock; then the actions. */
static void step(struct core *core, struct shard_runner *runner, const struct event *event)
{
    struct runner_core *own = core->runner;
    struct actions *actions = &own->actions;
    bool home = runner->home == core->index, moved, send = false, idle = false;
    int state = atomic_load_explicit(&runner->state, memory_order_relaxed), ready = 1;
    bool passing = state == RUNNER_RECOVERING || state == RUNNER_STOPPING;
    uint64_t due_ns;

    pthread_mutex_lock(&runner->lock);
    shard_step(runner->shard, core->now_ns, event, 1, actions);
    due_ns = actions->again ? 0 : shard_next_tick(runner->shard);
    if (passing)
        due_ns = hurry(core, event, due_ns);
    moved = home || due_ns < runner->tick_due_ns;
    if (moved) {
        runner->tick_due_ns = due_ns;
        runner->tick_now |= !home && due_ns == 0;
        send = !home && !runner->wake_queued;
        runner->wake_queued |= send;
    }
    if (passing && home) {
        ready = shard_ready(runner->shard);
        idle = shard_idle(runner->shard);
    }
    pthread_mutex_unlock(&runner->lock);

    if (send)
        core_message_send(core_at(runner->home), &runner->wake);
    for (uint32_t i = 0; i < actions->count; i++)
        shard_io_carry_out(core, runner, &actions->list[i]);
    if (home && moved)
        set_tick(core, runner, due_ns);
    if (home && passing)
        check_progress(core, runner, state, ready, idle);
}

static void step_piece(struct core *core, struct request_piece *piece)
{
    struct event event = {.kind = EVENT_REQUEST, .piece = &piece->piece};

    /* Also after a read: any step may append a write that waited for room. */
    touch(core->runner, piece->runner);
    step(core, piece->runner, &event);
}

static void step_report(struct core *core, struct shard_io *io)
{
    struct shard_runner *runner = io->runner;
    struct event event = {.kind = EVENT_IO_DONE,
                          .result = io->result,
                          .core = (uint16_t)core->index,
                          .bad_mask = io->bad_mask,
                          .action = &io->action};

    touch(core->runner, runner);
    step(core, runner, &event);
    shard_io_give(core, io);
}

static void step_tick(struct core *core, struct shard_runner *runner)
{
    struct event event = {.kind = EVENT_TICK, .core = (uint16_t)core->index};

    if (atomic_load_explicit(&runner->state, memory_order_relaxed) == RUNNER_STOPPING &&
        !runner->stop_told) {
        runner->stop_told = true;
        event.kind = EVENT_STOP;
        tick_again(core, runner);
    }
    touch(core->runner, runner);
    step(core, runner, &event);
}

static void begun(struct core *core, struct core_message *message)
{
    tick_again(core, container_of(message, struct shard_runner, begin));
}

void shard_runner_begin(struct shard_runner *runner, enum runner_state state)
{
    atomic_store(&runner->state, (int)state);
    core_message_send(core_at(runner->home), &runner->begin);
}

void shard_runner_init(struct shard_runner *runner, struct cache *cache, unsigned index)
{
    pthread_mutexattr_t attributes;

    runner->cache = cache;
    runner->index = index;
    runner->tick_due_ns = UINT64_MAX;
    runner->timer.expired = tick_due;
    runner->wake.handle = woken;
    runner->begin.handle = begun;
    list_init(&runner->again);
    atomic_init(&runner->state, RUNNER_NEW);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&runner->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

/* ---- queues ------------------------------------------------------------------------------- */

void shard_runner_queue(struct core *core, struct request_piece *piece)
{
    struct runner_core *own = core->runner;

    piece->queue_next = NULL;
    if (own->piece_first == NULL)
        own->piece_first = piece;
    else
        own->piece_last->queue_next = piece;
    own->piece_last = piece;
}

void shard_runner_report(struct core *core, struct shard_io *io)
{
    struct runner_core *own = core->runner;

    io->next = NULL;
    if (own->report_first == NULL)
        own->report_first = io;
    else
        own->report_last->next = io;
    own->report_last = io;
}

/* Reports first: they free what pieces wait for.  False: stopped at the limit. */
static bool drain(struct core *core)
{
    struct runner_core *own = core->runner;

    for (unsigned steps = 0; steps < STEPS_PER_TURN; steps++) {
        struct shard_io *io = own->report_first;
        struct request_piece *piece = own->piece_first;

        if (io != NULL) {
            own->report_first = io->next;
            step_report(core, io);
        } else if (piece != NULL) {
            own->piece_first = piece->queue_next;
            step_piece(core, piece);
        } else {
            return true;
        }
    }
    return false;
}

static void seal(struct core *core)
{
    struct runner_core *own = core->runner;
    struct event event = {.kind = EVENT_SEAL, .core = (uint16_t)core->index};
    struct shard_runner *runners = core_cache(core)->runners;

    while (own->touched_count > 0) {
        unsigned index = own->touched[--own->touched_count];

        own->is_touched[index] = false;
        step(core, &runners[index], &event);
    }
}

/* The only place that steps: what is carried out only queues, so nothing is re-entered. */
bool shard_runner_turn(struct core *core)
{
    struct runner_core *own = core->runner;
    struct list again;

    if (!drain(core))
        return true;
    list_init(&again);
    list_splice_tail(&again, &own->again);
    while (!list_empty(&again))
        step_tick(core, container_of(list_take_first(&again), struct shard_runner, again));
    for (unsigned round = 0; round < SEAL_ROUNDS && own->touched_count > 0; round++) {
        seal(core);
        if (!drain(core))
            return true;
    }
    return own->touched_count > 0 || own->report_first != NULL || own->piece_first != NULL ||
           !list_empty(&own->again);
}
