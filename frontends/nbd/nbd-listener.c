/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: Unix and TCP, and accepting from them. */
#include "frontends/nbd/nbd-listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/patience.h"
#include "frontends/nbd/nbd-server-private.h"

#define BACKLOG 128

/* To connect takes the right to write. */
#define UNIX_MODE 0660

/* Without descriptors or memory there is nothing to do but wait for other connections to end. */
#define ACCEPT_RETRY_NS UINT64_C(100000000)

/* A ring holds its sockets for a moment after its process has ended: one that was killed seems to
 * listen still. */
#define BUSY_WAIT_MS  5000u
#define BUSY_RETRY_MS 50u

#define PREFIX_UNIX   "unix:"
#define PREFIX_TCP    "tcp:"

static int fail(int error, char *why, size_t why_bytes, const char *name, const char *reason)
{
    snprintf(why, why_bytes, "cannot listen on \"%s\": %s", name, reason);
    return error;
}

/* NULL: no memory. */
static struct nbd_listener *create(const char *name)
{
    struct nbd_listener *listener = calloc(1, sizeof(*listener));

    if (listener == NULL)
        return NULL;
    listener->fd = -1;
    listener->name = name != NULL ? strdup(name) : NULL;
    if (name != NULL && listener->name == NULL) {
        free(listener);
        return NULL;
    }
    return listener;
}

/* ---- Unix ------------------------------------------------------------------------------- */

/* Whether the process that listened at the other end is no more: its ring keeps the socket, which
 * still takes connections. */
static bool owner_ended(int fd)
{
    struct ucred owner = {.pid = 0};
    socklen_t bytes = sizeof(owner);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &bytes) == 0 && owner.pid > 0 &&
           kill(owner.pid, 0) != 0 && errno == ESRCH;
}

/* The file at `address` belongs to a server that has gone: removes it.  Negative errno if not. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat status;
    int probe, error;

    if (lstat(address->sun_path, &status) != 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EEXIST;
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -errno;
    error = connect(probe, (const struct sockaddr *)address, sizeof(*address)) != 0 ? errno : 0;
    if (error == 0 && owner_ended(probe))
        error = ECONNREFUSED;
    close(probe);
    /* Only a refusal proves that nobody listens: EAGAIN, say, is a server with a full backlog. */
    if (error != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) != 0 ? -errno : 0;
}

static int bind_unix(int fd, const struct sockaddr_un *address)
{
    int error;

    /* The file gets the mode of the socket, less the umask: there is no moment in which others than
     * owner and group could connect. */
    if (fchmod(fd, UNIX_MODE) != 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
        if (errno != EADDRINUSE)
            return -errno;
        error = remove_stale(address);
        if (error)
            return error;
        if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
            return -errno;
    }
    return chmod(address->sun_path, UNIX_MODE) != 0 ? -errno : 0;
}

static int open_unix(struct nbd_listener *listener, const char *name, char *why, size_t why_bytes)
{
    const char *path = name + strlen(PREFIX_UNIX);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    struct patience patience = {.left_ms = BUSY_WAIT_MS, .step_ms = BUSY_RETRY_MS};
    int error;

    if (path[0] != '/')
        return fail(-EINVAL, why, why_bytes, name, "the path must begin with a slash");
    if (strlen(path) >= sizeof(address.sun_path))
        return fail(-ENAMETOOLONG, why, why_bytes, name,
                    "the path is too long; a Unix socket's has at most 107 bytes");
    memcpy(address.sun_path, path, strlen(path));
    memcpy(listener->path, path, strlen(path) + 1);
    snprintf(listener->address, sizeof(listener->address), "%s", name);

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener->fd < 0)
        return fail(-errno, why, why_bytes, name, strerror(errno));
    do
        error = bind_unix(listener->fd, &address);
    while (error == -EADDRINUSE && patience_wait(&patience));
    if (!error && listen(listener->fd, BACKLOG) != 0)
        error = -errno;
    if (error) {
        return fail(error, why, why_bytes, name,
                    error == -EADDRINUSE ? "another server listens there"
                    : error == -EEXIST   ? "there is a file that is not a socket; remove it or "
                                           "choose another path"
                                         : strerror(-error));
    }
    if (stat(path, &status) == 0) {
        listener->device = status.st_dev;
        listener->inode = status.st_ino;
    }
    return 0;
}

