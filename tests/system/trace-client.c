/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD client that sends the requests of a block trace, one at a time.
 *
 *     trace-client [--writes] [--gap MICROSECONDS] URI TRACE
 *
 * Writes are left out unless asked for; what they write is zeros. After each request comes a gap, if
 * one is given. Prints how many requests there were, and how long they took, as key=value.
 */
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "replay/trace.h"

#define DATA_BYTES (32u << 20)
#define WHY_BYTES  400u

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "trace-client: %s: %s\n", what, why);
    exit(1);
}

static void wait_us(uint64_t gap_us)
{
    struct timespec gap = {.tv_sec = (time_t)(gap_us / 1000000),
                           .tv_nsec = (long)(gap_us % 1000000 * 1000)};

    if (gap_us > 0)
        nanosleep(&gap, NULL);
}

static void carry_out(struct nbd_handle *nbd, const struct trace_request *request)
{
    static unsigned char data[DATA_BYTES];

    if (request->length > sizeof(data))
        die("trace", "a request of more than 32 MiB");
    if (request->is_write ? nbd_pwrite(nbd, data, request->length, request->offset, 0) < 0
                          : nbd_pread(nbd, data, request->length, request->offset, 0) < 0)
        die(request->is_write ? "write" : "read", nbd_get_error());
}

int main(int argc, char **argv)
{
    uint64_t begin_ns, gap_us = 0, reads = 0, writes = 0;
    struct trace_request request;
    struct trace *trace;
    struct nbd_handle *nbd = nbd_create();
    char why[WHY_BYTES] = "";
    bool with_writes = false;
    int at = 1, got;

    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--writes") == 0)
            with_writes = true;
        else if (strcmp(argv[at], "--gap") == 0 && at + 1 < argc)
            gap_us = strtoull(argv[++at], NULL, 0);
        else
            argc = 0;
    }
    if (argc - at != 2) {
        fprintf(stderr, "usage: trace-client [--writes] [--gap MICROSECONDS] URI TRACE\n");
        return 2;
    }
    if (nbd == NULL || nbd_connect_uri(nbd, argv[at]) < 0)
        die(argv[at], nbd_get_error());
    nbd_set_strict_mode(nbd, LIBNBD_STRICT_COMMANDS | LIBNBD_STRICT_FLAGS | LIBNBD_STRICT_BOUNDS);
    trace = trace_open(argv[at + 1], why, sizeof(why));
    if (trace == NULL)
        die(argv[at + 1], why);
    begin_ns = clock_ns();
    while ((got = trace_next(trace, &request)) > 0) {
        if (request.is_write && !with_writes)
            continue;
        carry_out(nbd, &request);
        wait_us(gap_us);
        reads += !request.is_write;
        writes += request.is_write;
    }
    if (got < 0)
        die(argv[at + 1], trace_why(trace));
    printf("reads=%" PRIu64 " writes=%" PRIu64 " seconds=%.2f\n", reads, writes,
           (double)(clock_ns() - begin_ns) / 1e9);
    trace_close(trace);
    nbd_shutdown(nbd, 0);
    nbd_close(nbd);
    return 0;
}
