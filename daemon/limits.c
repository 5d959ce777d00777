/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process. */
#include "daemon/limits.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/log.h"

#ifndef PR_SET_IO_FLUSHER
#    define PR_SET_IO_FLUSHER 57 /* 5.6 */
#endif

/* Registered buffers are locked memory; less than this is not worth registering. */
#define MEMLOCK_WANTED (UINT64_C(64) << 20)
#define NOFILE_WANTED  4096u

/* Locked memory includes all of each thread's stack. */
#define STACK_BYTES (1u << 20)

static int flusher_error; /* errno: why the kernel does not treat us as an I/O flusher */

/* Up to the hard limit, and beyond it where the process may. */
static rlim_t raise_one(int resource, rlim_t wanted)
{
    struct rlimit limit, more = {wanted, wanted};

    if (getrlimit(resource, &limit) != 0)
        return 0;
    if (limit.rlim_cur == RLIM_INFINITY || setrlimit(resource, &more) == 0)
        return wanted;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(resource, &limit) != 0 && getrlimit(resource, &limit) != 0)
        return 0;
    return limit.rlim_cur;
}

static void limit_stacks(void)
{
    pthread_attr_t attributes;
    size_t bytes;

    if (pthread_getattr_default_np(&attributes) != 0)
        return;
    if (pthread_attr_getstacksize(&attributes, &bytes) == 0 && bytes > STACK_BYTES &&
        pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

void limits_raise(void)
{
    rlim_t memlock = raise_one(RLIMIT_MEMLOCK, RLIM_INFINITY);
    rlim_t files = raise_one(RLIMIT_NOFILE, 65536);

    if (memlock != RLIM_INFINITY && memlock < MEMLOCK_WANTED)
        log_warning("the limit of locked memory is too small for registered buffers, so each "
                    "request costs more: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)",
                    LOG_UINT("bytes", memlock));
    if (files < NOFILE_WANTED)
        log_warning("few files may be open, so few clients can connect: raise RLIMIT_NOFILE "
                    "(ulimit -n, LimitNOFILE=)",
                    LOG_UINT("files", files));
    limit_stacks();
    /* Allocations of this process, and of the threads that it starts from now on, never wait for
     * I/O of file systems and swap, which might be on a device of ours: one that is there from the
     * start, one that comes later, or one of the kernel's NBD client. */
    flusher_error = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0 ? errno : 0;
}

void limits_serve_kernel(void)
{
    struct rlimit limit;

    if (flusher_error != 0)
        log_warning("the kernel does not treat this process as one that writes for it (needs "
                    "CAP_SYS_RESOURCE): under memory pressure a ublk device may hang",
                    LOG_ERRNO(flusher_error));
    /* With a smaller limit, later allocations would fail. */
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY ||
        mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        log_warning("memory is not locked: under memory pressure a ublk device may hang; raise "
                    "RLIMIT_MEMLOCK to unlimited (LimitMEMLOCK=infinity)");
}
