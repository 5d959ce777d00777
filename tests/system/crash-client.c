/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD client that knows what must survive a crash of the server.
 *
 *     crash-client write  URI RECORD OFFSET BYTES SECONDS SEED
 *     crash-client verify URI RECORD
 *
 * "write" sends random writes of 4 to 64 KiB to a part of the export, with
 * flushes among them, until the time is over or the server goes away, and then
 * writes down in the file RECORD, for each block, which version of it must be
 * there and which may be. Without a RECORD from before, the part must read as
 * zeros. "verify" reads everything back. Legal for a block is any version from
 * the last one that a flush or FUA covered to the last one that was sent, whole.
 * What was found is written down as what must be there from now on: a read
 * collapses the alternatives. Verify before the next write.
 *
 * Prints one line of key=value. Exit status: 0 all as it must be; 1 something
 * was lost, torn, foreign, or could not be read or written; 2 wrong usage.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "tests/sim/sim-random.h"

#define BLOCK_BYTES      4096u
#define WORDS_PER_BLOCK  (BLOCK_BYTES / sizeof(uint64_t))
#define WRITE_BLOCKS_MAX 16u
#define DEPTH            16u
#define WRITES_PER_FLUSH 24u /* on average */
#define WRITES_PER_FUA   32u
#define READ_BYTES_MAX   (1u << 20)
#define RECORD_MAGIC     UINT64_C(0x31304e4545524342)
#define REPORTED_ERRORS  10

/* Versions of one block; 0 is all zeros. durable <= acknowledged <= sent. */
struct versions {
    uint32_t durable;
    uint32_t acknowledged;
    uint32_t sent;
    uint32_t at_flush; /* acknowledged when the flush in flight was sent */
};

struct record {
    uint64_t magic;
    uint64_t seed;
    uint64_t offset;
    uint64_t block_count;
};

/* One command in flight. */
struct slot {
    struct client *client;
    bool busy;
    bool fua;
    uint64_t block;
    uint32_t block_count;
    unsigned char *data;
};

struct client {
    struct nbd_handle *nbd;
    struct record record;
    struct versions *blocks;
    bool *block_busy;
    struct slot slots[DEPTH];
    unsigned in_flight;
    bool flushing;
    struct sim_random random;
    uint64_t writes, flushes, written_blocks;
    int error; /* of a command, with the connection still up */
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "crash-client: %s: %s\n", what, why);
    exit(1);
}

static _Noreturn void die_nbd(const char *what)
{
    die(what, nbd_get_error());
}

/* ---- content: block and version first, then words that only they give ------ */

static uint64_t content_word(uint64_t seed, uint64_t block, uint32_t version, size_t index)
{
    if (version == 0)
        return 0;
    if (index == 0)
        return block;
    if (index == 1)
        return version;
    return hash_mix64(hash_pair64(seed ^ block, version) + index);
}

static void content_fill(unsigned char *data, uint64_t seed, uint64_t block, uint32_t version)
{
    for (size_t i = 0; i < WORDS_PER_BLOCK; i++) {
        uint64_t word = content_word(seed, block, version, i);

        memcpy(data + i * sizeof(word), &word, sizeof(word));
    }
}

/* The version that a block claims to be; its words after the first two may differ. */
static uint32_t content_version(const unsigned char *data)
{
    uint64_t version;

    memcpy(&version, data + sizeof(version), sizeof(version));
    return version <= UINT32_MAX ? (uint32_t)version : UINT32_MAX;
}

/* Does a block hold exactly this version of this block. */
static bool content_equal(const unsigned char *data, uint64_t seed, uint64_t block,
                          uint32_t version)
{
    for (size_t i = 0; i < WORDS_PER_BLOCK; i++) {
        uint64_t word;

        memcpy(&word, data + i * sizeof(word), sizeof(word));
        if (word != content_word(seed, block, version, i))
            return false;
    }
    return true;
}

/* ---- the record file ------------------------------------------------------- */

static void blocks_allocate(struct client *client)
{
    client->blocks = calloc(client->record.block_count, sizeof(*client->blocks));
    client->block_busy = calloc(client->record.block_count, sizeof(*client->block_busy));
    if (client->blocks == NULL || client->block_busy == NULL)
        die("memory", strerror(ENOMEM));
}

/* Returns false if there is no such file. */
static bool record_load(struct client *client, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        if (errno == ENOENT)
            return false;
        die(path, strerror(errno));
    }
    if (fread(&client->record, sizeof(client->record), 1, file) != 1 ||
        client->record.magic != RECORD_MAGIC)
        die(path, "not a record");
    blocks_allocate(client);
    if (fread(client->blocks, sizeof(*client->blocks), client->record.block_count, file) !=
        client->record.block_count)
        die(path, "truncated");
    fclose(file);
    return true;
}

static void record_save(const struct client *client, const char *path)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL)
        die(path, strerror(errno));
    if (fwrite(&client->record, sizeof(client->record), 1, file) != 1 ||
        fwrite(client->blocks, sizeof(*client->blocks), client->record.block_count, file) !=
            client->record.block_count ||
        fclose(file) != 0)
        die(path, strerror(errno));
}

