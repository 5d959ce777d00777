/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the servers of the tests, which are the NBD front end over something of their own, have in
 * common: the program around it, request_buffer() and request_release().
 */
#ifndef TESTS_SYSTEM_NBD_SERVE_H
#define TESTS_SYSTEM_NBD_SERVE_H

#include "frontends/nbd/nbd-server.h"
#include "io/core.h"

/* Serves until SIGTERM or SIGINT; `stopped`, unless NULL, may look at the server before it goes.  Returns 0,
 * or 1 when it could not start, which it tells. */
int nbd_serve(const struct cores_config *cores, const struct nbd_server_config *config,
              void (*stopped)(const struct nbd_server *server));

#endif
