/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD front end over volumes in memory, without engine, flash and backing store: for tests and
 * measurements of the front end alone.
 *
 *   nbd-memory-server [--cores N] [--delay US] [--buffers SIZE] [--timeout MS] [--connections N]
 *                     [--requests N] [--bytes SIZE] [--idle MS] [--send MS] [--receive MS]
 *                     [--tls on|require] [--certificates DIR] [--psk FILE] [--verify] ADDRESS...
 *
 * --delay answers each request from a timer, --buffers bounds the I/O buffers of each core; the
 * others are limits of the front end, --timeout, --idle, --send and --receive those in time,
 * --timeout that of the handshake.  Volumes: "memory" (64 MiB), "odd" (12345 bytes),
 * "read-only", "broken" (each request fails).  SIGTERM stops it; then it prints its counters.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/list.h"
#include "common/log.h"
#include "common/size.h"
#include "io/extents.h"
#include "io/request.h"
#include "io/volume.h"
#include "tests/system/nbd-serve.h"

#define VOLUMES      4u
#define MEMORY_BYTES (UINT64_C(64) << 20)
#define CORES_MAX    16u

static struct volume volumes[VOLUMES] = {
    {.name = "memory",
     .description = "bytes in memory",
     .bytes = MEMORY_BYTES,
     .nbd = true,
     .unnamed = true},
    {.name = "odd", .bytes = 12345, .nbd = true},
    {.name = "read-only", .bytes = MEMORY_BYTES, .nbd = true, .read_only = true},
    {.name = "broken", .bytes = MEMORY_BYTES, .nbd = true},
};
static unsigned char *memory[VOLUMES];
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER; /* two clients, one place */
static uint64_t delay_ns;

/* Requests that wait for their time, in the order in which it comes: a ring for each core. */
#define DELAYED_MAX 65536u

struct delayed {
    struct core_timer timer;
    unsigned first, count;
    struct {
        struct request *request;
        uint64_t due_ns;
    } entries[DELAYED_MAX];
};

static struct delayed *delayed[CORES_MAX];

/* ---- what io/ does otherwise -------------------------------------------------------------- */

unsigned volume_count(struct cache *cache)
{
    (void)cache;
    return VOLUMES;
}

struct volume *volume_at(struct cache *cache, unsigned index)
{
    return index < volume_count(cache) ? &volumes[index] : NULL;
}

static void carry_out(struct request *request)
{
    size_t index = (size_t)(request->volume - volumes);
    unsigned char *place = memory[index] + request->offset;

    request->error = strcmp(request->volume->name, "broken") == 0 ? -EIO : 0;
    request->error_offset = request->offset + request->length / 2;
    if ((request->flags & REQUEST_FAST) && request->length < BLOCK_BYTES)
        request->error = -EOPNOTSUPP;
    if (request->error == 0) {
        pthread_mutex_lock(&memory_lock);
        if (request->op == REQUEST_WRITE)
            memcpy(place, request->buffer->data + request->offset % BLOCK_BYTES, request->length);
        else if (request->op == REQUEST_ZERO || request->op == REQUEST_TRIM)
            memset(place, 0, request->length);
        pthread_mutex_unlock(&memory_lock);
    }
    request->done(request);
}

static void expired(struct core *core, struct core_timer *timer)
{
    struct delayed *own = container_of(timer, struct delayed, timer);

    while (own->count > 0) {
        unsigned first = own->first;

        if (own->entries[first].due_ns > core_now(core)) {
            core_timer_arm(core, timer, own->entries[first].due_ns);
            return;
        }
        own->first = (first + 1) % DELAYED_MAX;
        own->count--;
        carry_out(own->entries[first].request);
    }
}

void request_submit(struct request *request)
{
    struct delayed *own = delayed[core_index(request->core)];
    unsigned last = (own->first + own->count) % DELAYED_MAX;

    if (delay_ns == 0) {
        carry_out(request);
        return;
    }
    if (own->count == DELAYED_MAX)
        abort();
    own->entries[last].request = request;
    own->entries[last].due_ns = core_now(request->core) + delay_ns;
    if (own->count++ == 0)
        core_timer_arm(request->core, &own->timer, own->entries[last].due_ns);
}

/* In blocks, as frames of the RAM tier would be. */
unsigned request_payload(struct request *request, struct iovec *vectors, unsigned max)
{
    unsigned char *place = memory[request->volume - volumes] + request->offset;
    uint64_t offset = request->offset, left = request->length;
    unsigned count = 0;

    while (left > 0) {
        uint64_t here = BLOCK_BYTES - offset % BLOCK_BYTES;

        if (here > left)
            here = left;
        if (count == max)
            abort();
        vectors[count++] = (struct iovec){.iov_base = place, .iov_len = here};
        place += here;
        offset += here;
        left -= here;
    }
    return count;
}

/* What is zeros counts as a hole, every fourth block as dirty. */
static void gather(struct core *core, struct core_message *message)
{
    static const unsigned char zeros[BLOCK_BYTES];
    struct extents *extents = container_of(message, struct extents, message);
    const unsigned char *data = memory[extents->volume - volumes];
    uint64_t end = extents->offset + extents->length, here;
    unsigned max = extents->one ? 1 : EXTENTS_MAX;

    (void)core;
    extents->allocation = (struct extent_list){.extents = extents->lists[0], .max = max};
    extents->state = (struct extent_list){.extents = extents->lists[1], .max = max};
    for (uint64_t at = extents->offset; at < end; at += here) {
        here = BLOCK_BYTES - at % BLOCK_BYTES;
        here = here < end - at ? here : end - at;
        extent_list_add(&extents->allocation, here,
                        memcmp(data + at, zeros, here) == 0 ? EXTENT_HOLE | EXTENT_ZERO : 0);
        extent_list_add(&extents->state, here,
                        at / BLOCK_BYTES % 4 == 0 ? EXTENT_FLASH | EXTENT_DIRTY : EXTENT_RAM);
    }
    extents->done(extents);
}

