/* SPDX-License-Identifier: Apache-2.0 */
/* Telling systemd how the daemon is; the protocol is in sd_notify(3), so its library is not needed.
 */
#include "daemon/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

int notify_watchdog_ms(void)
{
    const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    long long us = period != NULL ? atoll(period) : 0;

    if (us <= 0 || (pid != NULL && atoll(pid) != (long long)getpid()))
        return -1;
    us /= 2000;
    return us < 1 ? 1 : us > 3600000 ? 3600000 : (int)us;
}

void notify_reloading(void)
{
    char state[80];

    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns() / 1000u);
    notify_send(state);
}

void notify_send(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = path ? strlen(path) : 0;
    int fd;

    if (bytes == 0 || bytes >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, bytes);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)) < 0)
        log_warning("the service manager cannot be told", LOG_STR("state", state));
    close(fd);
}
