/* SPDX-License-Identifier: Apache-2.0 */
/* Backing store on an NBD server: queueing, retries and timeouts over one or a few connections. */
#include "io/backing-nbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "engine/format.h"
#include "io/extents.h"

#define IN_FLIGHT_MAX        64u /* per connection */
#define STRIDE_BYTES_MAX     (32u << 20)
#define ZERO_STRIDE_BYTES    (64u << 20) /* what a server without fast zeroing can do in a timeout */
#define EXTENTS_STRIDE_BYTES (UINT64_C(1) << 31)
#define BACKOFF_NS_MIN       UINT64_C(100000000)
#define BACKOFF_NS_MAX       UINT64_C(5000000000)
#define CONNECT_NS_MAX       UINT64_C(10000000000)
#define WATCHDOG_NS_MAX      UINT64_C(500000000)
#define WATCHDOG_NS_MIN      UINT64_C(10000000)

enum stage {
    STAGE_MAIN,
    STAGE_FLUSH /* after a write with FUA that the server cannot do */
};

static void issue(struct backing_connection *connection, struct backing_io *io);

/* ---- answering ---------------------------------------------------------------------------- */

static void returned(struct core *core, struct core_message *message)
{
    struct backing_io *io = container_of(message, struct backing_io, message);

    io->done(core, io, io->result);
}

static void finish(struct backing_nbd *nbd, struct backing_io *io, int result)
{
    if (nbd->failing != (result != 0)) { /* only this core writes it */
        pthread_mutex_lock(&nbd->state_lock);
        nbd->failing = result != 0;
        pthread_mutex_unlock(&nbd->state_lock);
    }
    if (result == 0 && (io->op == BACKING_WRITE || io->op == BACKING_ZERO))
        nbd->writes_done++;
    if (result == 0 && io->op == BACKING_FLUSH && io->mark > nbd->writes_flushed)
        nbd->writes_flushed = io->mark;
    if (result == 0 && io->op == BACKING_READ)
        backing_io_fill(io);
    if (io->core == nbd->core) {
        io->done(nbd->core, io, result);
        return;
    }
    io->result = result;
    io->message.handle = returned;
    core_message_send(io->core, &io->message);
}

/* The server's own answer. */
static void note_error(struct backing_nbd *nbd, const struct backing_io *io)
{
    static const char *const names[] = {[BACKING_READ] = "read",
                                        [BACKING_WRITE] = "write",
                                        [BACKING_ZERO] = "write of zeros",
                                        [BACKING_FLUSH] = "flush"};

    pthread_mutex_lock(&nbd->state_lock);
    snprintf(nbd->last_error, sizeof(nbd->last_error), "%s: %s", names[io->op],
             strerror(-io->result));
    pthread_mutex_unlock(&nbd->state_lock);
}

static bool is_late(const struct backing_nbd *nbd, const struct backing_io *io)
{
    return core_now(nbd->core) - io->started_ns >= nbd->backing.timeout_ns;
}

void backing_nbd_requeue(struct backing_nbd *nbd, struct backing_io *io)
{
    /* Its failure will tell of the writes that it was to cover. */
    if (io->op == BACKING_FLUSH && io->mark > nbd->writes_flushed)
        nbd->writes_flushed = io->mark;
    if (io->op != BACKING_READ && io->op != BACKING_EXTENTS)
        list_add_tail(&nbd->doubt, &io->link);
    else if (is_late(nbd, io))
        finish(nbd, io, -EIO);
    else
        list_add_tail(&nbd->pending, &io->link);
}

static bool fail_late(struct backing_nbd *nbd, struct list *list)
{
    struct list late;
    bool any;

    list_init(&late);
    list_for_each_safe (node, list) {
        if (is_late(nbd, container_of(node, struct backing_io, link)))
            list_move_tail(&late, node);
    }
    any = !list_empty(&late);
    while (!list_empty(&late))
        finish(nbd, container_of(list_take_first(&late), struct backing_io, link), -EIO);
    return any;
}

/* ---- commands ----------------------------------------------------------------------------- */

/* Runs inside the library: it only takes notes. */
static int command_done(void *user_data, int *error)
{
    struct backing_io *io = user_data;
    struct backing_connection *connection = io->connection;

    io->result = *error > 0 ? -*error : 0;
    list_move_tail(&connection->completed, &io->link);
    return 1; /* retires the command */
}

