/* SPDX-License-Identifier: Apache-2.0 */
/* Set-up of one io_uring. */
#include "io/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/log.h"

/* Completions that may wait for us: several times what may be submitted at once, so that the
 * kernel's overflow list is the exception. */
#define COMPLETIONS_PER_ENTRY 4u

static void explain(int error, char *why, size_t why_bytes)
{
    switch (-error) {
    case ENOSYS:
        snprintf(why, why_bytes, "this kernel has no io_uring; Linux 6.1 or later is needed");
        break;
    case EPERM:
        snprintf(why, why_bytes,
                 "io_uring is forbidden here; set the sysctl kernel.io_uring_disabled to 0, or "
                 "allow io_uring in the container's seccomp profile");
        break;
    case ENOMEM:
        snprintf(why, why_bytes,
                 "no memory for an io_uring; raise the limit of locked memory "
                 "(LimitMEMLOCK= of the service, ulimit -l)");
        break;
    default: snprintf(why, why_bytes, "cannot make an io_uring: %s", strerror(-error));
    }
}

int ring_open(struct io_uring *ring, unsigned entries, struct ring_traits *traits, char *why,
              size_t why_bytes)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_SUBMIT_ALL,
        0,
    };
    int error = -EINVAL;

    memset(traits, 0, sizeof(*traits));
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && error == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries * COMPLETIONS_PER_ENTRY,
        };

        error = io_uring_queue_init_params(entries, ring, &params);
        traits->single_issuer = (flags[i] & IORING_SETUP_SINGLE_ISSUER) != 0;
        traits->defer_taskrun = (flags[i] & IORING_SETUP_DEFER_TASKRUN) != 0;
    }
    if (error) {
        explain(error, why, why_bytes);
        return error;
    }
    traits->ring_fd_registered = io_uring_register_ring_fd(ring) == 1;
    return 0;
}

void ring_close(struct io_uring *ring)
{
    io_uring_queue_exit(ring);
}

void ring_register_files(struct io_uring *ring, struct ring_traits *traits, const int *files,
                         unsigned count, unsigned slots)
{
    int *table;
    int error;

    /* The kernel holds the table against the limit of open files. */
    table = malloc(slots * sizeof(*table));
    if (table == NULL)
        return;
    for (unsigned i = 0; i < slots; i++)
        table[i] = i < count ? files[i] : -1;
    error = io_uring_register_files(ring, table, slots);
    free(table);
    if (error < 0) {
        log_info("files are not registered with io_uring: raise the limit of open files",
                 LOG_ERRNO(error));
        return;
    }
    traits->files_registered = true;
}

void ring_register_buffers(struct io_uring *ring, struct ring_traits *traits, void *memory,
                           size_t bytes, unsigned slots)
{
    static atomic_bool told;
    struct iovec first = {memory, bytes};
    __u64 tag = 0;
    struct rlimit limit = {0};
    int error = io_uring_register_buffers_sparse(ring, slots);

    if (error == 0) {
        int filled = io_uring_register_buffers_update_tag(ring, 0, &first, &tag, 1);

        error = filled < 0 ? filled : filled == 0 ? -EFAULT : 0;
        if (error)
            io_uring_unregister_buffers(ring);
    }
    if (error == 0) {
        traits->buffers_registered = true;
        return;
    }
    if (atomic_exchange(&told, true))
        return;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (error == -ENOMEM)
        log_warning("I/O buffers are not registered, which costs some speed: the limit of locked "
                    "memory is too small (LimitMEMLOCK= of the service, ulimit -l)",
                    LOG_UINT("limit_bytes", limit.rlim_cur), LOG_UINT("bytes_per_core", bytes));
    else
        log_warning("I/O buffers are not registered, which costs some speed", LOG_ERRNO(error));
}

bool ring_set_buffer(struct io_uring *ring, const struct ring_traits *traits, unsigned slot,
                     void *memory, size_t bytes)
{
    struct iovec region = {memory, bytes};
    __u64 tag = 0;

    return traits->buffers_registered &&
           io_uring_register_buffers_update_tag(ring, slot, &region, &tag, 1) == 1;
}
