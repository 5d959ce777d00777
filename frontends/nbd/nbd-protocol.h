/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of the NBD protocol that this server speaks: doc/proto.md of the NetworkBlockDevice/nbd
 * project.  All integers on the wire are big-endian (common/endian.h).
 */
#ifndef FRONTENDS_NBD_PROTOCOL_H
#define FRONTENDS_NBD_PROTOCOL_H

#include <stdint.h>

/* ---- handshake -------------------------------------------------------------------------- */

#define NBD_MAGIC               UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC        UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC  UINT64_C(0x0003e889045565a9)

#define NBD_GREETING_BYTES      18u /* magic, option magic, handshake flags */
#define NBD_CLIENT_FLAGS_BYTES  4u
#define NBD_OPTION_HEADER_BYTES 16u /* magic, option, length */
#define NBD_OPTION_REPLY_BYTES  20u /* magic, option, reply type, length */
#define NBD_EXPORT_ZEROES_BYTES 124u
#define NBD_STRING_BYTES_MAX    4096u

/* Handshake flags; the client answers with the same bits. */
enum nbd_handshake_flag {
    NBD_FLAG_FIXED_NEWSTYLE = 1,
    NBD_FLAG_NO_ZEROES = 2,
};

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ACK                 UINT32_C(1)
#define NBD_REP_SERVER              UINT32_C(2)
#define NBD_REP_INFO                UINT32_C(3)
#define NBD_REP_META_CONTEXT        UINT32_C(4)
#define NBD_REP_ERR                 UINT32_C(0x80000000) /* set in every error */
#define NBD_REP_ERR_UNSUP           (NBD_REP_ERR + 1)
#define NBD_REP_ERR_POLICY          (NBD_REP_ERR + 2)
#define NBD_REP_ERR_INVALID         (NBD_REP_ERR + 3)
#define NBD_REP_ERR_TLS_REQD        (NBD_REP_ERR + 5)
#define NBD_REP_ERR_UNKNOWN         (NBD_REP_ERR + 6)
#define NBD_REP_ERR_SHUTDOWN        (NBD_REP_ERR + 7)
#define NBD_REP_ERR_TOO_BIG         (NBD_REP_ERR + 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_ERR + 10)

enum nbd_info {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

enum nbd_transmission_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
    NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

/* ---- transmission ----------------------------------------------------------------------- */

#define NBD_REQUEST_MAGIC          UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC     UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_EXTENDED_REPLY_MAGIC   UINT32_C(0x6e8a278c)

#define NBD_REQUEST_BYTES          28u /* magic, flags, type, cookie, offset, length */
#define NBD_EXTENDED_REQUEST_BYTES 32u /* the same, with a length of 64 bits */
#define NBD_SIMPLE_REPLY_BYTES     16u /* magic, error, cookie */
#define NBD_STRUCTURED_REPLY_BYTES 20u /* magic, flags, type, cookie, length */
#define NBD_EXTENDED_REPLY_BYTES   32u /* magic, flags, type, cookie, offset, length */

/* What was negotiated about the messages of this phase. */
enum nbd_style {
    NBD_STYLE_SIMPLE,     /* simple replies only */
    NBD_STYLE_STRUCTURED, /* simple and structured ones */
    NBD_STYLE_EXTENDED,   /* extended requests and replies only */
};

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

enum nbd_reply_flag {
    NBD_REPLY_FLAG_DONE = 1,
};

enum nbd_reply_type {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
    NBD_REPLY_TYPE_ERROR = (1 << 15) + 1,
    NBD_REPLY_TYPE_ERROR_OFFSET = (1 << 15) + 2,
};

/* Error values: those of Linux, but fixed by the document. */
enum nbd_error {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

#endif
