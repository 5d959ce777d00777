/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the daemon, over its control socket. */
#include "daemon/ctl-client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (64u << 20)
#define FOLLOW_NS        20000000

static enum ctl_exit unreachable(const char *socket, const char *why)
{
    ctl_fail(socket, "%s; is blkcached running, and is this its daemon.control?", why);
    return CTL_UNREACHABLE;
}

enum ctl_exit ctl_connect(const struct ctl *ctl, struct ctl_client *client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *client = (struct ctl_client){.socket = ctl->socket, .fd = -1};
    if (strlen(ctl->socket) >= sizeof(address.sun_path))
        return unreachable(ctl->socket, "the path is too long for a socket");
    strcpy(address.sun_path, ctl->socket);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 ||
        connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        enum ctl_exit failed = unreachable(ctl->socket, strerror(errno));

        ctl_disconnect(client);
        return failed;
    }
    return CTL_DONE;
}

void ctl_disconnect(struct ctl_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static bool send_line(int fd, json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    size_t bytes = text ? strlen(text) : 0, done = 0;
    bool sent = text != NULL;

    if (sent)
        text[bytes++] = '\n'; /* in the place of the NUL: the length is known */
    while (sent && done < bytes) {
        ssize_t put = send(fd, text + done, bytes - done, MSG_NOSIGNAL);

        if (put < 0 && errno != EINTR)
            sent = false;
        else if (put > 0)
            done += (size_t)put;
    }
    free(text);
    return sent;
}

/* The answer's line, to be freed, or NULL and *why. */
static char *receive_line(int fd, size_t *bytes, const char **why)
{
    size_t room = 65536, used = 0;
    char *text = malloc(room);

    *why = "out of memory";
    while (text != NULL) {
        ssize_t got = recv(fd, text + used, room - used, 0);
        char *end = got > 0 ? memchr(text + used, '\n', (size_t)got) : NULL;

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *why = got == 0          ? "it ended before it answered"
                   : errno == EAGAIN ? "it does not answer"
                                     : strerror(errno);
            break;
        }
        if (end != NULL) {
            *bytes = (size_t)(end - text);
            return text;
        }
        used += (size_t)got;
        if (used == room) {
            char *larger = room < ANSWER_BYTES_MAX ? realloc(text, room * 2) : NULL;

            if (larger == NULL)
                break;
            room *= 2;
            text = larger;
        }
    }
    free(text);
    return NULL;
}

/* Takes an answer apart. */
static enum ctl_exit judge(const struct ctl_client *client, json_t *answer, json_t **result)
{
    const char *what = "the daemon", *why = "its answer is not understood";

    if (json_is_true(json_object_get(answer, "ok"))) {
        *result = json_incref(json_object_get(answer, "result"));
        json_decref(answer);
        return *result != NULL ? CTL_DONE : ctl_fail(client->socket, "%s", why);
    }
    json_unpack(answer, "{s:{s:s, s:s}}", "error", "what", &what, "why", &why);
    ctl_fail(what, "%s", why);
    json_decref(answer);
    return CTL_FAILED;
}

enum ctl_exit ctl_ask(struct ctl_client *client, json_t *request, int seconds, json_t **result)
{
    struct timeval limit = {.tv_sec = seconds};
    bool sent;
    const char *why;
    size_t bytes;
    char *line;
    json_t *answer;

    *result = NULL;
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sent = send_line(client->fd, request);
    json_decref(request);
    if (!sent)
        return unreachable(client->socket, strerror(errno));
    line = receive_line(client->fd, &bytes, &why);
    if (line == NULL)
        return unreachable(client->socket, why);
    answer = json_loadb(line, bytes, 0, NULL);
    free(line);
    return judge(client, answer, result);
}

enum ctl_exit ctl_ask_once(const struct ctl *ctl, json_t *request, json_t **result)
{
    struct ctl_client client;
    enum ctl_exit failed = ctl_connect(ctl, &client);

    if (failed) {
        json_decref(request);
        return failed;
    }
    failed = ctl_ask(&client, request, CTL_ANSWER_SECONDS, result);
    ctl_disconnect(&client);
    return failed;
}

/* ---- answers ------------------------------------------------------------------------------- */

uint64_t ctl_number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

const char *ctl_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "?";
}

/* ---- work in the background ----------------------------------------------------------------- */

/* *state, which is replaced, is the work of the answer. */
static enum ctl_exit ask_for(struct ctl_client *client, json_t *request,
                             const struct ctl_work *work, json_t **state)
{
    json_t *answer;
    enum ctl_exit failed;

    json_decref(*state);
    *state = NULL;
    failed = ctl_ask(client, request, CTL_ANSWER_SECONDS, &answer);
    if (failed)
        return failed;
    *state = json_incref(json_object_get(answer, work->name));
    json_decref(answer);
    return CTL_DONE;
}

static enum ctl_exit follow(const struct ctl *ctl, struct ctl_client *client,
                            const struct ctl_work *work, json_t **state)
{
    const struct timespec pause = {.tv_nsec = FOLLOW_NS};
    enum ctl_exit failed = CTL_DONE;
    struct progress progress;

    progress_begin(&progress, work->doing, ctl->terminal);
    while (!failed && work->is_running(*state)) {
        json_int_t id = (json_int_t)ctl_number(*state, "id");

        work->show(&progress, *state);
        nanosleep(&pause, NULL);
        failed =
            ask_for(client, json_pack("{s:s, s:I}", "verb", work->name, "id", id), work, state);
    }
    progress_end(&progress);
    return failed;
}

enum ctl_exit ctl_follow(const struct ctl *ctl, json_t *request, const struct ctl_work *work,
                         bool wait, json_t **state)
{
    struct ctl_client client;
    enum ctl_exit failed = ctl_connect(ctl, &client);

    *state = NULL;
    if (failed) {
        json_decref(request);
        return failed;
    }
    failed = ask_for(&client, request, work, state);
    if (!failed && wait)
        failed = follow(ctl, &client, work, state);
    ctl_disconnect(&client);
    return failed;
}
