/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a block device open: the kernel says only whether it is claimed, /proc says the rest. */
#ifndef FRONTENDS_UBLK_OPENERS_H
#define FRONTENDS_UBLK_OPENERS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether /dev/ublkbN, or a partition of it, is mounted, is part of another device, or is open in a
 * process other than this one; `who` then says what was found.  A process that may not be looked
 * into counts as one that has it open.  When it is free, *claim is a descriptor that keeps others
 * from mounting it until it is closed, or -1 when there is no such device.
 */
bool ublk_openers_find(unsigned number, int *claim, char *who, size_t who_bytes);

/* Whether every process is seen here; in a container with a PID namespace of its own those outside
 * are not, unless they have the device mounted or claimed. */
bool ublk_openers_all_seen(void);

#endif
