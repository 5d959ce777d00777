/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server for people and monitoring. */
#include "daemon/web.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/config-rules.h"
#include "daemon/control-status.h"
#include "daemon/history.h"
#include "daemon/metrics.h"

#define CONNECTIONS_MAX 32u
#define IDLE_SECONDS    10u

/* web-page.html, made into an object by the build. */
extern const char web_page[];
extern const size_t web_page_bytes;

struct web {
    struct service *service;
    struct MHD_Daemon *server;
};

/* ---- answers -------------------------------------------------------------------------------- */

struct answer {
    char *text; /* the response frees it; NULL: out of memory */
    size_t bytes;
    const char *type;
};

static struct answer answer_json(json_t *json)
{
    struct answer answer = {.type = "application/json"};

    answer.text = json_dumps(json, JSON_INDENT(2));
    answer.bytes = answer.text != NULL ? strlen(answer.text) : 0;
    json_decref(json);
    return answer;
}

static struct answer answer_metrics(struct service *service)
{
    struct answer answer = {.type = METRICS_CONTENT_TYPE};

    answer.text = metrics_text(service, &answer.bytes);
    return answer;
}

static struct answer answer_status(struct service *service)
{
    return answer_json(control_status(service));
}

static struct answer answer_stats(struct service *service)
{
    return answer_json(control_stats(service));
}

static struct answer answer_history(struct service *service)
{
    return answer_json(history_json(service->history));
}

static struct answer answer_page(struct service *service)
{
    struct answer answer = {.type = "text/html; charset=utf-8", .bytes = web_page_bytes};

    (void)service;
    answer.text = malloc(web_page_bytes);
    if (answer.text != NULL)
        memcpy(answer.text, web_page, web_page_bytes);
    return answer;
}

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status,
                               struct answer answer)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer.bytes, answer.text, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (response == NULL) {
        free(answer.text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; "
                            "script-src 'unsafe-inline'; connect-src 'self'; "
                            "frame-ancestors 'none'");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
    struct answer answer = {.type = "text/plain", .text = strdup(text), .bytes = strlen(text)};

    return answer.text != NULL ? respond(connection, status, answer) : MHD_NO;
}

static enum MHD_Result request(void *opaque, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_bytes, void **state)
{
    static const struct {
        const char *path;
        struct answer (*answer)(struct service *service);
    } paths[] = {
        {"/", answer_page},       {"/metrics", answer_metrics}, {"/status", answer_status},
        {"/stats", answer_stats}, {"/history", answer_history},
    };
    struct web *web = opaque;

    (void)version, (void)upload, (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        *upload_bytes = 0;
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct answer answer;

        if (strcmp(url, paths[i].path) != 0)
            continue;
        cache_hold(web->service->cache);
        answer = paths[i].answer(web->service);
        cache_release(web->service->cache);
        return answer.text != NULL ? respond(connection, MHD_HTTP_OK, answer) : MHD_NO;
    }
    return refuse(connection, MHD_HTTP_NOT_FOUND,
                  "there is nothing here: see /, /metrics, /status, /stats, /history\n");
}

/* ---- listening ------------------------------------------------------------------------------ */

static int socket_listen(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, CONNECTIONS_MAX) != 0) {
        int error = -errno;

        close(fd);
        return error;
    }
    return fd;
}

static int address_listen(const char *address, char *why, size_t why_bytes)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *info;
    struct config_address parts;
    const char *wrong;
    char port[8];
    int error = config_host_port_parse(address, &parts, &wrong), fd;

    if (error) {
        snprintf(why, why_bytes, "daemon.metrics: \"%s\" %s", address, wrong);
        return error;
    }
    snprintf(port, sizeof(port), "%u", parts.port);
    error = getaddrinfo(*parts.host != '\0' ? parts.host : NULL, port, &hints, &info);
    if (error) {
        snprintf(why, why_bytes, "daemon.metrics: \"%s\": %s", address, gai_strerror(error));
        return -EADDRNOTAVAIL;
    }
    fd = socket_listen(info);
    freeaddrinfo(info);
    if (fd < 0)
        snprintf(why, why_bytes, "daemon.metrics: cannot listen at \"%s\": %s; choose another port",
                 address, strerror(-fd));
    return fd;
}

int web_begin(struct web **begun, struct service *service, const char *address, char *why,
              size_t why_bytes)
{
    struct web *web = calloc(1, sizeof(*web));
    int fd;

    if (web == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    web->service = service;
    fd = address_listen(address, why, why_bytes);
    if (fd < 0) {
        free(web);
        return fd;
    }
    web->server = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL,
                                   request, web, MHD_OPTION_LISTEN_SOCKET, fd,
                                   MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                                   MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
    if (web->server == NULL) {
        snprintf(why, why_bytes, "daemon.metrics: the HTTP server does not start");
        close(fd);
        free(web);
        return -EIO;
    }
    *begun = web;
    return 0;
}

void web_end(struct web *web)
{
    if (web == NULL)
        return;
    MHD_stop_daemon(web->server);
    free(web);
}