/* ---- TCP -------------------------------------------------------------------------------- */

/* Splits "host:port" or "[host]:port" at the last colon; the brackets of IPv6 go.  False: no. */
static bool split(const char *text, char *host, size_t host_bytes, const char **port)
{
    const char *colon = strrchr(text, ':');
    size_t bytes;

    if (colon == NULL || colon[1] == '\0')
        return false;
    bytes = (size_t)(colon - text);
    if (bytes >= 2 && text[0] == '[' && text[bytes - 1] == ']') {
        text++;
        bytes -= 2;
    } else if (memchr(text, ':', bytes) != NULL) {
        return false; /* a bare IPv6 address: where the port begins is anyone's guess */
    }
    if (bytes >= host_bytes)
        return false;
    memcpy(host, text, bytes);
    host[bytes] = '\0';
    if (strcmp(host, "*") == 0)
        host[0] = '\0';
    *port = colon + 1;
    return true;
}

/* Writes the address that the socket got: the port may have been 0. */
static void describe(struct nbd_listener *listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    } address = {.any.sa_family = AF_UNSPEC};
    socklen_t bytes = sizeof(address);
    char host[64] = "?", port[16] = "?";

    if (getsockname(listener->fd, &address.any, &bytes) == 0 && address.any.sa_family == AF_UNIX) {
        snprintf(listener->address, sizeof(listener->address), PREFIX_UNIX "%s",
                 address.local.sun_path);
        return;
    }
    if (bytes <= sizeof(address))
        getnameinfo(&address.any, bytes, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(listener->address, sizeof(listener->address),
             strchr(host, ':') != NULL ? PREFIX_TCP "[%s]:%s" : PREFIX_TCP "%s:%s", host, port);
}

static int open_address(struct nbd_listener *listener, const struct addrinfo *address)
{
    int one = 1, error;

    listener->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, address->ai_protocol);
    if (listener->fd < 0)
        return -errno;
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* An IPv4 client belongs to the IPv4 socket, which is there as well. */
    if (address->ai_family == AF_INET6)
        setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(listener->fd, address->ai_addr, address->ai_addrlen) != 0 ||
        listen(listener->fd, BACKLOG) != 0) {
        error = -errno;
        close(listener->fd);
        listener->fd = -1;
        return error;
    }
    describe(listener);
    return 0;
}

static int open_tcp(struct nbd_listener **listeners, unsigned max, const char *name, char *why,
                    size_t why_bytes)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *found;
    const char *port;
    char host[256];
    struct patience patience = {.left_ms = BUSY_WAIT_MS, .step_ms = BUSY_RETRY_MS};
    unsigned count = 0;
    int error, failure = 0;

    if (!split(name + strlen(PREFIX_TCP), host, sizeof(host), &port))
        return fail(-EINVAL, why, why_bytes, name, "it is not tcp:HOST:PORT or tcp:[IPV6]:PORT");
    error = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found);
    if (error != 0)
        return fail(-EINVAL, why, why_bytes, name, gai_strerror(error));
    for (struct addrinfo *address = found; address != NULL && count < max;
         address = address->ai_next) {
        listeners[count] = create(name);
        if (listeners[count] == NULL) {
            failure = -ENOMEM;
            break;
        }
        do
            error = open_address(listeners[count], address);
        while (error == -EADDRINUSE && patience_wait(&patience));
        if (!error)
            count++;
        else
            nbd_listener_close(listeners[count]);
        if (!error)
            continue;
        /* A machine may be without IPv6, or without the interface, and that is fine as long as
         * one address works. */
        if (failure == 0 || (error != -EADDRNOTAVAIL && error != -EAFNOSUPPORT))
            failure = error;
    }
    freeaddrinfo(found);
    if (count > 0 && (failure == 0 || failure == -EADDRNOTAVAIL || failure == -EAFNOSUPPORT))
        return (int)count;
    while (count > 0)
        nbd_listener_close(listeners[--count]);
    if (failure == 0)
        return fail(-ENOSPC, why, why_bytes, name, "there are too many addresses to listen on");
    return fail(failure, why, why_bytes, name, strerror(-failure));
}

/* ---- life ------------------------------------------------------------------------------- */

