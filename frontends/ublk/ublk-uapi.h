/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's interface of ublk, as much of it as is used here, up to Linux 6.16: build headers may
 * be older.  Having a name says nothing about the kernel that runs: what is newer than 6.1 is
 * probed.  Source: include/uapi/linux/ublk_cmd.h, Documentation/block/ublk.rst.
 */
#ifndef FRONTENDS_UBLK_UAPI_H
#define FRONTENDS_UBLK_UAPI_H

#include <assert.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define UBLK_CONTROL_PATH "/dev/ublk-control"

/* ---- control commands: uring_cmd in 128-byte entries on the control device ----------------- */

enum ublk_command {
    UBLK_COMMAND_GET_DEV_INFO = 0x02,
    UBLK_COMMAND_ADD_DEV = 0x04,
    UBLK_COMMAND_DEL_DEV = 0x05,
    UBLK_COMMAND_START_DEV = 0x06,
    UBLK_COMMAND_STOP_DEV = 0x07,
    UBLK_COMMAND_SET_PARAMS = 0x08,
    UBLK_COMMAND_GET_PARAMS = 0x09,
    UBLK_COMMAND_START_USER_RECOVERY = 0x10,
    UBLK_COMMAND_END_USER_RECOVERY = 0x11,
    UBLK_COMMAND_GET_FEATURES = 0x13, /* 6.5; only encoded */
    UBLK_COMMAND_UPDATE_SIZE = 0x15,  /* 6.16; only encoded */
};

struct ublk_control_command {
    uint32_t number;
    uint16_t queue; /* UINT16_MAX: for none */
    uint16_t bytes; /* at `address` */
    uint64_t address;
    uint64_t data;
    uint16_t path_bytes, pad;
    uint32_t reserved;
};
static_assert(sizeof(struct ublk_control_command) == 32, "ublksrv_ctrl_cmd is 32 bytes");

/* ---- a device ------------------------------------------------------------------------------ */

enum ublk_flag {
    UBLK_FLAG_USER_RECOVERY = 1 << 3,
    UBLK_FLAG_USER_RECOVERY_REISSUE = 1 << 4,
    UBLK_FLAG_CMD_IOCTL_ENCODE = 1 << 6, /* 6.4 */
    UBLK_FLAG_UPDATE_SIZE = 1 << 10,     /* 6.16 */
};

enum ublk_state {
    UBLK_STATE_DEAD = 0, /* added and never started, or stopped */
    UBLK_STATE_LIVE = 1,
    UBLK_STATE_QUIESCED = 2, /* its server is gone, its requests wait for another one */
};

struct ublk_info {
    uint16_t queues, depth;
    uint16_t state; /* enum ublk_state */
    uint16_t pad0;
    uint32_t io_bytes_max;
    uint32_t number;
    int32_t pid; /* of the server, as it says */
    uint32_t pad1;
    uint64_t flags;
    uint64_t server_flags; /* ours: the kernel keeps them and does not look at them */
    uint32_t owner_uid, owner_gid;
    uint64_t reserved[2];
};
static_assert(sizeof(struct ublk_info) == 64, "ublksrv_ctrl_dev_info is 64 bytes");

enum ublk_attribute {
    UBLK_ATTRIBUTE_READ_ONLY = 1 << 0,
    UBLK_ATTRIBUTE_ROTATIONAL = 1 << 1,
    UBLK_ATTRIBUTE_VOLATILE_CACHE = 1 << 2,
    UBLK_ATTRIBUTE_FUA = 1 << 3,
};

enum ublk_params_type {
    UBLK_PARAMS_BASIC = 1 << 0,
    UBLK_PARAMS_DISCARD = 1 << 1,
};

struct ublk_params {
    uint32_t bytes;
    uint32_t types; /* enum ublk_params_type */
    struct {
        uint32_t attributes;
        uint8_t logical_block_shift, physical_block_shift, io_optimal_shift, io_minimal_shift;
        uint32_t max_sectors;
        uint32_t chunk_sectors;
        uint64_t sectors;
        uint64_t virtual_boundary_mask;
    } basic;
    struct {
        uint32_t alignment, granularity; /* bytes */
        uint32_t max_discard_sectors;
        uint32_t max_write_zeroes_sectors;
        uint16_t max_discard_segments;
        uint16_t reserved;
    } discard;
    uint32_t pad;
};
static_assert(sizeof(struct ublk_params) == 64, "the first two groups of ublk_params");

/* ---- requests: uring_cmd on the device's character device ----------------------------------- */

enum ublk_io_number {
    UBLK_IO_FETCH = 0x20,
    UBLK_IO_COMMIT_AND_FETCH = 0x21,
};

enum ublk_io_result {
    UBLK_IO_OK = 0,
    UBLK_IO_ABORT = -19, /* -ENODEV: no request will come any more */
};

/* Fits into the 16 bytes of a normal entry. */
struct ublk_io_command {
    uint16_t queue, tag;
    int32_t result;
    uint64_t address;
};
static_assert(sizeof(struct ublk_io_command) == 16, "ublksrv_io_cmd is 16 bytes");

enum ublk_io_op {
    UBLK_OP_READ = 0,
    UBLK_OP_WRITE = 1,
    UBLK_OP_FLUSH = 2,
    UBLK_OP_DISCARD = 3,
    UBLK_OP_WRITE_ZEROES = 5,
};

#define UBLK_OP(op_flags) ((op_flags)&0xff)
#define UBLK_OP_FUA       (UINT32_C(1) << 13)
#define UBLK_OP_NO_UNMAP  (UINT32_C(1) << 15)

/* Where the kernel says what the request of a tag is, in memory mapped from the character device. */
struct ublk_io_description {
    uint32_t op_flags;
    uint32_t sectors;
    uint64_t start_sector;
    uint64_t address;
};
static_assert(sizeof(struct ublk_io_description) == 24, "ublksrv_io_desc is 24 bytes");

#define UBLK_DEPTH_MAX    4096u
#define UBLK_SECTOR_SHIFT 9

/* Of the descriptions of one queue, in the character device. */
#define UBLK_DESCRIPTIONS_BYTES_MAX (UBLK_DEPTH_MAX * sizeof(struct ublk_io_description))

/* ---- opcodes -------------------------------------------------------------------------------- */

/* Since 6.4 encoded like an ioctl's; plain numbers may be compiled out of newer kernels. */
static inline uint32_t ublk_command_opcode(enum ublk_command command, int encoded)
{
    int reads = command == UBLK_COMMAND_GET_DEV_INFO || command == UBLK_COMMAND_GET_PARAMS ||
                command == UBLK_COMMAND_GET_FEATURES;

    if (!encoded)
        return command;
    return reads ? _IOR('u', command, struct ublk_control_command)
                 : _IOWR('u', command, struct ublk_control_command);
}

static inline uint32_t ublk_io_opcode(enum ublk_io_number number, int encoded)
{
    return encoded ? _IOWR('u', number, struct ublk_io_command) : (uint32_t)number;
}

#endif