static uint32_t stride(const struct backing_nbd *nbd, const struct backing_io *io)
{
    uint64_t left = io->end - io->progress;
    uint32_t limit = nbd->stride_bytes;

    if (io->op == BACKING_ZERO && nbd->can_zero)
        limit = ZERO_STRIDE_BYTES;
    else if (io->op == BACKING_ZERO && limit > BACKING_ZEROS_BYTES)
        limit = BACKING_ZEROS_BYTES;
    return left < limit ? (uint32_t)left : limit;
}

/* Runs inside the library, before command_done: one call for the context.  `entries` are pairs of
 * length and flags; those of base:allocation are ours. */
static int extents_came(void *user_data, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct backing_io *io = user_data;
    uint64_t left = io->end;

    (void)offset, (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || io->extents->count > 0)
        return 0;
    for (size_t i = 0; i + 1 < count && left > 0; i += 2) {
        uint64_t bytes = entries[i] < left ? entries[i] : left;

        if (!extent_list_add(io->extents, bytes, entries[i + 1] & (EXTENT_HOLE | EXTENT_ZERO)))
            break;
        left -= bytes;
    }
    return 0;
}

static int64_t send_extents(struct backing_connection *connection, struct backing_io *io)
{
    nbd_completion_callback callback = {.callback = command_done, .user_data = io};
    nbd_extent_callback extents = {.callback = extents_came, .user_data = io};
    uint64_t bytes = io->end < EXTENTS_STRIDE_BYTES ? io->end : EXTENTS_STRIDE_BYTES;

    io->extents->count = 0; /* of a connection that was lost */
    io->extents->bytes = 0;
    return nbd_aio_block_status(connection->handle, bytes, io->offset, extents, callback, 0);
}

static int64_t send_command(struct backing_connection *connection, struct backing_io *io)
{
    struct backing_nbd *nbd = connection->nbd;
    nbd_completion_callback callback = {.callback = command_done, .user_data = io};
    uint64_t offset = io->offset + io->progress;
    uint32_t flags = 0;

    if (io->op == BACKING_FLUSH || io->stage == STAGE_FLUSH)
        return nbd_aio_flush(connection->handle, callback, 0);
    if (io->op == BACKING_EXTENTS)
        return send_extents(connection, io);
    io->step = stride(nbd, io);
    if (io->op == BACKING_READ)
        return nbd_aio_pread(connection->handle, io->data + io->progress, io->step, offset,
                             callback, 0);
    if ((io->flags & BACKING_FUA) && connection->can_fua)
        flags |= LIBNBD_CMD_FLAG_FUA;
    if (io->op == BACKING_WRITE)
        return nbd_aio_pwrite(connection->handle, io->data + io->progress, io->step, offset,
                              callback, flags);
    if (!nbd->can_zero)
        return nbd_aio_pwrite(connection->handle, backing_zeros, io->step, offset, callback, flags);
    if (!(io->flags & BACKING_MAY_UNMAP))
        flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    return nbd_aio_zero(connection->handle, io->step, offset, callback, flags);
}

static void issue(struct backing_connection *connection, struct backing_io *io)
{
    struct backing_nbd *nbd = connection->nbd;

    io->connection = connection;
    io->issued_ns = core_now(nbd->core);
    list_add_tail(&connection->in_flight, &io->link);
    connection->in_flight_count++;
    if (send_command(connection, io) >= 0)
        return;
    /* Nothing was sent, and the callback does not come. */
    if (nbd_aio_is_dead(connection->handle) || nbd_aio_is_closed(connection->handle))
        return; /* backing_connection_update finds it, and requeues */
    list_remove(&io->link);
    connection->in_flight_count--;
    log_warning("libnbd refuses a request", LOG_STR("backing", nbd->backing.spec),
                LOG_STR("reason", nbd_get_error()));
    finish(nbd, io, -EIO);
}

static bool needs_flush_after(const struct backing_connection *connection,
                              const struct backing_io *io)
{
    return (io->op == BACKING_WRITE || io->op == BACKING_ZERO) && (io->flags & BACKING_FUA) &&
           io->stage == STAGE_MAIN && !connection->can_fua &&
           connection->nbd->backing.info.has_flush;
}

