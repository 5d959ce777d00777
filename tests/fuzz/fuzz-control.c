/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket, within a whole daemon: the input is what one client sends, cut where it has a
 * byte 0xff.  Each reply is a JSON object that says whether it is an error; an honest client beside
 * it is answered; who asks for a shutdown hears nothing, as there is none.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/control.h"
#include "tests/fuzz/fuzz-daemon.h"

#define REPLY_BYTES (1u << 20)
#define TURNS_MAX   20000

static struct fuzz_daemon daemon_;
static struct control_socket socket_;
static struct control *control;
static int honest;
static atomic_uint shutdowns;
static char replies[REPLY_BYTES];

static void shutdown_asked(void *opaque, bool flush)
{
    (void)opaque;
    (void)flush;
    atomic_fetch_add(&shutdowns, 1);
}

static void control_stop(void)
{
    close(honest);
    control_end(control, 0, NULL);
    control_socket_close(&socket_);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct control_config config = {
        .socket = &socket_, .service = &daemon_.service, .shutdown = shutdown_asked};
    char why[256];

    (void)argc;
    (void)argv;
    fuzz_daemon_start(&daemon_);
    FUZZ_CHECK(control_socket_open(&socket_, daemon_.control_path, why, sizeof(why)) == 0 &&
                   control_begin(&control, &config, why, sizeof(why)) == 0,
               "no control server: %s", why);
    atexit(control_stop); /* before the daemon's */
    honest = fuzz_connect(daemon_.control_path);
    return 0;
}

/* One reply, without its end of line. */
static bool reply_ok(const char *text, size_t bytes)
{
    json_t *reply = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    json_t *error = json_object_get(reply, "error");
    bool ok = json_is_true(json_object_get(reply, "ok"));

    FUZZ_CHECK(json_is_boolean(json_object_get(reply, "ok")), "a reply that is none: %.*s",
               (int)bytes, text);
    FUZZ_CHECK(ok ? json_is_object(json_object_get(reply, "result"))
                  : json_is_string(json_object_get(error, "what")) &&
                        json_is_string(json_object_get(error, "why")),
               "a reply without a reason: %.*s", (int)bytes, text);
    json_decref(reply);
    return ok;
}

static void honest_ask(void)
{
    static const char request[] = "{\"verb\": \"volumes\"}\n";
    static char reply[16384];
    size_t bytes = 0;

    fuzz_send_all(honest, request, strlen(request), "the honest client");
    do {
        ssize_t got;

        FUZZ_CHECK(bytes < sizeof(reply), "an endless reply");
        fuzz_wait(honest, POLLIN, "the honest client");
        got = recv(honest, reply + bytes, sizeof(reply) - bytes, MSG_DONTWAIT);
        FUZZ_CHECK(got > 0 || (got < 0 && errno == EAGAIN), "the honest client is hung up on");
        bytes += got > 0 ? (size_t)got : 0;
    } while (bytes == 0 || reply[bytes - 1] != '\n');
    FUZZ_CHECK(reply_ok(reply, bytes - 1), "the honest client got an error");
}

/* ---- the client of the input ----------------------------------------------------------------- */

struct client {
    int fd;
    bool closed;
    size_t bytes; /* of replies */
    size_t asked, answered;
};

static void receive(struct client *client)
{
    ssize_t got;
    char *end;

    while ((got = recv(client->fd, replies + client->bytes, REPLY_BYTES - client->bytes,
                       MSG_DONTWAIT)) > 0) {
        client->bytes += (size_t)got;
        while ((end = memchr(replies, '\n', client->bytes)) != NULL) {
            reply_ok(replies, (size_t)(end - replies));
            client->answered++;
            client->bytes -= (size_t)(end + 1 - replies);
            memmove(replies, end + 1, client->bytes);
        }
        FUZZ_CHECK(client->bytes < REPLY_BYTES, "an endless reply");
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        client->closed = true;
}

/* A server that does not take more waits for us to take its replies. */
static void part_send(struct client *client, const uint8_t *data, size_t bytes)
{
    for (unsigned turn = 0; bytes > 0 && !client->closed; turn++) {
        ssize_t sent = send(client->fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

        FUZZ_CHECK(turn < TURNS_MAX, "a client cannot send");
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            client->closed = true;
        data += sent > 0 ? sent : 0;
        bytes -= sent > 0 ? (size_t)sent : 0;
        receive(client);
        if (sent < 0)
            honest_ask();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *end = data + bytes;
    struct client client = {.fd = fuzz_connect(daemon_.control_path)};
    unsigned before = atomic_load(&shutdowns);

    for (const uint8_t *at = data; at < end;) {
        const uint8_t *cut = memchr(at, 0xff, (size_t)(end - at));
        size_t here = (size_t)((cut ? cut : end) - at);

        for (size_t i = 0; i < here; i++)
            client.asked += at[i] == '\n';
        part_send(&client, at, here);
        if (cut != NULL)
            honest_ask();
        at += here + (cut != NULL);
    }
    for (unsigned turn = 0; !client.closed && client.answered < client.asked; turn++) {
        honest_ask();
        receive(&client);
        if (atomic_load(&shutdowns) != before)
            break;
        FUZZ_CHECK(turn < TURNS_MAX, "%zu of %zu requests were answered", client.answered,
                   client.asked);
    }
    FUZZ_CHECK(client.answered <= client.asked + 1, "more replies than requests");
    close(client.fd);
    honest_ask();
    return 0;
}
