/* SPDX-License-Identifier: Apache-2.0 */
/* The core loop: completions, messages, timers, deferred work, and one io_uring_enter per turn. */
#include "io/core.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/core-private.h"

#define RING_ENTRIES 1024u
#define SHARED_FILES 256u  /* slots of core_file_add */
#define FILE_SLOTS   1024u /* these, and those of core_file_take */
#define DEFER_ROUNDS 8u    /* in one turn; what is left waits for the next */

/* See let_others_run. */
#define COURTESY_TURNS   64u     /* tried that often */
#define COURTESY_TRIES   4u      /* in vain, before it counts as not worth it */
#define COURTESY_ENTRIES 4u      /* submitted at once: more than one request is under way */
#define COURTESY_NS_MAX  500000u /* longer: somebody else's work */
#define PAUSE_NS_MIN     UINT64_C(1000000000)
#define PAUSE_NS_MAX     UINT64_C(64000000000)

static struct {
    struct core *cores;
    unsigned count;
    struct cores_config config;
    int files[SHARED_FILES];
    unsigned file_count;

    /* Cores that came up or failed to, for cores_start. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned ready;
    int error;
    char why[256];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local struct core *self;

/* ---- small things ------------------------------------------------------------------------- */

uint64_t core_now(const struct core *core)
{
    return core->now_ns;
}

unsigned core_index(const struct core *core)
{
    return core->index;
}

struct cache *core_cache(const struct core *core)
{
    return core->config->cache;
}

struct io_uring *core_ring(struct core *core)
{
    return &core->ring;
}

struct core *core_self(void)
{
    return self;
}

unsigned core_count(void)
{
    return all.count;
}

struct core *core_at(unsigned index)
{
    assert(index < all.count);
    return &all.cores[index];
}

struct io_uring_sqe *core_sqe(struct core *core)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&core->ring);

    while (sqe == NULL) {
        int error = io_uring_submit(&core->ring);

        /* -EBUSY and -EAGAIN: the kernel wants us to reap first, which this call lets it do. */
        if (error < 0)
            io_uring_get_events(&core->ring);
        sqe = io_uring_get_sqe(&core->ring);
    }
    return sqe;
}

static void ignore(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    (void)core, (void)op, (void)result, (void)cqe_flags;
}

void core_cancel(struct core *core, struct core_op *op)
{
    static struct core_op nobody = {.done = ignore};
    struct io_uring_sqe *sqe = core_sqe(core);

    io_uring_prep_cancel(sqe, op, 0);
    core_sqe_to(sqe, &nobody);
}

/* ---- registered files --------------------------------------------------------------------- */

struct file_update {
    unsigned slot;
    atomic_bool failed;
};

/* As all.files says. */
static void update_file(struct core *core, void *opaque)
{
    struct file_update *update = opaque;

    if (core->traits.files_registered &&
        io_uring_register_files_update(&core->ring, update->slot, &all.files[update->slot], 1) != 1)
        atomic_store(&update->failed, true);
}

static bool update_files(unsigned slot)
{
    struct file_update update = {.slot = slot};

    return all.cores == NULL ||
           (cores_visit(update_file, &update) == 0 && !atomic_load(&update.failed));
}

int core_file_add(int fd)
{
    unsigned slot = 0;

    if (self != NULL)
        return -1;
    while (slot < all.file_count && all.files[slot] != -1)
        slot++;
    if (slot == SHARED_FILES)
        return -1;
    if (slot == all.file_count)
        all.file_count++;
    all.files[slot] = fd;
    if (update_files(slot))
        return (int)slot;
    core_file_remove((int)slot);
    return -1;
}

void core_file_remove(int slot)
{
    if (slot < 0 || self != NULL)
        return;
    all.files[slot] = -1;
    update_files((unsigned)slot);
}

void core_sqe_file(struct core *core, struct io_uring_sqe *sqe, int slot)
{
    if (slot < 0 || !core->traits.files_registered)
        return;
    sqe->fd = slot;
    sqe->flags |= IOSQE_FIXED_FILE;
}

int core_file_take(struct core *core, int fd)
{
    unsigned slot;

    if (core->free_slot_count == 0)
        return -1;
    slot = core->free_slots[core->free_slot_count - 1];
    if (io_uring_register_files_update(&core->ring, slot, &fd, 1) != 1)
        return -1;
    core->free_slot_count--;
    return (int)slot;
}

