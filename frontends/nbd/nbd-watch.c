/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the clients that do nothing, or not enough. */
#include "frontends/nbd/nbd-watch.h"

#include <linux/tcp.h> /* the C library's lacks what is needed */
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "frontends/nbd/nbd-client.h"
#include "frontends/nbd/nbd-server-private.h"

/* A timeout is noticed late by a fraction of it, and by no more than a second. */
#define PERIODS_PER_TIMEOUT 8
#define PERIOD_NS_MAX       UINT64_C(1000000000)
#define PERIOD_NS_MIN       UINT64_C(10000000)

/* Bytes that have gone over a TCP connection, in both directions; 0 for any other.  A long send or
 * receive is one operation, which ends only when all of it has gone. */
static uint64_t transferred(int fd)
{
    struct tcp_info info;
    socklen_t bytes = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0 ||
        bytes < offsetof(struct tcp_info, tcpi_segs_out))
        return 0;
    return info.tcpi_bytes_acked + info.tcpi_bytes_received;
}

static void drop(struct nbd_client *client, enum nbd_counter counter, const char *reason)
{
    nbd_count_many(client->own, counter, 1);
    nbd_client_complain(client, "dropped an NBD client", reason);
    nbd_client_break(client);
}

/* An operation is under way for so long without a byte. */
static bool is_stuck(struct nbd_client *client, uint64_t *since_ns, uint64_t timeout_ns)
{
    uint64_t now_ns = core_now(client->core), bytes;

    if (now_ns - *since_ns < timeout_ns)
        return false;
    bytes = transferred(client->fd);
    if (bytes == client->watched_bytes)
        return true;
    client->watched_bytes = bytes;
    *since_ns = now_ns;
    return false;
}

static void look(struct nbd_client *client)
{
    const struct nbd_limits *limits = &client->limits;
    uint64_t now_ns = core_now(client->core);

    if (client->state != NBD_CLIENT_TRANSMIT && client->state != NBD_CLIENT_DRAIN)
        return;
    /* A client in DRAIN that has all of its replies may still not take TLS's goodbye. */
    if ((client->sending || (client->state == NBD_CLIENT_DRAIN && client->in_flight == 0)) &&
        is_stuck(client, &client->send_ns, limits->send_timeout_ns))
        drop(client, NBD_COUNTER_send_timeouts, "it does not take its replies");
    else if (client->receiving && (client->filling != NULL || client->skip_bytes > 0) &&
             is_stuck(client, &client->receive_ns, limits->receive_timeout_ns))
        drop(client, NBD_COUNTER_receive_timeouts, "it does not send what it wants to write");
    else if (client->in_flight == 0 && client->receiving &&
             now_ns - client->receive_ns >= limits->idle_timeout_ns &&
             now_ns - client->send_ns >= limits->idle_timeout_ns)
        drop(client, NBD_COUNTER_idle_timeouts, "it asks for nothing");
}

/* The ring's own timeout, not a timer of the core: that would cost something each time the core
 * sleeps.  It holds the server, in which it is. */
static void arm(struct nbd_core *own, struct core *core)
{
    struct io_uring_sqe *sqe;

    if (own->watch_period_ns == 0 || own->watching)
        return;
    nbd_server_hold(own->server);
    own->watching = true;
    sqe = core_sqe(core);
    io_uring_prep_timeout(sqe, &own->watch_period, 0, 0);
    core_sqe_to(sqe, &own->watch);
}

static void watch(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_core *own = container_of(op, struct nbd_core, watch);
    struct nbd_server *server = own->server;

    (void)result, (void)cqe_flags;
    own->watching = false;
    list_for_each_safe (node, &own->clients)
        look(container_of(node, struct nbd_client, link));
    if (!list_empty(&own->clients))
        arm(own, core);
    nbd_server_drop(server);
}

/* How often a client with these limits is looked at; 0: never. */
static uint64_t period_ns(const struct nbd_limits *limits)
{
    uint64_t least_ns = limits->idle_timeout_ns;

    least_ns = limits->send_timeout_ns < least_ns ? limits->send_timeout_ns : least_ns;
    least_ns = limits->receive_timeout_ns < least_ns ? limits->receive_timeout_ns : least_ns;
    if (least_ns == NBD_NEVER)
        return 0;
    least_ns /= PERIODS_PER_TIMEOUT;
    return least_ns > PERIOD_NS_MAX   ? PERIOD_NS_MAX
           : least_ns < PERIOD_NS_MIN ? PERIOD_NS_MIN
                                      : least_ns;
}

void nbd_watch_init(struct nbd_core *own)
{
    own->watch.done = watch;
}

void nbd_watch_start(struct nbd_client *client)
{
    struct nbd_core *own = client->own;
    uint64_t wanted_ns = period_ns(&client->limits);

    client->send_ns = client->receive_ns = core_now(client->core);
    /* A wait that is under way is not cut short: it is a second at most. */
    if (wanted_ns != 0 && (own->watch_period_ns == 0 || wanted_ns < own->watch_period_ns)) {
        own->watch_period_ns = wanted_ns;
        own->watch_period = (struct __kernel_timespec){.tv_nsec = (long long)(wanted_ns % NS_PER_S),
                                                       .tv_sec = (long long)(wanted_ns / NS_PER_S)};
    }
    arm(own, client->core);
}

void nbd_watch_end(struct nbd_core *own, struct core *core)
{
    if (!list_empty(&own->clients))
        return;
    own->watch_period_ns = 0;
    /* A stop waits for nobody else. */
    if (own->watching)
        core_cancel(core, &own->watch);
}