void extents_start(struct extents *extents)
{
    extents->message.handle = gather;
    core_message_send(extents->core, &extents->message);
}

/* What is zeros is found by looking. */
unsigned request_runs(const struct request *request, struct request_run *runs, unsigned max)
{
    static const unsigned char zeros[BLOCK_BYTES];
    const unsigned char *data = memory[request->volume - volumes];
    uint64_t end = request->offset + request->length, here;
    unsigned count = 0;

    for (uint64_t at = request->offset; at < end; at += here) {
        bool is_zeros;

        here = BLOCK_BYTES - at % BLOCK_BYTES;
        here = here < end - at ? here : end - at;
        is_zeros = here == BLOCK_BYTES && memcmp(data + at, zeros, BLOCK_BYTES) == 0;
        if (count > 0 && runs[count - 1].zeros == is_zeros)
            runs[count - 1].bytes += here;
        else if (count == max)
            return 0;
        else
            runs[count++] = (struct request_run){here, is_zeros};
    }
    return count > 1 || runs[0].zeros ? count : 0;
}

/* ---- the program -------------------------------------------------------------------------- */

static int usage(void)
{
    fputs("Usage: nbd-memory-server [--cores N] [--delay US] [--buffers SIZE] [--timeout MS] "
          "[--connections N] [--requests N] [--bytes SIZE] [--idle MS] [--send MS] "
          "[--receive MS] [--tls on|require] [--certificates DIR] [--psk FILE] [--verify] "
          "ADDRESS...\n",
          stderr);
    return 2;
}

static int fail(const char *why)
{
    fprintf(stderr, "nbd-memory-server: %s\n", why);
    return 1;
}

static void print_counters(const struct nbd_server *server)
{
    struct nbd_counters sum;

    nbd_server_counters(server, &sum);
#define X(name, text) printf("%s %llu\n", #name, (unsigned long long)sum.name);
    NBD_COUNTERS(X)
#undef X
    fflush(stdout);
}

static uint64_t parse_ms(const char *text)
{
    return strtoull(text, NULL, 10) * 1000000;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"cores", required_argument, NULL, 'c'},
                                            {"delay", required_argument, NULL, 'd'},
                                            {"buffers", required_argument, NULL, 'b'},
                                            {"timeout", required_argument, NULL, 't'},
                                            {"connections", required_argument, NULL, 'n'},
                                            {"requests", required_argument, NULL, 'r'},
                                            {"bytes", required_argument, NULL, 'p'},
                                            {"idle", required_argument, NULL, 'i'},
                                            {"send", required_argument, NULL, 's'},
                                            {"receive", required_argument, NULL, 'e'},
                                            {"tls", required_argument, NULL, 'T'},
                                            {"certificates", required_argument, NULL, 'C'},
                                            {"psk", required_argument, NULL, 'K'},
                                            {"verify", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    struct cores_config cores = {.count = 1};
    struct nbd_server_config config = {.tls = {.certificates = "", .psk = ""}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c': cores.count = (unsigned)atoi(optarg); break;
        case 'd': delay_ns = strtoull(optarg, NULL, 10) * 1000; break;
        case 't': config.limits.handshake_timeout_ns = parse_ms(optarg); break;
        case 'i': config.limits.idle_timeout_ns = parse_ms(optarg); break;
        case 's': config.limits.send_timeout_ns = parse_ms(optarg); break;
        case 'e': config.limits.receive_timeout_ns = parse_ms(optarg); break;
        case 'n': config.limits.connections_max = (uint32_t)atoi(optarg); break;
        case 'r': config.limits.requests_max = (uint32_t)atoi(optarg); break;
        case 'T':
            config.tls.mode = strcmp(optarg, "require") == 0 ? NBD_TLS_REQUIRE : NBD_TLS_ON;
            break;
        case 'C': config.tls.certificates = optarg; break;
        case 'K': config.tls.psk = optarg; break;
        case 'V': config.tls.verify_clients = true; break;
        case 'b':
        case 'p':
            if (size_parse(optarg,
                           option == 'b' ? &cores.buffer_bytes : &config.limits.bytes_max) != 0)
                return usage();
            break;
        default: return usage();
        }
    }
    if (optind == argc || cores.count == 0 || cores.count > CORES_MAX)
        return usage();
    config.listen = (const char *const *)(argv + optind);
    config.listen_count = (unsigned)(argc - optind);
    log_init();
    for (unsigned i = 0; i < VOLUMES; i++) {
        memory[i] =
            mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory[i] == MAP_FAILED)
            return fail("no memory");
    }
    for (unsigned i = 0; i < cores.count; i++) {
        delayed[i] = calloc(1, sizeof(*delayed[i]));
        if (delayed[i] == NULL)
            return fail("no memory");
        delayed[i]->timer.expired = expired;
    }
    return nbd_serve(&cores, &config, print_counters);
}