/* ---- writing --------------------------------------------------------------- */

/* ENOTCONN is what libnbd ends commands with when the server goes away. */
static void note_error(struct client *client, int error)
{
    if (error != 0 && error != ENOTCONN)
        client->error = error;
}

/* libnbd calls it when a write has ended, and for all of them when the server went away. */
static int write_done(void *user_data, int *error)
{
    struct slot *slot = user_data;
    struct client *client = slot->client;

    for (uint64_t block = slot->block; block < slot->block + slot->block_count; block++) {
        struct versions *versions = &client->blocks[block];

        client->block_busy[block] = false;
        if (*error == 0) {
            versions->acknowledged = versions->sent;
            if (slot->fua)
                versions->durable = versions->sent;
        }
    }
    note_error(client, *error);
    slot->busy = false;
    client->in_flight--;
    return 1;
}

static int flush_done(void *user_data, int *error)
{
    struct client *client = user_data;

    for (uint64_t i = 0; *error == 0 && i < client->record.block_count; i++) {
        struct versions *versions = &client->blocks[i];

        /* A FUA write may have gone further meanwhile. */
        if (versions->at_flush > versions->durable)
            versions->durable = versions->at_flush;
    }
    if (*error == 0)
        client->flushes++;
    note_error(client, *error);
    client->flushing = false;
    client->in_flight--;
    return 1;
}

/* A flush covers what was acknowledged before it was sent, and nothing else. */
static bool send_flush(struct client *client)
{
    for (uint64_t i = 0; i < client->record.block_count; i++)
        client->blocks[i].at_flush = client->blocks[i].acknowledged;
    client->flushing = true;
    client->in_flight++;
    if (nbd_aio_flush(client->nbd,
                      (nbd_completion_callback){.callback = flush_done, .user_data = client},
                      0) < 0) {
        client->flushing = false;
        client->in_flight--;
        return false;
    }
    return true;
}

/* Returns false if the server has gone. */
static bool send_write(struct client *client, struct slot *slot)
{
    uint64_t count = 1;

    /* Most writes are of one block. */
    if (sim_random_below(&client->random, 4) == 0)
        count += sim_random_below(&client->random, WRITE_BLOCKS_MAX);
    if (count > WRITE_BLOCKS_MAX)
        count = WRITE_BLOCKS_MAX;
    slot->block =
        sim_random_below(&client->random, (uint32_t)(client->record.block_count - count + 1));
    slot->block_count = (uint32_t)count;
    slot->fua = sim_random_below(&client->random, WRITES_PER_FUA) == 0;

    /* Of two writes to a block in flight either may win, so send one at a time. */
    for (uint64_t i = 0; i < count; i++)
        if (client->block_busy[slot->block + i])
            return true;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t block = slot->block + i;

        client->block_busy[block] = true;
        content_fill(slot->data + i * BLOCK_BYTES, client->record.seed, block,
                     ++client->blocks[block].sent);
    }
    slot->busy = true;
    client->in_flight++;
    client->writes++;
    client->written_blocks += count;
    if (nbd_aio_pwrite(client->nbd, slot->data, count * BLOCK_BYTES,
                       client->record.offset + slot->block * BLOCK_BYTES,
                       (nbd_completion_callback){.callback = write_done, .user_data = slot},
                       slot->fua ? LIBNBD_CMD_FLAG_FUA : 0) < 0) {
        slot->busy = false;
        client->in_flight--;
        return false;
    }
    return true;
}

static bool connected(const struct client *client)
{
    return !nbd_aio_is_dead(client->nbd) && !nbd_aio_is_closed(client->nbd);
}

/* Keeps DEPTH commands in flight until the deadline. */
static void write_until(struct client *client, uint64_t deadline_ns)
{
    while (connected(client) && client->error == 0) {
        bool sending = clock_ns() < deadline_ns;

        for (unsigned i = 0; sending && i < DEPTH && connected(client); i++)
            if (!client->slots[i].busy)
                sending = send_write(client, &client->slots[i]);
        if (sending && !client->flushing &&
            sim_random_below(&client->random, WRITES_PER_FLUSH) < DEPTH / 4)
            sending = send_flush(client);
        if (!connected(client) || client->in_flight == 0)
            break;
        /* -1: the connection broke; the loop's condition sees it. */
        nbd_poll(client->nbd, 1000);
    }
}

static struct nbd_handle *connect_to(const char *uri)
{
    struct nbd_handle *nbd = nbd_create();

    if (nbd == NULL || nbd_connect_uri(nbd, uri) < 0)
        die_nbd(uri);
    return nbd;
}

