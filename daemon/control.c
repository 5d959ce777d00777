/* SPDX-License-Identifier: Apache-2.0 */
/* The control server. */
#include "daemon/control.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/control-verbs.h"

#define BACKLOG 64

struct client {
    int fd; /* -1: the place is free */
    char *request;
    size_t request_bytes;
    bool more;   /* a further request is complete already */
    char *reply; /* what is still to be sent */
    size_t reply_bytes, reply_sent;
    bool waits_for_end; /* asked for the shutdown: answered when it is done */
    bool closing;       /* no more requests are taken */
    time_t active;      /* when it last did something, CLOCK_MONOTONIC seconds */
};

struct control {
    struct control_config config;
    struct control_verbs verbs;
    pthread_t thread;
    int wake_fd;
    struct client clients[CONTROL_CLIENTS_MAX];

    pthread_mutex_t lock; /* held while a request is answered */
    bool quiet;           /* under lock: answer no more */
    bool ending;          /* under lock */
    int end_error;
    char end_why[256];
};

static time_t now_seconds(void)
{
    return (time_t)(clock_ns() / NS_PER_S);
}

/* ---- clients -------------------------------------------------------------------------------- */

static void client_close(struct client *client)
{
    close(client->fd);
    free(client->request);
    free(client->reply);
    *client = (struct client){.fd = -1};
}

/* Sends what it can.  False: the client is gone. */
static bool client_send(struct client *client)
{
    while (client->reply_sent < client->reply_bytes) {
        ssize_t sent = send(client->fd, client->reply + client->reply_sent,
                            client->reply_bytes - client->reply_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (sent < 0)
            return false;
        client->reply_sent += (size_t)sent;
        client->active = now_seconds();
    }
    free(client->reply);
    client->reply = NULL;
    client->reply_bytes = client->reply_sent = 0;
    return !client->closing;
}

/* Takes `reply` over and begins to send it.  False: the client is to be closed. */
static bool client_reply(struct client *client, json_t *reply)
{
    char *text = json_dumps(reply, JSON_COMPACT);
    size_t bytes;

    json_decref(reply);
    assert(client->reply == NULL);
    if (text == NULL)
        return false;
    bytes = strlen(text);
    client->reply = realloc(text, bytes + 1);
    if (client->reply == NULL) {
        free(text);
        return false;
    }
    client->reply[bytes] = '\n';
    client->reply_bytes = bytes + 1;
    client->reply_sent = 0;
    return client_send(client);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Answers one line.  False: the client is to be closed. */
static bool line_answer(struct control *control, struct client *client, const char *line,
                        size_t bytes)
{
    json_error_t error;
    json_t *request = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &error);
    json_t *reply;

    if (!json_is_object(request)) {
        json_decref(request);
        client->closing = true;
        return client_reply(client, control_refusal("request", "it is no JSON object"));
    }
    pthread_mutex_lock(&control->lock);
    if (control->quiet)
        reply = control_refusal("request", "blkcached is stopping");
    else {
        cache_hold(control->config.service->cache);
        reply = control_answer(&control->verbs, request);
        cache_release(control->config.service->cache);
    }
    pthread_mutex_unlock(&control->lock);
    json_decref(request);
    if (reply == NULL) {
        client->waits_for_end = true;
        return true;
    }
    return client_reply(client, reply);
}

/* Answers one request, if one is complete: a client that sends many at once takes its turn with the
 * others for each. */
static bool request_answer(struct control *control, struct client *client)
{
    char *end = memchr(client->request, '\n', client->request_bytes);
    size_t bytes;

    client->more = false;
    if (client->reply != NULL || client->waits_for_end || client->closing)
        return true;
    if (end == NULL && client->request_bytes == CONTROL_REQUEST_BYTES_MAX) {
        client->closing = true;
        return client_reply(client, control_refusal("request", "it is too long"));
    }
    if (end == NULL)
        return true;
    bytes = (size_t)(end - client->request);
    if (!line_answer(control, client, client->request, bytes))
        return false;
    client->request_bytes -= bytes + 1;
    memmove(client->request, end + 1, client->request_bytes);
    client->more = memchr(client->request, '\n', client->request_bytes) != NULL;
    return true;
}

static bool client_receive(struct control *control, struct client *client)
{
    ssize_t got = recv(client->fd, client->request + client->request_bytes,
                       CONTROL_REQUEST_BYTES_MAX - client->request_bytes, MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    client->request_bytes += (size_t)got;
    client->active = now_seconds();
    return request_answer(control, client);
}

static bool client_serve(struct control *control, struct client *client, short events)
{
    bool alive = true;

    if (events & POLLOUT)
        alive = client_send(client) && request_answer(control, client);
    else if (client->more)
        alive = request_answer(control, client);
    else if (events & POLLIN)
        alive = client_receive(control, client);
    else if (events & (POLLERR | POLLHUP | POLLNVAL))
        alive = false;
    return alive;
}

static void client_accept(struct control *control)
{
    int fd = accept4(control->config.socket->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client = control->clients;

    if (fd < 0)
        return;
    while (client->fd >= 0)
        client++;
    assert(client < control->clients + CONTROL_CLIENTS_MAX);
    client->request = malloc(CONTROL_REQUEST_BYTES_MAX);
    if (client->request == NULL) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->active = now_seconds();
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void idle_close(struct control *control)
{
    time_t now = now_seconds();

    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &control->clients[i];

        if (client->fd >= 0 && !client->waits_for_end &&
            now - client->active >= CONTROL_IDLE_SECONDS)
            client_close(client);
    }
}

/* The listener comes first, then the wake-up, then the clients; who is not polled has fd -1.  When
 * all places are taken, further clients wait in the backlog.  Returns how long to wait, in ms. */
static int polls_fill(const struct control *control, struct pollfd *polls)
{
    bool room = false, more = false;

    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        const struct client *client = &control->clients[i];
        bool takes_more = !client->waits_for_end && !client->closing;

        room |= client->fd < 0;
        more |= client->fd >= 0 && client->more && client->reply == NULL;
        polls[2 + i] = (struct pollfd){
            .fd = client->fd,
            .events = client->reply != NULL ? POLLOUT
                      : takes_more          ? POLLIN
                                            : 0,
        };
    }
    polls[0] = (struct pollfd){.fd = room ? control->config.socket->fd : -1, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = control->wake_fd, .events = POLLIN};
    return more ? 0 : 1000;
}

static void end_answer(struct control *control)
{
    const char *why = control->end_error ? control->end_why : NULL;

    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &control->clients[i];

        if (client->fd >= 0 && client->waits_for_end)
            client_reply(client,
                         why ? control_refusal("shutdown", why) : control_success(json_object()));
        if (client->fd >= 0)
            client_close(client);
    }
}

static bool is_ending(struct control *control)
{
    bool ending;

    pthread_mutex_lock(&control->lock);
    ending = control->ending;
    pthread_mutex_unlock(&control->lock);
    return ending;
}

static void *control_thread(void *opaque)
{
    struct control *control = opaque;
    struct pollfd polls[2 + CONTROL_CLIENTS_MAX];
    uint64_t wakes;

    pthread_setname_np(pthread_self(), "control");
    while (!is_ending(control)) {
        if (poll(polls, 2 + CONTROL_CLIENTS_MAX, polls_fill(control, polls)) < 0)
            continue;
        if (polls[1].revents && read(control->wake_fd, &wakes, sizeof(wakes)) < 0)
            continue;
        for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            struct client *client = &control->clients[i];

            if (client->fd >= 0 && (polls[2 + i].revents || client->more) &&
                !client_serve(control, client, polls[2 + i].revents))
                client_close(client);
        }
        if (polls[0].revents)
            client_accept(control);
        idle_close(control);
    }
    end_answer(control);
    return NULL;
}