void core_file_give(struct core *core, int slot)
{
    int none = -1;

    if (slot < 0)
        return;
    io_uring_register_files_update(&core->ring, (unsigned)slot, &none, 1);
    core->free_slots[core->free_slot_count++] = (uint16_t)slot;
}

static int open_file_slots(struct core *core)
{
    ring_register_files(&core->ring, &core->traits, all.files, all.file_count, FILE_SLOTS);
    core->free_slots = malloc(FILE_SLOTS * sizeof(*core->free_slots));
    if (core->free_slots == NULL)
        return -ENOMEM;
    core->free_slot_count = 0;
    if (core->traits.files_registered) {
        for (unsigned slot = FILE_SLOTS; slot-- > SHARED_FILES;)
            core->free_slots[core->free_slot_count++] = (uint16_t)slot;
    }
    return 0;
}

/* ---- messages ----------------------------------------------------------------------------- */

void core_message_send(struct core *to, struct core_message *message)
{
    struct core_message *first = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    uint64_t one = 1;

    do
        message->next = first;
    while (!atomic_compare_exchange_weak(&to->inbox, &first, message));
    if (atomic_load(&to->sleeping) && atomic_exchange(&to->sleeping, false)) {
        /* Only fails when the counter is full, and then the core is as good as woken. */
        ssize_t written = write(to->event_fd, &one, sizeof(one));

        (void)written;
    }
}

static void handle_messages(struct core *core)
{
    struct core_message *newest, *oldest = NULL;

    if (atomic_load_explicit(&core->inbox, memory_order_relaxed) == NULL)
        return;
    newest = atomic_exchange(&core->inbox, NULL);
    while (newest != NULL) {
        struct core_message *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct core_message *message = oldest;

        oldest = message->next; /* the handler may free the message or send it again */
        message->handle(core, message);
    }
}

static void arm_event(struct core *core)
{
    struct io_uring_sqe *sqe = core_sqe(core);

    io_uring_prep_read(sqe, core->event_fd, &core->event_value, sizeof(core->event_value), 0);
    core_sqe_to(sqe, &core->event_op);
}

static void event_came(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    (void)op, (void)result, (void)cqe_flags;
    arm_event(core);
}

/* ---- timers ------------------------------------------------------------------------------- */

/* From the end: most timers are of a few fixed lengths, and armed later means due later. */
void core_timer_arm(struct core *core, struct core_timer *timer, uint64_t due_ns)
{
    struct list *after;

    if (due_ns <= core->now_ns)
        due_ns =
            core->now_ns + 1; /* in the next turn: one that arms itself must not keep this one */
    if (timer->armed) {
        if (timer->due_ns == due_ns)
            return;
        list_remove(&timer->link);
    }
    timer->due_ns = due_ns;
    timer->armed = true;
    after = core->timers.prev;
    while (after != &core->timers && container_of(after, struct core_timer, link)->due_ns > due_ns)
        after = after->prev;
    list_add_head(after, &timer->link);
}

void core_timer_disarm(struct core *core, struct core_timer *timer)
{
    (void)core;
    if (!timer->armed)
        return;
    timer->armed = false;
    list_remove(&timer->link);
}

static void expire_timers(struct core *core)
{
    struct core_timer *timer;

    /* A handler may arm its timer again, or hand it to another core: it is not looked at after. */
    while ((timer = list_first_entry(&core->timers, struct core_timer, link)) != NULL &&
           timer->due_ns <= core->now_ns) {
        core_timer_disarm(core, timer);
        timer->expired(core, timer);
    }
}

/* ---- deferred work ------------------------------------------------------------------------ */

void core_defer(struct core *core, struct core_deferred *deferred)
{
    if (deferred->queued)
        return;
    deferred->queued = true;
    deferred->next = NULL;
    if (core->deferred_first == NULL)
        core->deferred_first = deferred;
    else
        core->deferred_last->next = deferred;
    core->deferred_last = deferred;
}

static void run_deferred(struct core *core)
{
    struct core_deferred *first = core->deferred_first;

    core->deferred_first = NULL;
    while (first != NULL) {
        struct core_deferred *deferred = first;

        first = deferred->next;
        deferred->queued = false;
        deferred->run(core, deferred);
    }
}

/* Until nothing is left to do in this turn; true when there is. */
static bool settle(struct core *core)
{
    bool more = false;

    for (unsigned round = 0; round < DEFER_ROUNDS; round++) {
        if (core->config->turn != NULL)
            more = core->config->turn(core);
        if (core->deferred_first == NULL)
            return more;
        run_deferred(core);
    }
    return true;
}

