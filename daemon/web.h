/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server for people and monitoring, with libmicrohttpd on a thread of its own.  It only
 * tells, and changes nothing:
 *
 *   /           a page with live charts, complete in itself
 *   /metrics    OpenMetrics
 *   /status     what `blkcachectl --json status` prints
 *   /stats      what `blkcachectl --json stats` prints
 *   /history    the last five minutes, see history.h
 */
#ifndef DAEMON_WEB_H
#define DAEMON_WEB_H

#include <stddef.h>

#include "daemon/service.h"

struct web;

/* Listens at `address`, HOST:PORT or [HOST]:PORT, and serves.  Negative errno and a sentence. */
int web_begin(struct web **web, struct service *service, const char *address, char *why,
              size_t why_bytes);

/* Returns when no request is under way.  NULL: nothing. */
void web_end(struct web *web);

#endif