int nbd_listener_open(struct nbd_listener **listeners, unsigned max, const char *name, char *why,
                      size_t why_bytes)
{
    int error;

    if (max == 0)
        return fail(-ENOSPC, why, why_bytes, name, "there are too many addresses to listen on");
    if (strncmp(name, PREFIX_UNIX, strlen(PREFIX_UNIX)) == 0) {
        listeners[0] = create(name);
        error = listeners[0] == NULL ? fail(-ENOMEM, why, why_bytes, name, "out of memory")
                                     : open_unix(listeners[0], name, why, why_bytes);
        if (error && listeners[0] != NULL)
            nbd_listener_close(listeners[0]);
        return error ? error : 1;
    }
    if (strncmp(name, PREFIX_TCP, strlen(PREFIX_TCP)) == 0)
        return open_tcp(listeners, max, name, why, why_bytes);
    return fail(-EINVAL, why, why_bytes, name, "it must begin with unix: or tcp:");
}

int nbd_listener_adopt(struct nbd_listener **listener, unsigned max, int fd, char *why,
                       size_t why_bytes)
{
    char name[32];
    int value = 0;
    socklen_t bytes = sizeof(value);

    snprintf(name, sizeof(name), "descriptor %d", fd);
    if (max == 0)
        return fail(-ENOSPC, why, why_bytes, name, "there are too many addresses to listen on");
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &bytes) != 0 || value == 0)
        return fail(-ENOTSOCK, why, why_bytes, name, "it is no socket that listens");
    bytes = sizeof(value);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &bytes) != 0 || value != SOCK_STREAM)
        return fail(-EPROTOTYPE, why, why_bytes, name, "it is no stream socket");
    /* With O_NONBLOCK the ring would not wait for clients. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0)
        return fail(-errno, why, why_bytes, name, strerror(errno));
    *listener = create(NULL);
    if (*listener == NULL)
        return fail(-ENOMEM, why, why_bytes, name, "out of memory");
    (*listener)->fd = fd;
    describe(*listener);
    return 0;
}

void nbd_listener_close(struct nbd_listener *listener)
{
    struct stat status;

    if (listener->fd >= 0)
        close(listener->fd);
    if (listener->inode != 0 && listener->path[0] != '\0' && lstat(listener->path, &status) == 0 &&
        status.st_dev == listener->device && status.st_ino == listener->inode)
        unlink(listener->path);
    free(listener->name);
    free(listener);
}

/* ---- accepting -------------------------------------------------------------------------- */

static void arm(struct nbd_listener *listener, struct core *core)
{
    struct io_uring_sqe *sqe = core_sqe(core);

    io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    core_sqe_to(sqe, &listener->accept);
    listener->accepting = true;
}

static void accepted(struct core *core, struct core_op *op, int32_t result, uint32_t cqe_flags)
{
    struct nbd_listener *listener = container_of(op, struct nbd_listener, accept);

    if (result >= 0) {
        listener->failing = false;
        nbd_server_accepted(listener->server, result);
    }
    if ((cqe_flags & IORING_CQE_F_MORE) != 0)
        return;
    listener->accepting = false;
    if (listener->closing) {
        nbd_server_listener_ended(listener);
    } else if (result >= 0 || result == -ECONNABORTED || result == -EINTR) {
        arm(listener, core);
    } else {
        if (!listener->failing)
            log_warning("cannot accept NBD clients for the moment",
                        LOG_STR("address", listener->address), LOG_ERRNO(result));
        listener->failing = true;
        core_timer_arm(core, &listener->retry, core_now(core) + ACCEPT_RETRY_NS);
    }
}

static void retry(struct core *core, struct core_timer *timer)
{
    arm(container_of(timer, struct nbd_listener, retry), core);
}

void nbd_listener_start(struct nbd_listener *listener, struct core *core, struct nbd_server *server)
{
    listener->server = server;
    listener->accept.done = accepted;
    listener->retry.expired = retry;
    nbd_server_hold(server);
    arm(listener, core);
    log_notice("listening for NBD clients", LOG_STR("address", listener->address));
}

void nbd_listener_stop(struct nbd_listener *listener, struct core *core)
{
    listener->closing = true;
    if (listener->accepting) {
        core_cancel(core, &listener->accept);
    } else {
        core_timer_disarm(core, &listener->retry);
        nbd_server_listener_ended(listener);
    }
}
