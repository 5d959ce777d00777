/* SPDX-License-Identifier: Apache-2.0 */
/* The service's figures as OpenMetrics text (OpenMetrics 1.0.0). */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <stddef.h>

#include "daemon/service.h"

#define METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* The whole exposition, for free(); NULL when there is no memory. */
char *metrics_text(struct service *service, size_t *bytes);

#endif
