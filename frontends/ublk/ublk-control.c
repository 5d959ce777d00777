/* SPDX-License-Identifier: Apache-2.0 */
/* Commands to the kernel's ublk driver. */
#include "frontends/ublk/ublk-control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef IORING_SETUP_SQE128
#    define IORING_SETUP_SQE128 (1U << 10) /* 5.19 */
#endif

#define ENTRIES         4u
#define DELETE_SECONDS  5
#define NO_LIMIT        0
#define FEATURES_OF_6_1 (UBLK_FLAG_USER_RECOVERY | UBLK_FLAG_USER_RECOVERY_REISSUE)

enum who {
    WHO_COMMAND = 1,
    WHO_CANCEL = 2
};

/* An empty entry of 128 bytes; two at most are ever queued. */
static struct io_uring_sqe *entry(struct ublk_control *control)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&control->ring);

    assert(sqe != NULL);
    memset(sqe, 0, 2 * sizeof(*sqe));
    return sqe;
}

/* ---- one command ---------------------------------------------------------------------------- */

static void prepare(struct ublk_control *control, uint32_t opcode,
                    const struct ublk_control_command *command)
{
    struct io_uring_sqe *sqe = entry(control);

    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = control->fd;
    sqe->cmd_op = opcode;
    memcpy(sqe->cmd, command, sizeof(*command));
    io_uring_sqe_set_data64(sqe, WHO_COMMAND);
}

static void prepare_cancel(struct ublk_control *control)
{
    struct io_uring_sqe *sqe = entry(control);

    io_uring_prep_cancel64(sqe, WHO_COMMAND, 0);
    io_uring_sqe_set_data64(sqe, WHO_CANCEL);
}

/* The result of the command; with a limit, -ETIME when it took longer and was given up. */
static int wait_for(struct ublk_control *control, int seconds)
{
    struct __kernel_timespec limit = {.tv_sec = seconds};
    bool cancelled = false;

    for (;;) {
        struct io_uring_cqe *cqe = NULL;
        int error = io_uring_wait_cqe_timeout(&control->ring, &cqe,
                                              seconds > 0 && !cancelled ? &limit : NULL);

        if (error == -ETIME) {
            prepare_cancel(control);
            io_uring_submit(&control->ring);
            cancelled = true;
        } else if (error == 0) {
            uint64_t who = io_uring_cqe_get_data64(cqe);
            int result = cqe->res;

            io_uring_cqe_seen(&control->ring, cqe);
            if (who == WHO_COMMAND)
                return cancelled && result < 0 ? -ETIME : result;
        } else if (error != -EINTR && error != -EAGAIN) {
            return error;
        }
    }
}

static int carry_out(struct ublk_control *control, enum ublk_command number,
                     const struct ublk_control_command *command, int seconds)
{
    int submitted;

    prepare(control, ublk_command_opcode(number, control->encoded), command);
    do
        submitted = io_uring_submit(&control->ring);
    while (submitted == -EINTR || submitted == -EAGAIN);
    return submitted < 0 ? submitted : wait_for(control, seconds);
}

static int simple(struct ublk_control *control, enum ublk_command number, unsigned device,
                  uint64_t data, int seconds)
{
    struct ublk_control_command command = {.number = device, .queue = UINT16_MAX, .data = data};
    int result = carry_out(control, number, &command, seconds);

    return result < 0 ? result : 0;
}

