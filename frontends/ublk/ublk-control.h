/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands to the kernel's ublk driver: one at a time, each waited for.
 *
 * A command may take long, because the kernel does I/O on the device while it is carried out: never
 * call these on a core.  One control is used by one thread at a time; each device has its own, so
 * that none waits for another's.
 */
#ifndef FRONTENDS_UBLK_CONTROL_H
#define FRONTENDS_UBLK_CONTROL_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontends/ublk/ublk-uapi.h"

struct ublk_control {
    int fd;
    struct io_uring ring;
    bool encoded;      /* opcodes: see ublk_command_opcode */
    uint64_t features; /* enum ublk_flag; what the kernel tells, or what 6.1 has */
};

/* Negative errno, and `why` a sentence that says what to do: -ENOENT the module is not loaded, -EPERM
 * no privilege, -EOPNOTSUPP the kernel is too old. */
int ublk_control_open(struct ublk_control *control, char *why, size_t why_bytes);
void ublk_control_close(struct ublk_control *control);

/* 0 or a negative errno of the kernel.  -ENODEV: no such device. */
int ublk_control_info(struct ublk_control *control, unsigned number, struct ublk_info *info);
int ublk_control_add(struct ublk_control *control, struct ublk_info *info); /* -EEXIST */
int ublk_control_set_params(struct ublk_control *control, unsigned number,
                            const struct ublk_params *params);
int ublk_control_get_params(struct ublk_control *control, unsigned number,
                            struct ublk_params *params);
int ublk_control_set_size(struct ublk_control *control, unsigned number, uint64_t sectors);

/* Waits for all FETCH commands of all queues, makes /dev/ublkbN and reads its partition table. */
int ublk_control_start(struct ublk_control *control, unsigned number);

/* Takes /dev/ublkbN away: waits for the requests under way, fails what comes after them, then ends
 * all FETCH commands with UBLK_IO_ABORT. */
int ublk_control_stop(struct ublk_control *control, unsigned number);

/* -ETIME: the kernel will do it when the last one who has the device open closes it. */
int ublk_control_delete(struct ublk_control *control, unsigned number);

/* -EBUSY: the old server is not quite gone. */
int ublk_control_begin_recovery(struct ublk_control *control, unsigned number);

/* Waits for all FETCH commands; requests flow again, those that were under way are repeated. */
int ublk_control_end_recovery(struct ublk_control *control, unsigned number);

#endif