/* ---- the loop ----------------------------------------------------------------------------- */

/* What is there now, not what the handlers add.  Each entry is given back before its handler runs:
 * a handler that fills the submission ring must be able to make the kernel go on. */
static void reap(struct core *core)
{
    struct io_uring_cq *ring = &core->ring.cq;
    unsigned mask = ring->ring_mask, ready = io_uring_cq_ready(&core->ring);

    for (; ready > 0; ready--) {
        struct io_uring_cqe *cqe = &ring->cqes[*ring->khead & mask];
        struct core_op *op = io_uring_cqe_get_data(cqe);
        int32_t result = cqe->res;
        uint32_t flags = cqe->flags;

        io_uring_cq_advance(&core->ring, 1);
        op->done(core, op, result, flags);
    }
}

/* Submits, and waits for the first completion or timer. */
static void wait(struct core *core)
{
    struct core_timer *timer = list_first_entry(&core->timers, struct core_timer, link);
    struct io_uring_cqe *cqe;
    struct __kernel_timespec limit;
    uint64_t now_ns, left_ns;

    if (timer == NULL || timer->due_ns == UINT64_MAX) {
        io_uring_submit_and_wait(&core->ring, 1);
        return;
    }
    now_ns = core->now_ns;
    left_ns = timer->due_ns > now_ns ? timer->due_ns - now_ns : 0;
    limit.tv_sec = (int64_t)(left_ns / 1000000000u);
    limit.tv_nsec = (int64_t)(left_ns % 1000000000u);
    io_uring_submit_and_wait_timeout(&core->ring, &cqe, 1, &limit, NULL);
}

/*
 * A client on our processor that has several requests under way gets further when it runs before we
 * sleep: it takes all answers and sends all it has, and then we have it at once, where the kernel
 * would otherwise switch to us and back for each.  So answers are submitted, then others may run.
 * Tried now and then, and kept up while that brings much at once.  Whoever keeps the processor for
 * long is no such client, and would keep requests waiting: not again for a while, then for longer.
 * True: completions are there.
 */
static bool let_others_run(struct core *core)
{
    struct courtesy *courtesy = &core->courtesy;
    unsigned entries = io_uring_sq_ready(&core->ring);
    uint64_t begin_ns, took_ns;

    if (entries >= COURTESY_ENTRIES && core->now_ns >= courtesy->not_before_ns)
        courtesy->tries = COURTESY_TRIES;
    else if (courtesy->tries > 0)
        courtesy->tries--;
    else if (++courtesy->turns % COURTESY_TURNS != 0 || core->now_ns < courtesy->not_before_ns)
        return false;
    if (entries == 0)
        return false;
    io_uring_submit(&core->ring);
    if (io_uring_cq_ready(&core->ring) != 0)
        return true;
    begin_ns = clock_ns();
    sched_yield();
    took_ns = clock_ns() - begin_ns;
    if (took_ns > COURTESY_NS_MAX) {
        courtesy->tries = 0;
        courtesy->not_before_ns = begin_ns + took_ns + courtesy->pause_ns;
        if (courtesy->pause_ns < PAUSE_NS_MAX)
            courtesy->pause_ns *= 2;
    } else if (courtesy->tries == COURTESY_TRIES) {
        courtesy->pause_ns = PAUSE_NS_MIN;
    }
    return false;
}

static void turn(struct core *core)
{
    bool more;

    core->now_ns = clock_ns();
    reap(core);
    handle_messages(core);
    expire_timers(core);
    more = settle(core);
    if (!more && !core->stopping) {
        if (let_others_run(core))
            return;
        atomic_store(&core->sleeping, true);
        if (atomic_load(&core->inbox) == NULL) {
            wait(core);
            atomic_store_explicit(&core->sleeping, false, memory_order_relaxed);
            return;
        }
        atomic_store_explicit(&core->sleeping, false, memory_order_relaxed);
    }
    io_uring_submit_and_get_events(&core->ring);
}

/* ---- life --------------------------------------------------------------------------------- */