static void advance(struct backing_connection *connection, struct backing_io *io)
{
    struct backing_nbd *nbd = connection->nbd;

    connection->in_flight_count--;
    if (io->result == -ENOTCONN || io->result == -ESHUTDOWN) {
        backing_nbd_requeue(nbd, io); /* not an answer: the connection is on its way out */
        return;
    }
    if (io->result < 0) {
        note_error(nbd, io);
        finish(nbd, io, io->result);
        return;
    }
    if (io->op != BACKING_FLUSH && io->op != BACKING_EXTENTS && io->stage == STAGE_MAIN) {
        io->progress += io->step;
        if (io->progress < io->end) {
            issue(connection, io);
            return;
        }
        if (needs_flush_after(connection, io)) {
            io->stage = STAGE_FLUSH;
            issue(connection, io);
            return;
        }
    }
    finish(nbd, io, 0);
}

/* ---- the queue ---------------------------------------------------------------------------- */

static struct backing_connection *least_busy(struct backing_nbd *nbd)
{
    struct backing_connection *best = NULL;

    if (nbd->ghosts)
        return NULL;
    for (unsigned i = 0; i < nbd->connection_count; i++) {
        struct backing_connection *connection = &nbd->connections[i];

        if (connection->state == CONNECTION_READY && connection->in_flight_count < IN_FLIGHT_MAX &&
            (best == NULL || connection->in_flight_count < best->in_flight_count))
            best = connection;
    }
    return best;
}

static void start(struct backing_nbd *nbd, struct backing_connection *connection,
                  struct backing_io *io)
{
    if (io->op == BACKING_EXTENTS &&
        nbd_can_meta_context(connection->handle, LIBNBD_CONTEXT_BASE_ALLOCATION) <= 0) {
        finish(nbd, io, -ENOTSUP);
    } else if (io->op != BACKING_FLUSH) {
        issue(connection, io);
    } else if (nbd->writes_lost) {
        nbd->writes_lost = false;
        nbd->writes_flushed = nbd->writes_done;
        finish(nbd, io, -EIO);
    } else {
        io->mark = nbd->writes_done;
        issue(connection, io);
    }
}

static bool is_idle(const struct backing_nbd *nbd)
{
    bool idle = list_empty(&nbd->pending) && list_empty(&nbd->doubt);

    for (unsigned i = 0; i < nbd->connection_count; i++)
        idle = idle && list_empty(&nbd->connections[i].in_flight) &&
               nbd->connections[i].state != CONNECTION_CONNECTING;
    return idle;
}

static void arm_watchdog(struct backing_nbd *nbd)
{
    uint64_t period_ns = nbd->backing.timeout_ns / 8;

    if (nbd->watchdog.armed || nbd->closing || is_idle(nbd))
        return;
    period_ns = period_ns > WATCHDOG_NS_MAX ? WATCHDOG_NS_MAX : period_ns;
    period_ns = period_ns < WATCHDOG_NS_MIN ? WATCHDOG_NS_MIN : period_ns;
    core_timer_arm(nbd->core, &nbd->watchdog, core_now(nbd->core) + period_ns);
}

/* Takes completions, sends what waits, and polls for more; once per turn. */
static void work(struct core *core, struct core_deferred *deferred)
{
    struct backing_nbd *nbd = container_of(deferred, struct backing_nbd, work);
    struct backing_connection *connection;
    bool progress = true;

    (void)core;
    while (progress) {
        progress = false;
        for (unsigned i = 0; i < nbd->connection_count; i++) {
            connection = &nbd->connections[i];
            while (!list_empty(&connection->completed)) {
                struct list *first = list_take_first(&connection->completed);

                advance(connection, container_of(first, struct backing_io, link));
                progress = true;
            }
            backing_connection_update(connection);
        }
        while (!list_empty(&nbd->pending) && (connection = least_busy(nbd)) != NULL) {
            struct list *first = list_take_first(&nbd->pending);

            start(nbd, connection, container_of(first, struct backing_io, link));
            progress = true;
        }
    }
    arm_watchdog(nbd);
}

void backing_nbd_connected(struct backing_nbd *nbd)
{
    nbd->backoff_ns = BACKOFF_NS_MIN;
    nbd->ghosts = false;
    /* Nothing of the old connection will be answered, and what was sent there was sent before
     * anything that is sent from now on (hazard 15). */
    while (!list_empty(&nbd->doubt))
        finish(nbd, container_of(list_take_first(&nbd->doubt), struct backing_io, link), -EIO);
    core_defer(nbd->core, &nbd->work);
}

