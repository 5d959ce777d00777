/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the NBD backing store: libnbd's state machine, driven by polls on our ring. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "io/backing-nbd.h"

void backing_connection_init(struct backing_connection *connection, struct backing_nbd *nbd)
{
    memset(connection, 0, sizeof(*connection));
    connection->nbd = nbd;
    list_init(&connection->in_flight);
    list_init(&connection->completed);
}

static struct nbd_handle *make_handle(void)
{
    struct nbd_handle *handle = nbd_create();

    if (handle == NULL)
        return NULL;
    /* No ssh, no command: a URI in a configuration must not run programs. */
    if (nbd_set_uri_allow_transports(handle, LIBNBD_ALLOW_TRANSPORT_MASK) != 0 ||
        nbd_set_uri_allow_tls(handle, LIBNBD_TLS_ALLOW) != 0 ||
        nbd_set_uri_allow_local_file(handle, true) != 0 ||
        nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
        /* A read that fails is answered with an error, never with what the buffer holds. */
        nbd_set_pread_initialize(handle, false) != 0) {
        nbd_close(handle);
        return NULL;
    }
    return handle;
}

/* ---- before the cores run ----------------------------------------------------------------- */

static int wait_until_ready(struct nbd_handle *handle, uint64_t timeout_ns)
{
    uint64_t end_ns = clock_ns() + timeout_ns;

    while (!nbd_aio_is_ready(handle)) {
        uint64_t now_ns = clock_ns();

        if (nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle))
            return -ECONNREFUSED;
        if (now_ns >= end_ns)
            return -ETIMEDOUT;
        if (nbd_poll(handle, (int)((end_ns - now_ns) / 1000000u) + 1) < 0)
            return nbd_get_errno() ? -nbd_get_errno() : -ECONNREFUSED;
    }
    return 0;
}

int backing_connection_open(struct backing_connection *connection, const char *uri,
                            uint64_t timeout_ns, char *why, size_t why_bytes)
{
    struct nbd_handle *handle = make_handle();
    int error;

    if (handle == NULL) {
        snprintf(why, why_bytes, "%s: %s", uri, nbd_get_error());
        return -ENOMEM;
    }
    if (nbd_aio_connect_uri(handle, uri) != 0)
        error = nbd_get_errno() ? -nbd_get_errno() : -ECONNREFUSED;
    else
        error = wait_until_ready(handle, timeout_ns);
    if (error == -ETIMEDOUT) {
        snprintf(why, why_bytes, "%s: the NBD server did not answer within %llu ms", uri,
                 (unsigned long long)(timeout_ns / 1000000u));
    } else if (error) {
        const char *text = nbd_get_error();

        snprintf(why, why_bytes, "%s: cannot connect to the NBD server: %s", uri,
                 text != NULL ? text : strerror(-error));
    }
    if (error) {
        nbd_close(handle);
        return error;
    }
    connection->handle = handle;
    connection->state = CONNECTION_READY;
    connection->can_fua = nbd_can_fua(handle) > 0;
    return 0;
}

void backing_connection_close(struct backing_connection *connection)
{
    if (connection->handle == NULL)
        return;
    /* So that the server logs no broken connection; it costs nothing if it does not get there. */
    if (nbd_aio_is_ready(connection->handle))
        nbd_aio_disconnect(connection->handle, 0);
    nbd_close(connection->handle);
    connection->handle = NULL;
    connection->state = CONNECTION_CLOSED;
}

/* ---- on the owner core -------------------------------------------------------------------- */

static void close_if_unpolled(struct backing_connection *connection)
{
    if (connection->in_armed || connection->out_armed)
        return;
    nbd_close(connection->handle);
    connection->handle = NULL;
    connection->state = CONNECTION_CLOSED;
    backing_nbd_lost(connection->nbd);
}

static void note_loss(struct backing_connection *connection, const char *reason)
{
    struct backing_nbd *nbd = connection->nbd;
    bool was_last = false;

    pthread_mutex_lock(&nbd->state_lock);
    snprintf(nbd->last_error, sizeof(nbd->last_error), "%s", reason);
    if (connection->state == CONNECTION_READY && --nbd->ready_count == 0) {
        nbd->lost_since_ns = core_now(nbd->core);
        was_last = true;
    }
    pthread_mutex_unlock(&nbd->state_lock);
    if (was_last && !nbd->closing)
        log_warning("lost the NBD server, reconnecting", LOG_STR("backing", nbd->backing.spec),
                    LOG_STR("reason", reason));
}

