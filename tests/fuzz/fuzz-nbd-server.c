/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server, within a whole daemon: the input is what one client does.  Beside it an honest
 * client reads after each input, and must get its answer and the right data; now and then another
 * one connects, reads and leaves.  At the end it says how much of all that there was.
 *
 * With the argument --cases=N it makes inputs of its own, of many requests each, until there were N
 * fuzzed handshakes and requests; --seed=S makes others.
 *
 *   first byte   0: the handshake, too, is the input's; 1: EXPORT_NAME; 2: GO;
 *                3: STRUCTURED_REPLY, then GO.  + 4: of the volume that is read-only.
 *                + 8: with meta contexts, where replies are structured
 *   then         requests with any fields, raw bytes, and where to cut the stream
 *
 * With simple replies and no raw bytes each request is answered once, by an error where one is due.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/endian.h"
#include "frontends/nbd/nbd-protocol.h"
#include "tests/fuzz/fuzz-daemon.h"

#define OUTPUT_BYTES (512u << 10)
#define REQUESTS_MAX 1024u
#define STEADY       "steady"

/* An honest client that is new comes after so many inputs. */
#define GUEST_INTERVAL 64u

static struct fuzz_daemon daemon_;
static int honest;

/* What there was. */
static struct {
    uint64_t handshakes; /* that are the input's own: any bytes */
    uint64_t negotiated; /* handshakes that are right */
    uint64_t requests;   /* with a header of our making, valid or not */
    uint64_t raw;        /* pieces of any bytes in the middle of requests */
    uint64_t honest_reads, guests;
    uint64_t honest_ns_max;
} total;

/* ---- handshakes ----------------------------------------------------------------------------- */

static void option_send(int fd, uint32_t option, const void *data, uint32_t bytes)
{
    unsigned char header[NBD_OPTION_HEADER_BYTES];

    be64_store(header, NBD_OPTION_MAGIC);
    be32_store(header + 8, option);
    be32_store(header + 12, bytes);
    fuzz_send_all(fd, header, sizeof(header), "a handshake");
    fuzz_send_all(fd, data, bytes, "a handshake");
}

/* Replies up to the acknowledgement. */
static void option_acknowledged(int fd)
{
    unsigned char reply[NBD_OPTION_REPLY_BYTES], data[512];
    uint32_t type, bytes;

    do {
        fuzz_receive_all(fd, reply, sizeof(reply), "a handshake");
        type = be32_load(reply + 12);
        bytes = be32_load(reply + 16);
        FUZZ_CHECK(be64_load(reply) == NBD_OPTION_REPLY_MAGIC && bytes <= sizeof(data) &&
                       (type & NBD_REP_ERR) == 0,
                   "an option was refused");
        fuzz_receive_all(fd, data, bytes, "a handshake");
    } while (type != NBD_REP_ACK);
}