void backing_nbd_lost(struct backing_nbd *nbd)
{
    uint64_t most_ns = nbd->backing.timeout_ns / 4;

    if (nbd->writes_done != nbd->writes_flushed && nbd->backing.info.has_flush)
        nbd->writes_lost = true;
    core_defer(nbd->core, &nbd->work);
    if (nbd->reconnect.armed || nbd->closing)
        return;
    core_timer_arm(nbd->core, &nbd->reconnect, core_now(nbd->core) + nbd->backoff_ns);
    /* Several tries within the time that a request waits. */
    if (most_ns > BACKOFF_NS_MAX)
        most_ns = BACKOFF_NS_MAX;
    if (most_ns < BACKOFF_NS_MIN)
        most_ns = BACKOFF_NS_MIN;
    nbd->backoff_ns = nbd->backoff_ns * 2 > most_ns ? most_ns : nbd->backoff_ns * 2;
}

static void reconnect(struct core *core, struct core_timer *timer)
{
    struct backing_nbd *nbd = container_of(timer, struct backing_nbd, reconnect);

    for (unsigned i = 0; i < nbd->connection_count; i++)
        backing_connection_start(&nbd->connections[i]);
    core_defer(core, &nbd->work);
}

static void watchdog(struct core *core, struct core_timer *timer)
{
    struct backing_nbd *nbd = container_of(timer, struct backing_nbd, watchdog);
    uint64_t now_ns = core_now(core), timeout_ns = nbd->backing.timeout_ns;
    uint64_t connect_ns = timeout_ns < CONNECT_NS_MAX ? timeout_ns : CONNECT_NS_MAX;

    for (unsigned i = 0; i < nbd->connection_count; i++) {
        struct backing_connection *connection = &nbd->connections[i];
        struct backing_io *oldest =
            list_first_entry(&connection->in_flight, struct backing_io, link);

        /* Only without the connection is it certain that a buffer is ours again. */
        if (oldest != NULL && now_ns - oldest->issued_ns >= timeout_ns)
            backing_connection_lose(connection, "the server did not answer in time");
        else if (connection->state == CONNECTION_CONNECTING &&
                 now_ns - connection->connecting_since_ns >= connect_ns)
            backing_connection_lose(connection, "the server did not take the connection in time");
    }
    fail_late(nbd, &nbd->pending);
    /* A caller that is told of a failure may write, or read, the same blocks again. */
    nbd->ghosts |= fail_late(nbd, &nbd->doubt);
    core_defer(core, &nbd->work);
    arm_watchdog(nbd);
}

/* The first request: the connection that opening made becomes the core's. */
static void adopt(struct backing_nbd *nbd, struct core *core)
{
    nbd->core = core;
    nbd->work.run = work;
    nbd->reconnect.expired = reconnect;
    nbd->watchdog.expired = watchdog;
    for (unsigned i = 0; i < nbd->connection_count; i++)
        backing_connection_start(&nbd->connections[i]);
}

static void arrive(struct core *core, struct core_message *message)
{
    struct backing_io *io = container_of(message, struct backing_io, message);
    struct backing_nbd *nbd = container_of(io->backing, struct backing_nbd, backing);

    if (nbd->core == NULL)
        adopt(nbd, core);
    backing_io_cut(&nbd->backing, io);
    io->started_ns = core_now(core);
    if (io->op == BACKING_FLUSH ? !nbd->backing.info.has_flush : io->end == 0) {
        finish(nbd, io, 0);
        return;
    }
    list_add_tail(&nbd->pending, &io->link);
    core_defer(core, &nbd->work);
}

static void submit(struct core *core, struct backing *backing, struct backing_io *io)
{
    struct core *owner = core_at(backing->owner);

    if (owner == core) {
        arrive(core, &io->message);
        return;
    }
    io->message.handle = arrive;
    core_message_send(owner, &io->message);
}

/* ---- life --------------------------------------------------------------------------------- */

/* On the owner core: hangs up, and sees whether the last poll has ended. */
struct hang_up {
    struct backing_nbd *nbd;
    bool done;
};

static void hang_up(struct core *core, void *opaque)
{
    struct hang_up *hang_up = opaque;
    struct backing_nbd *nbd = hang_up->nbd;

    if (nbd->core != core)
        return;
    nbd->closing = true;
    core_timer_disarm(core, &nbd->reconnect);
    core_timer_disarm(core, &nbd->watchdog);
    hang_up->done = true;
    for (unsigned i = 0; i < nbd->connection_count; i++) {
        struct backing_connection *connection = &nbd->connections[i];

        if (connection->state == CONNECTION_READY)
            nbd_aio_disconnect(connection->handle, 0);
        backing_connection_lose(connection, "it is closed");
        hang_up->done &= connection->state == CONNECTION_CLOSED && !nbd->work.queued;
    }
}