void backing_connection_lose(struct backing_connection *connection, const char *reason)
{
    struct list lost;

    if (connection->state == CONNECTION_DYING || connection->state == CONNECTION_CLOSED)
        return;
    if (reason == NULL)
        reason = "the connection broke";
    note_loss(connection, reason);
    connection->state = CONNECTION_DYING;

    list_init(&lost);
    list_splice_tail(&lost, &connection->completed);
    list_splice_tail(&lost, &connection->in_flight);
    connection->in_flight_count = 0;
    while (!list_empty(&lost))
        backing_nbd_requeue(connection->nbd,
                            container_of(list_take_first(&lost), struct backing_io, link));

    if (connection->in_armed)
        core_cancel(connection->nbd->core, &connection->poll_in);
    if (connection->out_armed)
        core_cancel(connection->nbd->core, &connection->poll_out);
    close_if_unpolled(connection);
}

/* The export must still be what the cache was told. */
static bool still_fits(struct backing_connection *connection)
{
    struct backing_nbd *nbd = connection->nbd;
    int64_t bytes = nbd_get_size(connection->handle);

    return bytes >= 0 && (uint64_t)bytes >= nbd->backing.info.bytes &&
           (nbd->backing.info.read_only || nbd_is_read_only(connection->handle) == 0);
}

static void handshake_done(struct backing_connection *connection)
{
    struct backing_nbd *nbd = connection->nbd;
    bool is_first;

    if (!still_fits(connection)) {
        backing_connection_lose(connection, "the export became smaller or read-only");
        return;
    }
    connection->state = CONNECTION_READY;
    connection->can_fua = nbd_can_fua(connection->handle) > 0;
    pthread_mutex_lock(&nbd->state_lock);
    is_first = nbd->ready_count++ == 0;
    pthread_mutex_unlock(&nbd->state_lock);
    if (is_first)
        log_notice("the NBD server is back", LOG_STR("backing", nbd->backing.spec));
    backing_nbd_connected(nbd);
}

static void arm(struct backing_connection *connection, struct core_op *op, bool *armed,
                unsigned events)
{
    struct io_uring_sqe *sqe;

    if (*armed)
        return;
    *armed = true;
    sqe = core_sqe(connection->nbd->core);
    io_uring_prep_poll_add(sqe, nbd_aio_get_fd(connection->handle), events);
    core_sqe_to(sqe, op);
}

void backing_connection_update(struct backing_connection *connection)
{
    unsigned direction;

    if (connection->state == CONNECTION_DYING || connection->state == CONNECTION_CLOSED)
        return;
    if (nbd_aio_is_dead(connection->handle) || nbd_aio_is_closed(connection->handle)) {
        backing_connection_lose(connection, nbd_get_error());
        return;
    }
    if (connection->state == CONNECTION_CONNECTING && nbd_aio_is_ready(connection->handle)) {
        handshake_done(connection);
        if (connection->state != CONNECTION_READY)
            return;
    }
    direction = nbd_aio_get_direction(connection->handle);
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        arm(connection, &connection->poll_in, &connection->in_armed, POLLIN);
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        arm(connection, &connection->poll_out, &connection->out_armed, POLLOUT);
}

static void polled(struct backing_connection *connection)
{
    if (connection->state == CONNECTION_DYING)
        close_if_unpolled(connection);
    else
        core_defer(connection->nbd->core, &connection->nbd->work);
}

/* The library may have changed its mind since the poll was armed.  Its errors show in its state,
 * which backing_connection_update looks at. */
static void readable(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct backing_connection *connection = container_of(op, struct backing_connection, poll_in);

    (void)core, (void)cqe_flags;
    connection->in_armed = false;
    if (connection->state != CONNECTION_DYING && result >= 0 &&
        (nbd_aio_get_direction(connection->handle) & LIBNBD_AIO_DIRECTION_READ))
        nbd_aio_notify_read(connection->handle);
    polled(connection);
}

static void writable(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct backing_connection *connection = container_of(op, struct backing_connection, poll_out);

    (void)core, (void)cqe_flags;
    connection->out_armed = false;
    if (connection->state != CONNECTION_DYING && result >= 0 &&
        (nbd_aio_get_direction(connection->handle) & LIBNBD_AIO_DIRECTION_WRITE))
        nbd_aio_notify_write(connection->handle);
    polled(connection);
}

void backing_connection_start(struct backing_connection *connection)
{
    struct backing_nbd *nbd = connection->nbd;

    connection->poll_in.done = readable;
    connection->poll_out.done = writable;
    if (connection->state != CONNECTION_CLOSED)
        return;
    connection->handle = make_handle();
    if (connection->handle == NULL) {
        backing_nbd_lost(nbd);
        return;
    }
    connection->state = CONNECTION_CONNECTING;
    connection->connecting_since_ns = core_now(nbd->core);
    if (nbd_aio_connect_uri(connection->handle, nbd->backing.spec) != 0)
        backing_connection_lose(connection, nbd_get_error());
    else
        backing_connection_update(connection);
}