static int pin(struct core *core, char *why, size_t why_bytes)
{
    unsigned processor;
    cpu_set_t set;

    if (core->config->processors == NULL)
        return 0;
    processor = core->config->processors[core->index];
    CPU_ZERO(&set);
    if (processor < CPU_SETSIZE)
        CPU_SET(processor, &set);
    if (processor >= CPU_SETSIZE || sched_setaffinity(0, sizeof(set), &set) != 0) {
        snprintf(why, why_bytes, "cannot run on processor %u (%s); see daemon.cores", processor,
                 processor >= CPU_SETSIZE ? "no such processor" : strerror(errno));
        return -EINVAL;
    }
    return 0;
}

static int set_up(struct core *core, char *why, size_t why_bytes)
{
    int error = pin(core, why, why_bytes);

    if (error)
        return error;
    error = ring_open(&core->ring, RING_ENTRIES, &core->traits, why, why_bytes);
    if (error)
        return error;
    error = open_file_slots(core);
    if (error)
        goto close_ring;
    core->buffers = buffer_pool_create(core, core->config->buffer_bytes);
    error = core->buffers == NULL ? -ENOMEM : 0;
    if (!error && core->config->enter != NULL)
        error = core->config->enter(core);
    if (!error) {
        core->event_op.done = event_came;
        arm_event(core);
        return 0;
    }
    buffer_pool_destroy(core->buffers);
    free(core->free_slots);
close_ring:
    snprintf(why, why_bytes, "cannot set up core %u: %s", core->index, strerror(-error));
    ring_close(&core->ring);
    return error;
}

static void *run_core(void *argument)
{
    struct core *core = argument;
    char name[16], why[256] = "";
    int error;

    self = core;
    snprintf(name, sizeof(name), "core/%u", core->index);
    pthread_setname_np(pthread_self(), name);
    error = set_up(core, why, sizeof(why));

    pthread_mutex_lock(&all.lock);
    all.ready++;
    if (error && !all.error) {
        all.error = error;
        memcpy(all.why, why, sizeof(all.why));
    }
    pthread_cond_broadcast(&all.changed);
    pthread_mutex_unlock(&all.lock);
    if (error)
        return NULL;

    while (!core->stopping)
        turn(core);
    if (core->config->leave != NULL)
        core->config->leave(core);
    ring_close(&core->ring);
    buffer_pool_destroy(core->buffers);
    free(core->free_slots);
    return NULL;
}

static void stop_core(struct core *core, struct core_message *message)
{
    (void)message;
    core->stopping = true;
}

static void stop_cores(unsigned started)
{
    for (unsigned i = 0; i < started; i++)
        core_message_send(&all.cores[i], &all.cores[i].stop);
    for (unsigned i = 0; i < started; i++)
        pthread_join(all.cores[i].thread, NULL);
    /* Only now: until the last one ended, they may send each other messages. */
    for (unsigned i = 0; i < started; i++)
        close(all.cores[i].event_fd);
    free(all.cores);
    all.cores = NULL;
    all.count = 0;
}

static int start_core(struct core *core, unsigned index)
{
    int error;

    core->index = index;
    core->config = &all.config;
    core->stop.handle = stop_core;
    core->courtesy.pause_ns = PAUSE_NS_MIN;
    list_init(&core->timers);
    core->event_fd = eventfd(0, EFD_CLOEXEC);
    if (core->event_fd < 0)
        return -errno;
    error = -pthread_create(&core->thread, NULL, run_core, core);
    if (error)
        close(core->event_fd);
    return error;
}

int cores_start(const struct cores_config *config, char *why, size_t why_bytes)
{
    size_t bytes = config->count * sizeof(struct core);
    unsigned started = 0;
    int error = 0;

    assert(all.cores == NULL && config->count > 0);
    all.config = *config;
    all.ready = 0;
    all.error = 0;
    all.cores = aligned_alloc(_Alignof(struct core), bytes);
    if (all.cores == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    memset(all.cores, 0, bytes);
    all.count = config->count;
    while (started < config->count && !error) {
        error = start_core(&all.cores[started], started);
        if (!error)
            started++;
    }
    if (error)
        snprintf(why, why_bytes, "cannot start a thread: %s", strerror(-error));
    pthread_mutex_lock(&all.lock);
    while (all.ready < started)
        pthread_cond_wait(&all.changed, &all.lock);
    if (!error && all.error) {
        error = all.error;
        snprintf(why, why_bytes, "%s", all.why);
    }
    pthread_mutex_unlock(&all.lock);
    if (error)
        stop_cores(started);
    return error;
}

void cores_stop(void)
{
    if (all.cores != NULL)
        stop_cores(all.count);
}