/* While the cores run: its requests have all ended. */
static void leave_core(struct backing_nbd *nbd)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct hang_up state = {.nbd = nbd};

    if (core_count() == 0 || core_self() != NULL || nbd->core == NULL)
        return;
    for (;;) {
        cores_visit(hang_up, &state);
        if (state.done)
            return;
        nanosleep(&pause, NULL);
    }
}

static void nbd_backing_close(struct backing *backing)
{
    struct backing_nbd *nbd = container_of(backing, struct backing_nbd, backing);

    leave_core(nbd);
    for (unsigned i = 0; i < nbd->connection_count; i++)
        backing_connection_close(&nbd->connections[i]);
    pthread_mutex_destroy(&nbd->state_lock);
    free(nbd);
}

static void state(struct backing *backing, char *text, size_t bytes)
{
    struct backing_nbd *nbd = container_of(backing, struct backing_nbd, backing);

    pthread_mutex_lock(&nbd->state_lock);
    if (nbd->ready_count > 0)
        snprintf(text, bytes, "%s, %u of %u connections%s%s", nbd->failing ? "failing" : "up",
                 nbd->ready_count, nbd->connection_count,
                 nbd->last_error[0] ? ", last error: " : "", nbd->last_error);
    else
        snprintf(text, bytes, "reconnecting for %llu s: %s",
                 (unsigned long long)(clock_ns() / NS_PER_S - nbd->lost_since_ns / NS_PER_S),
                 nbd->last_error);
    pthread_mutex_unlock(&nbd->state_lock);
}

/* What the server says about the export; all of it must suit the cache. */
static int take_info(struct backing_nbd *nbd, const char *uri, bool read_only, char *why,
                     size_t why_bytes)
{
    struct nbd_handle *handle = nbd->connections[0].handle;
    int64_t bytes = nbd_get_size(handle);
    int64_t smallest = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
    int64_t largest = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

    if (bytes < 0) {
        snprintf(why, why_bytes, "%s: %s", uri, nbd_get_error());
        return -EIO;
    }
    if (!read_only && nbd_is_read_only(handle) != 0) {
        snprintf(why, why_bytes, "%s: the export is read-only; set read_only = true", uri);
        return -EROFS;
    }
    if (smallest > (int64_t)BLOCK_BYTES || (largest > 0 && largest < (int64_t)BLOCK_BYTES)) {
        snprintf(why, why_bytes, "%s: the export's block sizes do not allow requests of %u bytes",
                 uri, BLOCK_BYTES);
        return -EINVAL;
    }
    nbd->stride_bytes = STRIDE_BYTES_MAX;
    if (largest > 0 && largest < (int64_t)STRIDE_BYTES_MAX)
        nbd->stride_bytes = (uint32_t)largest / BLOCK_BYTES * BLOCK_BYTES;
    nbd->can_zero = nbd_can_zero(handle) > 0;
    nbd->connection_count = nbd_can_multi_conn(handle) > 0 ? BACKING_CONNECTIONS_MAX : 1;
    nbd->backing.info = (struct backing_info){
        .bytes = (uint64_t)bytes,
        .read_only = read_only,
        .can_zero = nbd->can_zero,
        .can_trim = nbd_can_trim(handle) > 0,
        .has_flush = nbd_can_flush(handle) > 0,
        .sector_bytes = 512,
    };
    return 0;
}

int backing_nbd_open(struct backing **backing, const char *uri, bool read_only, uint64_t timeout_ns,
                     char *why, size_t why_bytes)
{
    static const struct backing_ops ops = {
        .submit = submit, .close = nbd_backing_close, .state = state};
    struct backing_nbd *nbd = calloc(1, sizeof(*nbd));
    int error;

    if (nbd == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    nbd->backing.ops = &ops;
    nbd->backing.fd = -1;
    nbd->connection_count = 1;
    nbd->backoff_ns = BACKOFF_NS_MIN;
    nbd->ready_count = 1;
    pthread_mutex_init(&nbd->state_lock, NULL);
    list_init(&nbd->pending);
    list_init(&nbd->doubt);
    for (unsigned i = 0; i < BACKING_CONNECTIONS_MAX; i++)
        backing_connection_init(&nbd->connections[i], nbd);
    error = backing_connection_open(&nbd->connections[0], uri, timeout_ns, why, why_bytes);
    if (!error)
        error = take_info(nbd, uri, read_only, why, why_bytes);
    if (error) {
        nbd_backing_close(&nbd->backing);
        return error;
    }
    *backing = &nbd->backing;
    return 0;
}
