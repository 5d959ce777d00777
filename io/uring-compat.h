/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants of the kernel that are newer than the headers that may be installed (Debian 12:
 * liburing 2.3, kernel headers 6.1).  Having a name says nothing about the kernel that runs:
 * everything here is probed or falls back.  Source: include/uapi/linux/io_uring.h, stat.h.
 */
#ifndef IO_URING_COMPAT_H
#define IO_URING_COMPAT_H

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/stat.h>

#ifndef IORING_SETUP_SUBMIT_ALL
#    define IORING_SETUP_SUBMIT_ALL (1U << 7) /* 5.18 */
#endif
#ifndef IORING_SETUP_COOP_TASKRUN
#    define IORING_SETUP_COOP_TASKRUN (1U << 8) /* 5.19 */
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#    define IORING_SETUP_SINGLE_ISSUER (1U << 12) /* 6.0 */
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#    define IORING_SETUP_DEFER_TASKRUN (1U << 13) /* 6.1 */
#endif

#ifndef RWF_DSYNC
#    define RWF_DSYNC 0x00000002
#endif

#ifndef STATX_DIOALIGN
#    define STATX_DIOALIGN 0x00002000U /* 6.1 */
#endif

#endif