static int with_memory(struct ublk_control *control, enum ublk_command number, unsigned device,
                       void *memory, size_t bytes)
{
    struct ublk_control_command command = {
        .number = device,
        .queue = UINT16_MAX,
        .bytes = (uint16_t)bytes,
        .address = (uint64_t)(uintptr_t)memory,
    };
    int result = carry_out(control, number, &command, NO_LIMIT);

    return result < 0 ? result : 0;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int explain(int error, char *why, size_t why_bytes)
{
    switch (-error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        snprintf(why, why_bytes,
                 "there is no " UBLK_CONTROL_PATH ": the kernel's module ublk_drv is not loaded; "
                 "run: modprobe ublk_drv (at each boot: echo ublk_drv "
                 ">/etc/modules-load.d/ublk.conf)");
        return -ENOENT;
    case EPERM:
    case EACCES:
        snprintf(why, why_bytes,
                 UBLK_CONTROL_PATH ": no privilege; ublk devices need root, or CAP_SYS_ADMIN");
        return -EPERM;
    default:
        snprintf(why, why_bytes,
                 UBLK_CONTROL_PATH ": %s; ublk devices need Linux 6.1 or later, with io_uring "
                                   "allowed",
                 strerror(-error));
        return error;
    }
}

/* Which way to write opcodes, and what the driver can do.  A kernel without the command refuses it;
 * one that knows no encoded opcode has the plain ones. */
static int probe(struct ublk_control *control)
{
    uint64_t features = 0;
    struct ublk_info info;
    int error;

    control->encoded = true;
    error = with_memory(control, UBLK_COMMAND_GET_FEATURES, 0, &features, sizeof(features));
    if (!error) {
        control->features = features;
        return 0;
    }
    control->encoded = false;
    control->features = FEATURES_OF_6_1;
    error = ublk_control_info(control, 0, &info);
    return error == -ENODEV || error == 0 ? 0 : error;
}

int ublk_control_open(struct ublk_control *control, char *why, size_t why_bytes)
{
    int error;

    control->fd = open(UBLK_CONTROL_PATH, O_RDWR | O_CLOEXEC);
    if (control->fd < 0)
        return explain(-errno, why, why_bytes);
    error = io_uring_queue_init(ENTRIES, &control->ring, IORING_SETUP_SQE128);
    if (error) {
        close(control->fd);
        control->fd = -1;
        return explain(error, why, why_bytes);
    }
    error = probe(control);
    if (!error && (control->features & FEATURES_OF_6_1) != FEATURES_OF_6_1)
        error = -EOPNOTSUPP;
    if (error) {
        ublk_control_close(control);
        return explain(error, why, why_bytes);
    }
    return 0;
}

void ublk_control_close(struct ublk_control *control)
{
    if (control->fd < 0)
        return;
    io_uring_queue_exit(&control->ring);
    close(control->fd);
    control->fd = -1;
}

/* ---- the commands --------------------------------------------------------------------------- */

int ublk_control_info(struct ublk_control *control, unsigned number, struct ublk_info *info)
{
    memset(info, 0, sizeof(*info));
    return with_memory(control, UBLK_COMMAND_GET_DEV_INFO, number, info, sizeof(*info));
}

int ublk_control_add(struct ublk_control *control, struct ublk_info *info)
{
    return with_memory(control, UBLK_COMMAND_ADD_DEV, info->number, info, sizeof(*info));
}

int ublk_control_set_params(struct ublk_control *control, unsigned number,
                            const struct ublk_params *params)
{
    struct ublk_params copy = *params;

    copy.bytes = sizeof(copy);
    return with_memory(control, UBLK_COMMAND_SET_PARAMS, number, &copy, sizeof(copy));
}

int ublk_control_get_params(struct ublk_control *control, unsigned number,
                            struct ublk_params *params)
{
    memset(params, 0, sizeof(*params));
    params->bytes = sizeof(*params);
    return with_memory(control, UBLK_COMMAND_GET_PARAMS, number, params, sizeof(*params));
}

int ublk_control_set_size(struct ublk_control *control, unsigned number, uint64_t sectors)
{
    if (!(control->features & UBLK_FLAG_UPDATE_SIZE))
        return -EOPNOTSUPP;
    return simple(control, UBLK_COMMAND_UPDATE_SIZE, number, sectors, NO_LIMIT);
}

int ublk_control_start(struct ublk_control *control, unsigned number)
{
    return simple(control, UBLK_COMMAND_START_DEV, number, (uint64_t)getpid(), NO_LIMIT);
}

int ublk_control_stop(struct ublk_control *control, unsigned number)
{
    return simple(control, UBLK_COMMAND_STOP_DEV, number, 0, NO_LIMIT);
}

int ublk_control_delete(struct ublk_control *control, unsigned number)
{
    return simple(control, UBLK_COMMAND_DEL_DEV, number, 0, DELETE_SECONDS);
}

int ublk_control_begin_recovery(struct ublk_control *control, unsigned number)
{
    return simple(control, UBLK_COMMAND_START_USER_RECOVERY, number, 0, NO_LIMIT);
}

int ublk_control_end_recovery(struct ublk_control *control, unsigned number)
{
    return simple(control, UBLK_COMMAND_END_USER_RECOVERY, number, (uint64_t)getpid(), NO_LIMIT);
}
