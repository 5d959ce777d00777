/* SPDX-License-Identifier: Apache-2.0 */
/* An NBD server for tests, around what it serves. */
#include "tests/system/nbd-serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "engine/format.h"
#include "io/request.h"

void *request_buffer(struct request *request)
{
    uint32_t in_block = (uint32_t)(request->offset % BLOCK_BYTES);

    request->buffer = core_buffer_take(request->core, (uint32_t)request->length + in_block);
    return request->buffer != NULL ? request->buffer->data + in_block : NULL;
}

void request_release(struct request *request)
{
    if (request->buffer != NULL)
        core_buffer_give(request->core, request->buffer);
    request->buffer = NULL;
}

int nbd_serve(const struct cores_config *cores, const struct nbd_server_config *config,
              void (*stopped)(const struct nbd_server *server))
{
    struct nbd_server *server;
    sigset_t signals;
    char why[256];
    int error, got;

    /* Before there are threads, so that none of them takes the signal. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    error = cores_start(cores, why, sizeof(why));
    if (!error) {
        error = nbd_server_create(&server, config, why, sizeof(why));
        if (error)
            cores_stop();
    }
    if (error) {
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, why);
        return 1;
    }
    nbd_server_start(server);
    sigwait(&signals, &got);
    nbd_server_stop(server);
    if (stopped != NULL)
        stopped(server);
    nbd_server_destroy(server);
    cores_stop();
    return 0;
}
