// SPDX-License-Identifier: Apache-2.0
// The least that an NBD server can do: the measuring stick beside which the
// daemon's cost per request is read.  One thread, one io_uring, one client at
// a time, fixed buffers, O_DIRECT, simple replies, no cache, no checksums.
// Correct, but without options, error recovery or tuning of any kind.
//
//   floor-server [--no-io] SOCKET DEVICE
//
// --no-io answers without touching the device: the cost of the protocol alone.
//
// A slot is one request: free -> I/O in flight -> queued to reply -> in the
// one sendmsg in flight -> free.  Wire format: the NBD project's doc/proto.md.
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IORING_SETUP_SINGLE_ISSUER // newer than Debian 12's liburing
#    define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#    define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#define SLOT_COUNT      64
#define SLOT_BYTES      (256 * 1024)
#define RECEIVE_BYTES   (64 * 1024)
#define REQUEST_MAGIC   0x25609513u
#define REPLY_MAGIC     0x67446698u
#define OPTION_MAGIC    0x49484156454F5054ull
#define OPTION_REPLY    0x3e889045565a9ull
#define TRANSMIT_FLAGS  (1 | 4 | 8) // has flags, flush, FUA
#define HANDSHAKE_FLAGS (1 | 2)     // fixed newstyle, no zeroes

enum command {
    READ = 0,
    WRITE = 1,
    DISCONNECT = 2,
    FLUSH = 3
};
enum completion {
    RECEIVED = SLOT_COUNT,
    PAYLOAD,
    SENT
}; // below: a slot's I/O

struct request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} __attribute__((packed));

struct reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));

struct slot {
    struct reply reply;
    uint32_t length;
    uint16_t type;
    bool sync; // FUA
    uint64_t offset;
};

static struct io_uring ring;
static int device, client;
static bool no_io;
static uint64_t device_bytes;
static struct slot slots[SLOT_COUNT];
static char *buffers; // SLOT_COUNT of SLOT_BYTES, registered as one
static unsigned free_slots[SLOT_COUNT], free_count;
static unsigned reply_queue[SLOT_COUNT], reply_count;
static unsigned sending[SLOT_COUNT], sending_count;
static struct iovec send_vector[2 * SLOT_COUNT];
static struct msghdr send_message = {.msg_iov = send_vector};
static char receive_buffer[RECEIVE_BYTES];
static size_t receive_start, receive_end;
static bool receiving;
static int payload_slot; // of the write whose payload is arriving, or -1
static uint32_t payload_done;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static char *slot_buffer(unsigned index)
{
    return buffers + (size_t)index * SLOT_BYTES;
}

static struct io_uring_sqe *get_sqe(uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (!sqe) // cannot happen: the ring has more entries than there are slots
        abort();
    io_uring_sqe_set_data64(sqe, tag);
    return sqe;
}

// ---- handshake, blocking ----------------------------------------------------