/* ---- life ----------------------------------------------------------------------------------- */

static void control_free(struct control *control)
{
    if (control->wake_fd >= 0)
        close(control->wake_fd);
    control_verbs_free(&control->verbs);
    pthread_mutex_destroy(&control->lock);
    free(control);
}

int control_begin(struct control **begun, const struct control_config *config, char *why,
                  size_t why_bytes)
{
    struct control *control = calloc(1, sizeof(*control));
    int error;

    if (control == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    control->config = *config;
    control->verbs.service = config->service;
    control->verbs.shutdown = config->shutdown;
    control->verbs.opaque = config->opaque;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->clients[i].fd = -1;
    pthread_mutex_init(&control->lock, NULL);
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = control->wake_fd < 0 ? -errno : 0;
    if (!error && listen(config->socket->fd, BACKLOG) != 0)
        error = -errno;
    if (!error)
        error = -pthread_create(&control->thread, NULL, control_thread, control);
    if (error) {
        snprintf(why, why_bytes, "control socket %s: cannot be served: %s", config->socket->path,
                 strerror(-error));
        control_free(control);
        return error;
    }
    *begun = control;
    return 0;
}

void control_quiesce(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    control->quiet = true;
    pthread_mutex_unlock(&control->lock);
}

void control_end(struct control *control, int error, const char *why)
{
    uint64_t one = 1;

    pthread_mutex_lock(&control->lock);
    control->ending = true;
    control->end_error = error;
    snprintf(control->end_why, sizeof(control->end_why), "%s", error ? why : "");
    pthread_mutex_unlock(&control->lock);
    if (write(control->wake_fd, &one, sizeof(one)) < 0)
        log_debug("the control thread is woken already");
    pthread_join(control->thread, NULL);
    control_free(control);
}
