/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD handshake as a state machine: the input is what a client sends.  However it is cut, the
 * answers are the same, they are well formed, and it ends in a bounded number of steps.
 *
 *   first byte   how the second round is cut
 *   the rest     the client's bytes; 0xff stands for itself, and "0xff option" for an option header
 *                with the right length, so that valid options are found quickly
 */
#include "common/endian.h"
#include "frontends/nbd/nbd-handshake.h"
#include "frontends/nbd/nbd-protocol.h"
#include "io/volume.h"
#include "tests/fuzz/fuzz.h"

#define CLIENT_BYTES_MAX (64u << 10)
#define SERVER_BYTES_MAX (4u << 20)
#define INPUT_BYTES      (NBD_OPTION_HEADER_BYTES + NBD_HANDSHAKE_DATA_BYTES_MAX)
#define VOLUMES          12u

static struct volume volumes[VOLUMES];

unsigned volume_count(struct cache *cache)
{
    (void)cache;
    return VOLUMES;
}

struct volume *volume_at(struct cache *cache, unsigned index)
{
    (void)cache;
    return index < VOLUMES ? &volumes[index] : NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    for (unsigned i = 0; i < VOLUMES; i++) {
        volumes[i] =
            (struct volume){.bytes = UINT64_C(1) << (12 + i), .nbd = i != 1, .read_only = i == 2};
        memset(volumes[i].name, 'a' + (int)i, i == 3 ? VOLUME_NAME_BYTES - 1 : 1 + i % 3);
        if (i % 2)
            memset(volumes[i].description, 'D', i == 3 ? sizeof(volumes[i].description) - 1 : 5);
    }
    volumes[0].unnamed = true;
    return 0;
}

/* ---- what the client says ------------------------------------------------------------------- */

static unsigned char client[CLIENT_BYTES_MAX];
static size_t client_bytes;

static void say(const void *data, size_t bytes)
{
    if (bytes > CLIENT_BYTES_MAX - client_bytes)
        bytes = CLIENT_BYTES_MAX - client_bytes;
    memcpy(client + client_bytes, data, bytes);
    client_bytes += bytes;
}

static void say_option(struct fuzz_input *input)
{
    unsigned char header[NBD_OPTION_HEADER_BYTES];
    uint8_t option = fuzz_u8(input);
    size_t bytes = fuzz_u8(input);
    const uint8_t *data = fuzz_bytes(input, &bytes);

    be64_store(header, NBD_OPTION_MAGIC);
    be32_store(header + 8, option);
    be32_store(header + 12, (uint32_t)bytes);
    say(header, sizeof(header));
    say(data, bytes);
}

static void say_all(struct fuzz_input *input)
{
    static const unsigned char flags[4] = {0, 0, 0, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES};

    client_bytes = 0;
    if (!fuzz_ended(input) && *input->at == 0xff)
        say(flags, sizeof(flags));
    while (!fuzz_ended(input)) {
        uint8_t byte = fuzz_u8(input);

        if (byte == 0xff && !fuzz_ended(input) && *input->at != 0xff)
            say_option(input);
        else
            say(&byte, 1);
    }
}

/* ---- one conversation ----------------------------------------------------------------------- */

struct talk {
    enum nbd_handshake_result result;
    size_t used; /* bytes of the client that were consumed */
    size_t bytes;
    unsigned char said[SERVER_BYTES_MAX];
    struct nbd_handshake end;
};

static struct talk talks[2];

/* As nbd-greeter.c does it; `cut` says how many bytes arrive at a time. */
static void hold(struct talk *talk, uint32_t cut)
{
    static unsigned char input[INPUT_BYTES];
    struct nbd_handshake *handshake = &talk->end;
    size_t start = 0, end = 0, sent = 0, steps = 0;

    talk->bytes = talk->used = 0;
    nbd_handshake_init(handshake, NULL);
    for (;;) {
        size_t consumed = SIZE_MAX, said = SIZE_MAX, more;

        FUZZ_CHECK(SERVER_BYTES_MAX - talk->bytes >= NBD_HANDSHAKE_OUTPUT_BYTES, "endless answers");
        FUZZ_CHECK(++steps <= 2 * client_bytes + 16 + NBD_HANDSHAKE_OPTIONS_MAX * VOLUMES_MAX,
                   "the handshake does not end");
        talk->result = nbd_handshake_step(handshake, input + start, end - start, &consumed,
                                          talk->said + talk->bytes, &said);
        FUZZ_CHECK(consumed <= end - start && said <= NBD_HANDSHAKE_OUTPUT_BYTES,
                   "it consumed %zu and said %zu", consumed, said);
        start += consumed;
        talk->used += consumed;
        talk->bytes += said;
        if (talk->result != NBD_HANDSHAKE_MORE)
            return;
        if (said != 0)
            continue;
        memmove(input, input + start, end - start);
        end -= start;
        start = 0;
        FUZZ_CHECK(end < INPUT_BYTES, "the input buffer is full");
        more = client_bytes - sent;
        if (cut)
            cut = cut * 1103515245u + 12345u;
        if (cut && more > 1 + (cut >> 16) % 40)
            more = 1 + (cut >> 16) % 40;
        if (more > INPUT_BYTES - end)
            more = INPUT_BYTES - end;
        if (more == 0)
            return; /* the client hangs up */
        memcpy(input + end, client + sent, more);
        sent += more;
        end += more;
    }
}

/* The greeting, then replies to options, then perhaps the answer to EXPORT_NAME. */
static void answers_check(const struct talk *talk)
{
    const unsigned char *at = talk->said, *end = at + talk->bytes;

    FUZZ_CHECK(talk->bytes >= NBD_GREETING_BYTES && be64_load(at) == NBD_MAGIC, "no greeting");
    at += NBD_GREETING_BYTES;
    while (at < end) {
        size_t left = (size_t)(end - at);

        if (left < NBD_OPTION_REPLY_BYTES || be64_load(at) != NBD_OPTION_REPLY_MAGIC) {
            FUZZ_CHECK(talk->result == NBD_HANDSHAKE_TRANSMIT &&
                           (left == 10 || left == 10 + NBD_EXPORT_ZEROES_BYTES),
                       "an answer of %zu bytes that is none", left);
            return;
        }
        FUZZ_CHECK(be32_load(at + 16) <= left - NBD_OPTION_REPLY_BYTES, "an answer is cut off");
        at += NBD_OPTION_REPLY_BYTES + be32_load(at + 16);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, data + bytes};
    uint32_t cut = fuzz_u8(&input) | 1u << 8;

    say_all(&input);
    hold(&talks[0], 0);
    answers_check(&talks[0]);
    hold(&talks[1], cut);
    FUZZ_CHECK(talks[0].result == talks[1].result && talks[0].used == talks[1].used &&
                   talks[0].bytes == talks[1].bytes &&
                   memcmp(talks[0].said, talks[1].said, talks[0].bytes) == 0 &&
                   talks[0].end.volume == talks[1].end.volume,
               "the answer depends on how the client's bytes are cut");
    FUZZ_CHECK(talks[0].result != NBD_HANDSHAKE_TRANSMIT ||
                   (talks[0].end.volume != NULL && talks[0].end.volume->nbd),
               "a volume that is not exported");
    return 0;
}