static void greet(int fd)
{
    unsigned char greeting[NBD_GREETING_BYTES], flags[4];

    fuzz_receive_all(fd, greeting, sizeof(greeting), "a handshake");
    FUZZ_CHECK(be64_load(greeting) == NBD_MAGIC, "no greeting");
    be32_store(flags, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    fuzz_send_all(fd, flags, sizeof(flags), "a handshake");
}

static void export_name(int fd, const char *name)
{
    unsigned char answer[10];

    option_send(fd, NBD_OPT_EXPORT_NAME, name, (uint32_t)strlen(name));
    fuzz_receive_all(fd, answer, sizeof(answer), "a handshake");
    FUZZ_CHECK(be64_load(answer) == FUZZ_VOLUME_BYTES, "a volume of a wrong size");
}

static void go(int fd, const char *name)
{
    unsigned char data[64] = {0};
    uint32_t bytes = (uint32_t)strlen(name);

    be32_store(data, bytes);
    memcpy(data + 4, name, bytes);
    option_send(fd, NBD_OPT_GO, data, bytes + 6);
    option_acknowledged(fd);
}

/* Both that there are. */
static void meta_context(int fd, const char *name)
{
    static const char queries[] = "\0\0\0\2"
                                  "\0\0\0\x0f"
                                  "base:allocation"
                                  "\0\0\0\x0f"
                                  "blkcached:state";
    unsigned char data[64];
    uint32_t bytes = (uint32_t)strlen(name);

    be32_store(data, bytes);
    memcpy(data + 4, name, bytes);
    memcpy(data + 4 + bytes, queries, sizeof(queries) - 1);
    option_send(fd, NBD_OPT_SET_META_CONTEXT, data, 4 + bytes + (uint32_t)sizeof(queries) - 1);
    option_acknowledged(fd);
}

/* ---- the honest client ---------------------------------------------------------------------- */

static void request_head(unsigned char *head, uint16_t type, uint16_t flags, uint64_t cookie,
                         uint64_t offset, uint32_t length)
{
    be32_store(head, NBD_REQUEST_MAGIC);
    be16_store(head + 4, flags);
    be16_store(head + 6, type);
    be64_store(head + 8, cookie);
    be64_store(head + 16, offset);
    be32_store(head + 24, length);
}

static void honest_read(int fd)
{
    static uint64_t cookie;
    unsigned char head[NBD_REQUEST_BYTES], reply[NBD_SIMPLE_REPLY_BYTES];
    uint64_t words[64], offset = cookie * 4160 % (FUZZ_VOLUME_BYTES - sizeof(words)) / 8 * 8;
    uint64_t begin_ns = clock_ns(), ns;

    request_head(head, NBD_CMD_READ, 0, ++cookie, offset, sizeof(words));
    fuzz_send_all(fd, head, sizeof(head), "the honest client");
    fuzz_receive_all(fd, reply, sizeof(reply), "the honest client");
    FUZZ_CHECK(be32_load(reply) == NBD_SIMPLE_REPLY_MAGIC && be32_load(reply + 4) == 0 &&
                   be64_load(reply + 8) == cookie,
               "the honest client got an error");
    fuzz_receive_all(fd, words, sizeof(words), "the honest client");
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        FUZZ_CHECK(words[i] == fuzz_steady_word(offset / 8 + i),
                   "the honest client got wrong data");
    ns = clock_ns() - begin_ns;
    total.honest_ns_max = ns > total.honest_ns_max ? ns : total.honest_ns_max;
    total.honest_reads++;
}

static void guest_serve(void)
{
    unsigned char head[NBD_REQUEST_BYTES], byte;
    int fd = fuzz_connect(daemon_.nbd_path);

    greet(fd);
    go(fd, STEADY);
    honest_read(fd);
    request_head(head, NBD_CMD_DISC, 0, 0, 0, 0);
    fuzz_send_all(fd, head, sizeof(head), "an honest guest");
    fuzz_wait(fd, POLLIN, "an honest guest that left");
    FUZZ_CHECK(recv(fd, &byte, 1, 0) == 0, "an honest guest got more than it asked for");
    close(fd);
    total.guests++;
}

static void total_say(void)
{
    fprintf(stderr,
            "nbd-server: %" PRIu64 " fuzzed handshakes, %" PRIu64 " right ones, %" PRIu64
            " requests, %" PRIu64 " pieces of garbage among them; %" PRIu64
            " honest reads, the longest took %" PRIu64 " us, %" PRIu64 " honest connections\n",
            total.handshakes, total.negotiated, total.requests, total.raw, total.honest_reads,
            total.honest_ns_max / 1000, total.guests);
}

/* ---- what is to be answered ------------------------------------------------------------------ */

enum due {
    DUE_NOTHING, /* nothing more: it was answered */
    DUE_SUCCESS,
    DUE_ERROR,
    DUE_ANY,
};

static struct client {
    int fd;
    bool strict;    /* every answer is known */
    bool read_only; /* its volume */
    bool closed;    /* the server hung up */
    bool left;      /* we said DISC, or must be dropped: nothing more is to be answered */
    struct {
        enum due due;
        uint32_t payload; /* bytes behind a success */
    } requests[REQUESTS_MAX];
    uint32_t count, answered;
    unsigned char head[NBD_SIMPLE_REPLY_BYTES]; /* of the reply that is coming in */
    uint32_t head_bytes, skip;
    unsigned char output[OUTPUT_BYTES];
    size_t output_bytes;
} client;

static void reply_check(void)
{
    uint64_t cookie = be64_load(client.head + 8);
    uint32_t error = be32_load(client.head + 4);

    FUZZ_CHECK(be32_load(client.head) == NBD_SIMPLE_REPLY_MAGIC, "a reply that is none");
    FUZZ_CHECK(cookie < client.count && client.requests[cookie].due != DUE_NOTHING,
               "a reply that nobody waits for");
    FUZZ_CHECK(client.requests[cookie].due == DUE_ANY ||
                   (error == 0) == (client.requests[cookie].due == DUE_SUCCESS),
               "request %u was answered with %u", (unsigned)cookie, error);
    client.skip = error == 0 ? client.requests[cookie].payload : 0;
    client.requests[cookie].due = DUE_NOTHING;
    client.answered++;
    client.head_bytes = 0;
}

static void reply_take(const unsigned char *data, size_t bytes)
{
    while (client.strict && bytes > 0) {
        size_t here = client.skip > 0 ? client.skip : sizeof(client.head) - client.head_bytes;

        if (here > bytes)
            here = bytes;
        if (client.skip > 0) {
            client.skip -= (uint32_t)here;
        } else {
            memcpy(client.head + client.head_bytes, data, here);
            client.head_bytes += (uint32_t)here;
            if (client.head_bytes == sizeof(client.head))
                reply_check();
        }
        data += here;
        bytes -= here;
    }
}

/* ---- sending and receiving ------------------------------------------------------------------- */

static void receive(void)
{
    static unsigned char data[64u << 10];
    ssize_t got = recv(client.fd, data, sizeof(data), MSG_DONTWAIT);

    if (got > 0)
        reply_take(data, (size_t)got);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        client.closed = true;
}

static void output_flush(void)
{
    size_t sent = 0;

    while (sent < client.output_bytes && !client.closed) {
        short ready = fuzz_wait(client.fd, POLLIN | POLLOUT, "a client");

        if (ready & (POLLIN | POLLHUP | POLLERR)) {
            receive();
        } else {
            ssize_t more = send(client.fd, client.output + sent, client.output_bytes - sent,
                                MSG_NOSIGNAL | MSG_DONTWAIT);

            if (more < 0 && errno != EAGAIN && errno != EINTR)
                client.closed = true;
            sent += more > 0 ? (size_t)more : 0;
        }
    }
    client.output_bytes = 0;
}

static void output(const void *data, size_t bytes)
{
    if (bytes > OUTPUT_BYTES - client.output_bytes)
        output_flush();
    if (bytes > OUTPUT_BYTES)
        bytes = OUTPUT_BYTES;
    memcpy(client.output + client.output_bytes, data, bytes);
    client.output_bytes += bytes;
}

/* ---- requests ------------------------------------------------------------------------------- */

/* What newer commands and flags bring depends on what was negotiated. */
static enum due due_of(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length)
{
    bool writes = type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;

    if (type > NBD_CMD_WRITE_ZEROES || (flags & ~(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE)))
        return DUE_ANY;
    if (type != NBD_CMD_WRITE_ZEROES && (flags & NBD_CMD_FLAG_NO_HOLE))
        return DUE_ERROR;
    if (writes && client.read_only)
        return DUE_ERROR;
    if (type == NBD_CMD_FLUSH)
        return offset == 0 && length == 0 ? DUE_SUCCESS : DUE_ERROR;
    return offset <= FUZZ_VOLUME_BYTES && length <= FUZZ_VOLUME_BYTES - offset ? DUE_SUCCESS
                                                                               : DUE_ERROR;
}

static void payload_send(uint32_t length)
{
    static unsigned char payload[64u << 10];

    memset(payload, (int)length, sizeof(payload));
    for (uint32_t here; length > 0; length -= here) {
        here = length < sizeof(payload) ? length : (uint32_t)sizeof(payload);
        output(payload, here);
    }
}

static void request_send(struct fuzz_input *input, uint8_t op)
{
    unsigned char head[NBD_REQUEST_BYTES];
    uint16_t type = op & 15, flags = op & 32 ? fuzz_u8(input) : 0;
    uint64_t offset = op & 64 ? fuzz_number(input) : fuzz_u16(input) * 11u;
    uint32_t length = op & 128 ? (uint32_t)fuzz_number(input) : fuzz_u16(input);
    bool too_much = type == NBD_CMD_WRITE && length > 2 * FUZZ_VOLUME_BYTES;

    if (client.count == REQUESTS_MAX)
        return;
    if (type == NBD_CMD_FLUSH && !(op & 192))
        offset = length = 0;
    request_head(head, type, flags, client.count, offset, length);
    client.requests[client.count].due = due_of(type, flags, offset, length);
    client.requests[client.count].payload = type == NBD_CMD_READ ? length : 0;
    output(head, sizeof(head));
    total.requests++;
    /* Either ends it; of so large a payload, which is refused or ends the connection, not all is
     * sent. */
    client.left = type == NBD_CMD_DISC || too_much;
    if (type != NBD_CMD_DISC)
        client.count++;
    if (too_much)
        client.requests[client.count - 1].due = DUE_ANY;
    if (type == NBD_CMD_WRITE)
        payload_send(too_much ? 1000 : length);
}

static void raw_send(struct fuzz_input *input, size_t bytes)
{
    const uint8_t *data = fuzz_bytes(input, &bytes);

    client.strict = false;
    total.raw++;
    output(data, bytes);
}

static void ops_run(struct fuzz_input *input)
{
    for (unsigned ops = 0; !fuzz_ended(input) && ops < 2000 && !client.closed && !client.left;
         ops++) {
        uint8_t op = fuzz_u8(input);

        if ((op & 15) == 15)
            output_flush();
        else if ((op & 31) == 30)
            raw_send(input, 1 + (op >> 5) * 5u);
        else if ((op & 31) == 14)
            receive();
        else
            request_send(input, op);
    }
}

/* ---- one input ------------------------------------------------------------------------------ */

static void end(void)
{
    static uint64_t inputs;

    output_flush();
    honest_read(honest);
    if (++inputs % GUEST_INTERVAL == 0)
        guest_serve();
    if (!client.closed)
        shutdown(client.fd, SHUT_WR);
    while (!client.closed) {
        fuzz_wait(client.fd, POLLIN, "a client that hung up");
        receive();
    }
    /* When the server had to drop it, answers may be lost. */
    if (client.strict && !client.left)
        FUZZ_CHECK(client.answered == client.count && client.skip == 0 && client.head_bytes == 0,
                   "%u of %u requests were answered", client.answered, client.count);
    close(client.fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, data + bytes};
    uint8_t form = fuzz_u8(&input);
    const char *name = form & 4 ? STEADY : "work";

    client.fd = fuzz_connect(daemon_.nbd_path);
    client.strict = (form & 3) == 1 || (form & 3) == 2;
    client.read_only = form & 4;
    client.closed = client.left = false;
    client.count = client.answered = client.head_bytes = client.skip = 0;
    client.output_bytes = 0;
    if (form & 3) {
        greet(client.fd);
        total.negotiated++;
    } else {
        total.handshakes++;
    }
    if ((form & 3) == 3) {
        option_send(client.fd, NBD_OPT_STRUCTURED_REPLY, "", 0);
        option_acknowledged(client.fd);
    }
    if ((form & 3) == 3 && (form & 8))
        meta_context(client.fd, name);
    if ((form & 3) == 1)
        export_name(client.fd, name);
    else if (form & 3)
        go(client.fd, name);
    if (form & 3) {
        ops_run(&input);
    } else {
        size_t left = (size_t)(input.end - input.at), half = form >> 3;

        raw_send(&input, half < left ? half : left);
        output_flush();
        raw_send(&input, left);
    }
    end();
    return 0;
}

/* ---- inputs of our own ---------------------------------------------------------------------- */

/* Small, fast, and the same everywhere: SplitMix64. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;

    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

/* As fuzz_number reads it: small, or any. */
static size_t number_make(uint64_t word, bool any, uint8_t *data)
{
    uint8_t form = (uint8_t)(any ? word : word & 127);
    size_t bytes = form < 128 ? 1 : form < 192 ? 2 : form < 224 ? 3 : form < 240 ? 2 : 9;

    data[0] = form;
    for (size_t i = 1; i < bytes; i++)
        data[i] = (uint8_t)(word >> 7 * i);
    return bytes;
}

/* Mostly requests that leave the connection alive, so that many fit into one. */
static size_t input_make(uint64_t *state, uint8_t *data, size_t max)
{
    static const uint8_t forms[] = {0, 1, 2, 3, 5, 6, 7, 11, 15, 1, 2, 3, 11, 11};
    static const uint8_t commands[] = {0, 0, 0, 0, 1, 1, 1, 1, 3, 4, 5, 6, 6, 7, 7, 8};
    size_t bytes = 1;

    data[0] = forms[random_next(state) % sizeof(forms)];
    while (bytes + 24 < max) {
        uint64_t word = random_next(state), place = random_next(state);
        uint8_t op = commands[word & 15];

        op |= (word >> 4 & 3) == 0 ? 32 : 0;
        op |= (word >> 6 & 7) == 0 ? 64 : 0;
        op |= (word >> 9 & 3) == 0 ? 128 : 0;
        if ((word >> 12 & 1023) == 0)
            op = (uint8_t)(word >> 24); /* anything: DISC, raw bytes, ... */
        data[bytes++] = op;
        if (op & 32)
            data[bytes++] = (uint8_t)(1u << (word >> 32 & 7));
        if (op & 64) {
            bytes += number_make(place, true, data + bytes);
        } else {
            data[bytes++] = (uint8_t)place;
            data[bytes++] = (uint8_t)(place >> 8);
        }
        /* A length of a block, or of a few; now and then of 64 KiB, or one that is hard. */
        if (op & 128) {
            bytes += number_make(place >> 16, (word >> 40 & 63) == 0, data + bytes);
        } else {
            data[bytes++] = (uint8_t)(place >> 16);
            data[bytes++] = (word >> 48 & 255) == 0  ? 255
                            : (word >> 56 & 15) == 0 ? 64
                            : (word >> 56 & 3) == 1  ? 16
                                                     : 1;
        }
    }
    return bytes;
}

static void cases_run(uint64_t wanted, uint64_t seed)
{
    static uint8_t data[6000];
    uint64_t said = 0, done = 0;

    while (done < wanted) {
        uint64_t state = seed++;

        LLVMFuzzerTestOneInput(data, input_make(&state, data, sizeof(data)));
        done = total.handshakes + total.requests;
        if (done / 100000 > said) {
            said = done / 100000;
            total_say();
        }
    }
}

static uint64_t argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], name, strlen(name)) == 0)
            return strtoull(argv[i] + strlen(name), NULL, 10);
    }
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    uint64_t cases = argument(*argc, *argv, "--cases=");

    fuzz_daemon_start(&daemon_);
    honest = fuzz_connect(daemon_.nbd_path);
    greet(honest);
    export_name(honest, STEADY);
    honest_read(honest);
    atexit(total_say);
    if (cases > 0) {
        cases_run(cases, argument(*argc, *argv, "--seed=") << 32);
        exit(0);
    }
    return 0;
}
