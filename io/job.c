/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: long work on a range of a volume, in the background. */
#include "io/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/cache-private.h"
#include "io/core-private.h"

#define DEPTH            8u
#define REGION_BYTES     (REGION_BLOCKS * BLOCK_BYTES) /* PREFETCH: a request's */
#define INVALIDATE_BYTES (64u << 20)                   /* a request's; one at a time */
#define COURTESY_LOOK_NS UINT64_C(2000000)
#define COURTESY_NS      UINT64_C(100000000) /* without progress, at most */
#define LOOKS_MAX        8u                  /* at regions, in one turn of the core */
#define BUSY_TRIES_MAX   10u                 /* of blocks that became dirty while it ran */
#define PLACE_TRIES_MAX  8u                  /* of blocks that found no place in RAM */
#define PASSES_MAX       16u                 /* of PREFETCH over its range */
#define PASS_SLOWEST     6u                  /* the pass that waits longest between requests */
#define PLACE_NS         UINT64_C(2000000)   /* before the first; then twice as long each time */
#define CACHED           (SHARD_BLOCK_RAM | SHARD_BLOCK_FLASH | SHARD_BLOCK_ZERO)

struct job {
    struct jobs *jobs;
    struct core *core;
    struct core_message message;
    struct core_timer timer;
    struct job_request {
        struct request request; /* first */
        struct job *job;
        struct core_timer timer; /* PREFETCH: to try it again */
        unsigned tries, pass;
        bool busy;
    } requests[DEPTH];

    /* On the core. */
    uint64_t next, end; /* bytes: what is not asked for yet */
    uint64_t
        scanned; /* up to here for dirty blocks, PREFETCH: for missing ones; below `end`: goes on */
    uint64_t scan_dirty, scan_missing;
    uint64_t progress_ns;
    unsigned open, busy_tries, pass; /* pass: PREFETCH, from 1 */
    uint64_t asked, asked_before;    /* PREFETCH: bytes, in this pass and in the last one */
    unsigned passes_max;
    bool counting; /* PREFETCH: all is asked for; what of it is cached? */
    bool stopped;  /* failed or cancelled */

    /* Under jobs->lock. */
    struct job_facts facts;
    uint64_t began_ns, ended_ns;
    bool cancelled;
};

struct jobs {
    struct cache *cache;
    pthread_mutex_t lock; /* a leaf */
    uint64_t last_id;
    bool stopping;
    struct job *list[JOBS_MAX]; /* by id % JOBS_MAX */
};

static void pump(struct job *job);

/* ---- what others see ------------------------------------------------------------------------ */

static bool is_over(const struct job *job)
{
    return job->facts.state >= JOB_DONE;
}

static bool is_cancelled(struct job *job)
{
    bool cancelled;

    pthread_mutex_lock(&job->jobs->lock);
    cancelled = job->cancelled || job->jobs->stopping;
    pthread_mutex_unlock(&job->jobs->lock);
    return cancelled;
}

static void set_state(struct job *job, enum job_state state)
{
    pthread_mutex_lock(&job->jobs->lock);
    job->facts.state = state;
    pthread_mutex_unlock(&job->jobs->lock);
}

static void add_done(struct job *job, uint64_t bytes)
{
    pthread_mutex_lock(&job->jobs->lock);
    job->facts.done_bytes += bytes;
    pthread_mutex_unlock(&job->jobs->lock);
}

/* The first error counts; nothing more is asked for. */
static void fail(struct job *job, int error, uint64_t offset)
{
    pthread_mutex_lock(&job->jobs->lock);
    if (job->facts.error == 0) {
        job->facts.error = error;
        job->facts.error_offset = offset;
    }
    pthread_mutex_unlock(&job->jobs->lock);
    job->next = job->scanned = job->end;
    job->stopped = true;
}

static void end(struct job *job)
{
    static const char *const names[] = {"prefetch", "invalidate"};
    static const char *const states[] = {"", "", "done", "failed", "cancelled"};
    struct job_facts facts;

    pthread_mutex_lock(&job->jobs->lock);
    job->facts.state = job->facts.error != 0 ? JOB_FAILED : job->stopped ? JOB_CANCELLED : JOB_DONE;
    job->ended_ns = clock_ns();
    facts = job->facts;
    pthread_mutex_unlock(&job->jobs->lock);
    log_notice("a job ended", LOG_STR("job", names[facts.config.kind]),
               LOG_STR("volume", facts.config.volume->name),
               LOG_UINT("offset", facts.config.offset), LOG_UINT("length", facts.config.length),
               LOG_STR("result", states[facts.state]), LOG_UINT("bytes", facts.done_bytes),
               LOG_STR("reason", facts.error != 0 ? strerror(-facts.error) : NULL));
}

