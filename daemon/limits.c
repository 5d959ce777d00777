/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process. */
#include "daemon/limits.h"

#include <errno.h>
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
}

void limits_serve_kernel(void)
{
    struct rlimit limit;

    /* Allocations of this process, and of the threads that it starts, never wait for I/O of file
     * systems and swap, which might be on a device of ours. */
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
        log_warning("the kernel does not treat this process as one that writes for it (needs "
                    "CAP_SYS_RESOURCE): under memory pressure a ublk device may hang",
                    LOG_ERRNO(errno));
    /* With a smaller limit, later allocations would fail. */
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY ||
        mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        log_warning("memory is not locked: under memory pressure a ublk device may hang; raise "
                    "RLIMIT_MEMLOCK to unlimited (LimitMEMLOCK=infinity)");
}