static bool receive_all(void *to, size_t bytes)
{
    return bytes == 0 || recv(client, to, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static bool send_all(const void *from, size_t bytes)
{
    return send(client, from, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool reply_option(uint32_t option, uint32_t type, const void *data, uint32_t bytes)
{
    struct {
        uint64_t magic;
        uint32_t option, type, length;
    } __attribute__((packed))
    head = {htobe64(OPTION_REPLY), htobe32(option), htobe32(type), htobe32(bytes)};

    return send_all(&head, sizeof(head)) && (bytes == 0 || send_all(data, bytes));
}

static bool handshake(void)
{
    struct {
        uint64_t magic, option_magic;
        uint16_t flags;
    } __attribute__((packed))
    hello = {htobe64(0x4e42444d41474943ull), htobe64(OPTION_MAGIC), htobe16(HANDSHAKE_FLAGS)};
    struct {
        uint16_t type;
        uint64_t size;
        uint16_t flags;
    } __attribute__((packed)) info = {0, htobe64(device_bytes), htobe16(TRANSMIT_FLAGS)};
    uint32_t client_flags;

    if (!send_all(&hello, sizeof(hello)) || !receive_all(&client_flags, 4))
        return false;
    for (;;) {
        struct {
            uint64_t magic;
            uint32_t option, length;
        } __attribute__((packed)) head;
        char data[4096];

        if (!receive_all(&head, sizeof(head)) || be64toh(head.magic) != OPTION_MAGIC)
            return false;
        uint32_t option = be32toh(head.option), length = be32toh(head.length);
        if (length > sizeof(data) || !receive_all(data, length))
            return false;
        switch (option) {
        case 1: { // EXPORT_NAME
            char zeroes[124] = {0};
            bool pad = !(be32toh(client_flags) & 2);
            return send_all(&info.size, 10) && (!pad || send_all(zeroes, sizeof(zeroes)));
        }
        case 2: // ABORT
            reply_option(option, 1, NULL, 0);
            return false;
        case 6: // INFO
        case 7: // GO
            if (!reply_option(option, 3, &info, sizeof(info)) || !reply_option(option, 1, NULL, 0))
                return false;
            if (option == 7)
                return true;
            break;
        default: // unsupported
            if (!reply_option(option, 0x80000001, NULL, 0))
                return false;
        }
    }
}

// ---- transmission -----------------------------------------------------------

static void queue_reply(unsigned index, int error)
{
    slots[index].reply.error = htobe32((uint32_t)error);
    reply_queue[reply_count++] = index;
}

static void submit_slot(unsigned index)
{
    struct slot *slot = &slots[index];

    if (no_io) {
        queue_reply(index, 0);
        return;
    }
    struct io_uring_sqe *sqe = get_sqe(index);
    if (slot->type == READ)
        io_uring_prep_read_fixed(sqe, 0, slot_buffer(index), slot->length, slot->offset, 0);
    else if (slot->type == WRITE)
        io_uring_prep_write_fixed(sqe, 0, slot_buffer(index), slot->length, slot->offset, 0);
    else
        io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
    if (slot->type == WRITE && slot->sync)
        sqe->rw_flags = RWF_DSYNC;
    sqe->flags |= IOSQE_FIXED_FILE;
}

static void receive(void)
{
    size_t left = receive_end - receive_start;
    struct io_uring_sqe *sqe;

    if (payload_slot >= 0) {
        sqe = get_sqe(PAYLOAD);
        io_uring_prep_recv(sqe, 1, slot_buffer((unsigned)payload_slot) + payload_done,
                           slots[payload_slot].length - payload_done, MSG_WAITALL);
    } else {
        memmove(receive_buffer, receive_buffer + receive_start, left);
        receive_start = 0, receive_end = left;
        sqe = get_sqe(RECEIVED);
        io_uring_prep_recv(sqe, 1, receive_buffer + left, RECEIVE_BYTES - left, 0);
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    receiving = true;
}

// Takes requests out of the receive buffer.  False: the client is done, or
// sent what this server does not do.
static bool parse(void)
{
    while (payload_slot < 0 && free_count > 0 &&
           receive_end - receive_start >= sizeof(struct request)) {
        struct request request;

        memcpy(&request, receive_buffer + receive_start, sizeof(request));
        receive_start += sizeof(request);
        unsigned index = free_slots[free_count - 1];
        struct slot *slot = &slots[index];
        *slot = (struct slot){.reply = {htobe32(REPLY_MAGIC), 0, request.cookie},
                              .type = be16toh(request.type),
                              .sync = be16toh(request.flags) & 1,
                              .offset = be64toh(request.offset),
                              .length = be32toh(request.length)};
        if (be32toh(request.magic) != REQUEST_MAGIC || slot->type == DISCONNECT ||
            slot->type > FLUSH || slot->length > SLOT_BYTES || slot->offset > device_bytes ||
            slot->length > device_bytes - slot->offset || (slot->offset | slot->length) & 511)
            return false;
        free_count--;
        if (slot->type == WRITE) {
            size_t here = receive_end - receive_start;
            payload_done = here < slot->length ? (uint32_t)here : slot->length;
            memcpy(slot_buffer(index), receive_buffer + receive_start, payload_done);
            receive_start += payload_done;
            if (payload_done < slot->length) {
                payload_slot = (int)index;
                continue;
            }
        }
        submit_slot(index);
    }
    if (!receiving && (payload_slot >= 0 || free_count > 0))
        receive();
    return true;
}

static void submit_send(void)
{
    struct io_uring_sqe *sqe = get_sqe(SENT);

    io_uring_prep_sendmsg(sqe, 1, &send_message, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_FIXED_FILE;
}

static void send_replies(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < reply_count; i++) {
        unsigned index = sending[i] = reply_queue[i];
        struct slot *slot = &slots[index];

        send_vector[count++] = (struct iovec){&slot->reply, sizeof(slot->reply)};
        if (slot->type == READ && slot->reply.error == 0)
            send_vector[count++] = (struct iovec){slot_buffer(index), slot->length};
    }
    send_message.msg_iov = send_vector;
    send_message.msg_iovlen = count;
    sending_count = reply_count;
    reply_count = 0;
    submit_send();
}

static bool on_sent(int result)
{
    if (result <= 0)
        return false;
    while (send_message.msg_iovlen > 0 && (size_t)result >= send_message.msg_iov->iov_len) {
        result -= (int)send_message.msg_iov->iov_len;
        send_message.msg_iov++, send_message.msg_iovlen--;
    }
    if (send_message.msg_iovlen > 0) {
        send_message.msg_iov->iov_base = (char *)send_message.msg_iov->iov_base + result;
        send_message.msg_iov->iov_len -= (size_t)result;
        submit_send();
        return true;
    }
    while (sending_count > 0)
        free_slots[free_count++] = sending[--sending_count];
    return true;
}

static bool on_completion(uint64_t tag, int result)
{
    switch (tag) {
    case RECEIVED:
        receiving = false;
        receive_end += result > 0 ? (size_t)result : 0;
        return result > 0;
    case PAYLOAD:
        receiving = false;
        if (result <= 0)
            return false;
        payload_done += (uint32_t)result;
        if (payload_done == slots[payload_slot].length) {
            unsigned index = (unsigned)payload_slot;
            payload_slot = -1;
            submit_slot(index);
        }
        return true;
    case SENT: return on_sent(result);
    default: { // a slot's I/O; a short one is an error
        int expected = slots[tag].type == FLUSH ? 0 : (int)slots[tag].length;
        queue_reply((unsigned)tag, result == expected ? 0 : EIO);
        return true;
    }
    }
}

static void set_up_ring(void)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    int files[2] = {device, client};
    struct iovec all = {buffers, (size_t)SLOT_COUNT * SLOT_BYTES};

    if (io_uring_queue_init_params(4 * SLOT_COUNT, &ring, &params) < 0)
        die("io_uring (kernel 6.1 or later is needed)");
    if (io_uring_register_buffers(&ring, &all, 1) || io_uring_register_files(&ring, files, 2) ||
        io_uring_register_ring_fd(&ring) != 1)
        die("io_uring registration");
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        free_slots[free_count++] = i;
}

static void transmit(void)
{
    payload_slot = -1;
    while (parse()) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        bool go_on = true;

        if (reply_count > 0 && sending_count == 0)
            send_replies();
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            go_on = on_completion(cqe->user_data, cqe->res) && go_on;
            seen++;
        }
        io_uring_cq_advance(&ring, seen);
        if (!go_on)
            return;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat stat;

    no_io = argc > 1 && strcmp(argv[1], "--no-io") == 0;
    argv += no_io, argc -= no_io;
    if (argc != 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
        fputs("Usage: floor-server [--no-io] SOCKET DEVICE\n", stderr);
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    device = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
    if (device < 0 || fstat(device, &stat) < 0)
        die(argv[2]);
    device_bytes = (uint64_t)stat.st_size;
    if (S_ISBLK(stat.st_mode) && ioctl(device, BLKGETSIZE64, &device_bytes) < 0)
        die(argv[2]);
    buffers = mmap(NULL, (size_t)SLOT_COUNT * SLOT_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffers == MAP_FAILED)
        die("buffers");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 16) < 0)
        die(argv[1]);
    for (;;) {
        client = accept(listener, NULL, NULL);
        if (client < 0)
            die("accept");
        // A process for each client ends with all that the client left behind.
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            set_up_ring(); // before the client's first request waits for it
            if (handshake())
                transmit();
            _exit(0);
        }
        close(client);
        waitpid(child, NULL, 0);
    }
}