/* ---- looking for dirty blocks --------------------------------------------------------------- */

/* How many blocks of a range, which lies in one region, have one of these bits. */
static uint64_t region_count(const struct job *job, uint64_t offset, uint64_t length, uint8_t bits)
{
    const struct cache *cache = job->jobs->cache;
    uint16_t volume = job->facts.config.volume->id;
    uint64_t block = offset >> BLOCK_SHIFT, count = 0;
    uint64_t end = (offset + length + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
    struct shard_runner *runner = &cache->runners[shard_of(volume, block, cache->shard_count)];
    uint8_t state[REGION_BLOCKS];

    pthread_mutex_lock(&runner->lock);
    shard_block_state(runner->shard, volume, block, (uint32_t)(end - block), state);
    pthread_mutex_unlock(&runner->lock);
    for (uint64_t i = 0; i < end - block; i++)
        count += (state[i] & bits) != 0;
    return count;
}

static uint64_t region_missing(const struct job *job, uint64_t offset, uint64_t length)
{
    uint64_t end = (offset + length + BLOCK_BYTES - 1) >> BLOCK_SHIFT;

    return end - (offset >> BLOCK_SHIFT) - region_count(job, offset, length, CACHED);
}

/* To the end of the region or of the range. */
static uint64_t region_left(const struct job *job, uint64_t offset)
{
    uint64_t region_end = (offset / REGION_BYTES + 1) * REGION_BYTES;

    return (region_end < job->end ? region_end : job->end) - offset;
}

/* A few regions, in a turn of the core.  True: it is over. */
static bool scan(struct job *job)
{
    for (unsigned i = 0; i < LOOKS_MAX && job->scanned < job->end; i++) {
        uint64_t bytes = region_left(job, job->scanned);

        job->scan_dirty += region_count(job, job->scanned, bytes, SHARD_BLOCK_DIRTY);
        job->scanned += bytes;
    }
    if (job->scanned < job->end)
        return false;
    if (job->scan_dirty > 0) {
        pthread_mutex_lock(&job->jobs->lock);
        job->facts.dirty_bytes = job->scan_dirty << BLOCK_SHIFT;
        pthread_mutex_unlock(&job->jobs->lock);
    }
    if (job->scan_dirty > 0 && !job->facts.config.discard) {
        fail(job, -EBUSY, job->next);
    }
    return true;
}

/* What was cached may have had to go for what came later: only the end tells.  True: it is over. */
static bool count_missing(struct job *job)
{
    if (!job->counting) {
        job->counting = true;
        job->scan_missing = 0;
        job->scanned = job->facts.config.offset;
    }
    for (unsigned i = 0; i < LOOKS_MAX && job->scanned < job->end; i++) {
        uint64_t bytes = region_left(job, job->scanned);

        job->scan_missing += region_missing(job, job->scanned, bytes);
        job->scanned += bytes;
    }
    if (job->scanned < job->end)
        return false;
    pthread_mutex_lock(&job->jobs->lock);
    job->facts.missed_bytes = job->scan_missing << BLOCK_SHIFT;
    pthread_mutex_unlock(&job->jobs->lock);
    return true;
}

/* From the start, what is done already included: it may have become dirty again. */
static void scan_begin(struct job *job)
{
    const struct job_facts *facts = &job->facts;
    bool needed = facts->config.kind == JOB_INVALIDATE &&
                  cache_dirty_blocks(job->jobs->cache, facts->config.volume->id) > 0;

    job->scan_dirty = 0;
    job->scanned = needed ? facts->config.offset : job->end;
}

/* ---- requests ------------------------------------------------------------------------------- */

static void request_over(struct job_request *own)
{
    struct job *job = own->job;

    own->busy = false;
    job->open--;
    /* Not from here: it may have been answered at once. */
    core_timer_arm(job->core, &job->timer, core_now(job->core));
}

static void request_again(struct core *core, struct core_timer *timer)
{
    struct job_request *own = container_of(timer, struct job_request, timer);

    (void)core;
    if (!is_cancelled(own->job)) {
        request_submit(&own->request);
        return;
    }
    own->job->stopped = true;
    request_over(own);
}

/* What is read is not yet cached: the RAM tier is full of what goes to flash, which takes a while. */
static bool prefetch_again(struct job_request *own)
{
    struct job *job = own->job;
    const struct request *request = &own->request;
    uint64_t missing = region_missing(job, request->offset, request->length);

    if (own->pass == 1 || missing == 0)
        return false;
    if (own->tries == PLACE_TRIES_MAX)
        return false;
    core_timer_arm(job->core, &own->timer, core_now(job->core) + (PLACE_NS << own->tries++));
    return true;
}

static void request_done(struct request *request)
{
    struct job_request *own = container_of(request, struct job_request, request);
    struct job *job = own->job;
    int error = request->error;

    request_release(request);
    if (error == -EBUSY && ++job->busy_tries < BUSY_TRIES_MAX && !is_cancelled(job)) {
        job->next = request->offset; /* INVALIDATE, one at a time: the same again */
        scan_begin(job);
    } else if (error != 0) {
        fail(job, error, request->error_offset);
    } else if (job->facts.config.kind == JOB_PREFETCH && prefetch_again(own)) {
        return;
    } else if (own->pass == 1) {
        add_done(job, request->length);
    }
    request_over(own);
}

static void ask_for(struct job *job, uint64_t bytes)
{
    const struct job_config *config = &job->facts.config;
    struct job_request *own = job->requests;
    struct request *request;

    while (own->busy)
        own++;
    own->busy = true;
    own->job = job;
    own->tries = 0;
    own->pass = job->pass;
    own->timer = (struct core_timer){.expired = request_again};
    job->open++;
    request = &own->request;
    memset(request, 0, offsetof(struct request, first));
    request->volume = config->volume;
    request->core = job->core;
    request->op = config->kind == JOB_PREFETCH ? REQUEST_CACHE : REQUEST_INVALIDATE;
    request->flags = config->discard ? REQUEST_DISCARD : 0;
    request->offset = job->next;
    request->length = bytes < job->end - job->next ? bytes : job->end - job->next;
    request->done = request_done;
    job->next += request->length;
    job->asked += request->length;
    job->progress_ns = core_now(job->core);
    request_submit(request);
}

/* Clients wait for the backing store, and the last request is not long ago. */
static bool lets_clients_go_first(const struct job *job)
{
    const struct volume *volume = job->facts.config.volume;

    return atomic_load_explicit(&volume->backing_waiting, memory_order_relaxed) > 0 &&
           (job->open > 0 || core_now(job->core) - job->progress_ns < COURTESY_NS);
}

/* From the second pass on slower and slower: the flash was not written as fast as blocks came. */
static uint64_t pass_pause_ns(const struct job *job)
{
    unsigned slower = job->pass < PASS_SLOWEST ? job->pass : PASS_SLOWEST;

    return job->pass > 1 ? PLACE_NS << (slower - 2) : 0;
}

/* The next region, if it is not cached.  False: look again later. */
static bool prefetch_next(struct job *job)
{
    uint64_t bytes = region_left(job, job->next);

    if (region_missing(job, job->next, bytes) == 0) {
        job->next += bytes;
        if (job->pass == 1)
            add_done(job, bytes);
    } else if (core_now(job->core) - job->progress_ns < pass_pause_ns(job)) {
        core_timer_arm(job->core, &job->timer, job->progress_ns + pass_pause_ns(job));
        return false;
    } else if (lets_clients_go_first(job)) {
        set_state(job, JOB_WAITING);
        core_timer_arm(job->core, &job->timer, core_now(job->core) + COURTESY_LOOK_NS);
        return false;
    } else {
        set_state(job, JOB_RUNNING);
        ask_for(job, bytes);
    }
    return true;
}

/* Again: what found no place in RAM, or left it without going to flash, as blocks do that are read
 * once while the flash is full, goes to flash when it comes again.  Until nothing is missing, or it
 * does not get less, as when clients' data take the room. */
static void next_pass(struct job *job)
{
    bool less = job->pass < PASS_SLOWEST || job->asked <= job->asked_before / 8 * 7;

    if (job->asked == 0 || job->pass == job->passes_max || !less)
        return;
    job->asked_before = job->asked;
    job->asked = 0;
    job->pass++;
    job->next = job->facts.config.offset;
}

static void prefetch_pump(struct job *job)
{
    unsigned looks = 0;

    if (job->next == job->end && job->open == 0 && !job->stopped)
        next_pass(job);
    while (job->open < DEPTH && job->next < job->end) {
        if (looks++ == LOOKS_MAX) {
            core_timer_arm(job->core, &job->timer, core_now(job->core));
            return;
        }
        if (!prefetch_next(job))
            return;
    }
    if (job->next == job->end && job->open == 0 && !job->stopped && !count_missing(job))
        core_timer_arm(job->core, &job->timer, core_now(job->core));
}

static void pump(struct job *job)
{
    if (is_cancelled(job) && (job->open > 0 || job->next < job->end)) {
        job->next = job->scanned = job->end;
        job->stopped = true;
    }
    if (job->facts.config.kind == JOB_PREFETCH)
        prefetch_pump(job);
    else if (job->open == 0 && job->scanned < job->end && !scan(job))
        core_message_send(job->core, &job->message);
    else if (job->open == 0 && job->next < job->end)
        ask_for(job, INVALIDATE_BYTES);
    if (job->open == 0 && job->next == job->end && job->scanned >= job->end && !is_over(job)) {
        core_timer_disarm(job->core, &job->timer);
        end(job);
    }
}

/* The cache could hold the whole range. */
static bool fits(const struct job *job)
{
    struct shard_status status;

    cache_status(job->jobs->cache, &status);
    return job->facts.config.length >> BLOCK_SHIFT <= status.slots_total;
}

static void look_again(struct core *core, struct core_timer *timer)
{
    (void)core;
    pump(container_of(timer, struct job, timer));
}

static void go_on(struct core *core, struct core_message *message)
{
    (void)core;
    pump(container_of(message, struct job, message));
}

static void begin(struct core *core, struct core_message *message)
{
    struct job *job = container_of(message, struct job, message);

    job->core = core;
    job->timer.expired = look_again;
    job->message.handle = go_on;
    job->progress_ns = core_now(core);
    job->passes_max = fits(job) ? PASSES_MAX : 1;
    scan_begin(job);
    pump(job);
}

/* ---- life ----------------------------------------------------------------------------------- */

struct jobs *jobs_create(struct cache *cache)
{
    struct jobs *jobs = calloc(1, sizeof(*jobs));

    if (jobs == NULL)
        return NULL;
    jobs->cache = cache;
    pthread_mutex_init(&jobs->lock, NULL);
    return jobs;
}

void jobs_stop(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    pthread_mutex_unlock(&jobs->lock);
}

void jobs_destroy(struct jobs *jobs)
{
    if (jobs == NULL)
        return;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        free(jobs->list[i]);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

uint64_t jobs_begin(struct jobs *jobs, const struct job_config *config)
{
    struct job *job = calloc(1, sizeof(*job)), *old;
    uint64_t id = 0;

    if (job == NULL)
        return 0;
    job->jobs = jobs;
    job->facts.config = *config;
    job->pass = 1;
    job->next = config->offset;
    job->end = config->offset + config->length;
    job->began_ns = clock_ns();
    job->message.handle = begin;
    pthread_mutex_lock(&jobs->lock);
    old = jobs->list[(jobs->last_id + 1) % JOBS_MAX];
    if (!jobs->stopping && (old == NULL || is_over(old))) {
        id = job->facts.id = ++jobs->last_id;
        jobs->list[id % JOBS_MAX] = job;
    }
    pthread_mutex_unlock(&jobs->lock);
    if (id == 0) {
        free(job);
        return 0;
    }
    free(old);
    core_message_send(core_at(config->volume->id % core_count()), &job->message);
    return id;
}

/* Under the lock; NULL: not there. */
static struct job *find(struct jobs *jobs, uint64_t id)
{
    struct job *job = jobs->list[id % JOBS_MAX];

    return job != NULL && job->facts.id == id ? job : NULL;
}

static void take_facts(const struct job *job, struct job_facts *facts)
{
    uint64_t until_ns = is_over(job) ? job->ended_ns : clock_ns();

    *facts = job->facts;
    facts->seconds = (double)(until_ns - job->began_ns) / 1e9;
}

bool jobs_facts(struct jobs *jobs, uint64_t id, struct job_facts *facts)
{
    const struct job *job;

    pthread_mutex_lock(&jobs->lock);
    job = find(jobs, id);
    if (job != NULL)
        take_facts(job, facts);
    pthread_mutex_unlock(&jobs->lock);
    return job != NULL;
}

bool jobs_cancel(struct jobs *jobs, uint64_t id)
{
    struct job *job;

    pthread_mutex_lock(&jobs->lock);
    job = find(jobs, id);
    if (job != NULL)
        job->cancelled = true;
    pthread_mutex_unlock(&jobs->lock);
    return job != NULL;
}

unsigned jobs_list(struct jobs *jobs, struct job_facts list[JOBS_MAX])
{
    unsigned count = 0;

    pthread_mutex_lock(&jobs->lock);
    for (uint64_t id = jobs->last_id >= JOBS_MAX ? jobs->last_id - JOBS_MAX + 1 : 1;
         id <= jobs->last_id; id++)
        take_facts(find(jobs, id), &list[count++]);
    pthread_mutex_unlock(&jobs->lock);
    return count;
}