static int command_write(char **arguments)
{
    const char *record_path = arguments[1];
    uint64_t offset = strtoull(arguments[2], NULL, 0);
    uint64_t bytes = strtoull(arguments[3], NULL, 0);
    double seconds = strtod(arguments[4], NULL);
    uint64_t seed = strtoull(arguments[5], NULL, 0);
    struct client client = {.random = {seed}};
    uint64_t begin_ns;

    if (!record_load(&client, record_path)) {
        client.record = (struct record){RECORD_MAGIC, seed, offset, bytes / BLOCK_BYTES};
        blocks_allocate(&client);
    }
    if (client.record.block_count < WRITE_BLOCKS_MAX)
        die(arguments[3], "too small a part to write to");
    for (unsigned i = 0; i < DEPTH; i++) {
        client.slots[i].client = &client;
        client.slots[i].data = malloc((size_t)WRITE_BLOCKS_MAX * BLOCK_BYTES);
        if (client.slots[i].data == NULL)
            die("memory", strerror(ENOMEM));
    }
    client.nbd = connect_to(arguments[0]);
    begin_ns = clock_ns();
    write_until(&client, begin_ns + (uint64_t)(seconds * 1e9));
    /* What was in flight when the server went away stays sent and not acknowledged. */
    record_save(&client, record_path);
    printf("writes=%" PRIu64 " blocks=%" PRIu64 " flushes=%" PRIu64 " seconds=%.3f ended=%s\n",
           client.writes, client.written_blocks, client.flushes,
           (double)(clock_ns() - begin_ns) / 1e9,
           client.error != 0    ? strerror(client.error)
           : connected(&client) ? "in-time"
                                : "server-gone");
    fflush(stdout);
    /* The rest of the process's memory goes with the process; callbacks must not run now. */
    _Exit(client.error != 0 ? 1 : 0);
}

/* ---- verifying ------------------------------------------------------------- */

struct verdict {
    uint64_t bad;       /* not a legal version, torn or foreign */
    uint64_t lost;      /* older than one that was flushed */
    uint64_t unflushed; /* newer versions were sent and never flushed, and are gone */
};

static void verify_block(struct client *client, uint64_t block, const unsigned char *data,
                         struct verdict *verdict)
{
    struct versions *versions = &client->blocks[block];
    uint32_t found = content_version(data);
    const char *fault = NULL;

    if (!content_equal(data, client->record.seed, block, found)) {
        fault = "torn or foreign content";
        verdict->bad++;
    } else if (found < versions->durable) {
        fault = "a flushed write is lost";
        verdict->lost++;
    } else if (found > versions->sent) {
        fault = "a version that was never written";
        verdict->bad++;
    } else if (found < versions->acknowledged) {
        verdict->unflushed++;
    }
    if (fault != NULL && verdict->bad + verdict->lost <= REPORTED_ERRORS)
        fprintf(stderr,
                "crash-client: block %" PRIu64 " at %" PRIu64 ": %s: found version %" PRIu32
                ", flushed %" PRIu32 ", acknowledged %" PRIu32 ", sent %" PRIu32 "\n",
                block, client->record.offset + block * BLOCK_BYTES, fault, found, versions->durable,
                versions->acknowledged, versions->sent);
    if (fault == NULL)
        *versions = (struct versions){found, found, found, found};
}

static int command_verify(char **arguments)
{
    struct client client = {0};
    struct verdict verdict = {0};
    unsigned char *data = malloc(READ_BYTES_MAX);
    uint64_t flushed = 0;

    if (data == NULL)
        die("memory", strerror(ENOMEM));
    if (!record_load(&client, arguments[1]))
        die(arguments[1], strerror(ENOENT));
    client.nbd = connect_to(arguments[0]);
    for (uint64_t block = 0; block < client.record.block_count;) {
        uint64_t count = client.record.block_count - block;

        if (count > READ_BYTES_MAX / BLOCK_BYTES)
            count = READ_BYTES_MAX / BLOCK_BYTES;
        if (nbd_pread(client.nbd, data, count * BLOCK_BYTES,
                      client.record.offset + block * BLOCK_BYTES, 0) < 0)
            die_nbd("read");
        for (uint64_t i = 0; i < count; i++) {
            flushed += client.blocks[block + i].durable != 0;
            verify_block(&client, block + i, data + i * BLOCK_BYTES, &verdict);
        }
        block += count;
    }
    if (verdict.bad == 0 && verdict.lost == 0)
        record_save(&client, arguments[1]);
    printf("blocks=%" PRIu64 " flushed=%" PRIu64 " lost=%" PRIu64 " bad=%" PRIu64
           " unflushed_lost=%" PRIu64 "\n",
           client.record.block_count, flushed, verdict.lost, verdict.bad, verdict.unflushed);
    nbd_shutdown(client.nbd, 0);
    nbd_close(client.nbd);
    free(data);
    free(client.blocks);
    free(client.block_busy);
    return verdict.bad == 0 && verdict.lost == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 8 && strcmp(argv[1], "write") == 0)
        return command_write(argv + 2);
    if (argc == 4 && strcmp(argv[1], "verify") == 0)
        return command_verify(argv + 2);
    fprintf(stderr, "usage: crash-client write URI RECORD OFFSET BYTES SECONDS SEED\n"
                    "       crash-client verify URI RECORD\n");
    return 2;
}
