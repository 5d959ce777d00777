/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD client that knows what may be left on the backing store alone when the cache in front of
 * it, with ordered destaging, is lost.
 *
 *     order-client URI BYTES SEED
 *
 * Sends random writes, trims, flushes and FUA writes to an export that is all zeros, until the
 * server goes away.  Then reads lines from standard input: for each it looks whether the file that
 * the line names could be what a disk with a volatile write cache left at some moment of what it
 * sent, and answers with one line: "legal", with how old it is at least, or why not.
 *
 * Exit status: 0 all were legal; 1 one was not, or a command failed; 2 wrong usage.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "engine/format.h"
#include "tests/sim/sim-alone.h"
#include "tests/sim/sim-random.h"

#define DEPTH            16u
#define WRITE_BLOCKS_MAX 16u
#define HOT_BLOCKS       64u /* half of the writes go there: blocks with versions in many epochs */

struct slot {
    struct client *client;
    bool busy, flush;
    uint64_t begun; /* of a flush */
    uint32_t write;
    unsigned char *data;
};

struct client {
    struct nbd_handle *nbd;
    struct alone *alone;
    struct content *content;
    struct slot slots[DEPTH];
    unsigned in_flight;
    struct sim_random random;
    uint64_t bytes, next_id, writes, flushes;
    int error;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "order-client: %s: %s\n", what, why);
    exit(1);
}

/* ---- writing ------------------------------------------------------------------------------- */

/* libnbd calls it when a command has ended, and for all of them when the server went away. */
static int ended(void *user_data, int *error)
{
    struct slot *slot = user_data;
    struct client *client = slot->client;

    if (*error != 0 && *error != ENOTCONN)
        client->error = *error;
    if (slot->flush)
        alone_flush_end(client->alone, clock_ns(), slot->begun, *error);
    else if (*error == 0)
        alone_write_end(client->alone, clock_ns(), slot->write, 0);
    slot->busy = false;
    client->in_flight--;
    return 1;
}

static int send_flush(struct client *client, struct slot *slot)
{
    slot->flush = true;
    slot->begun = alone_flush_begin(client->alone, clock_ns());
    client->flushes++;
    return nbd_aio_flush(client->nbd,
                         (nbd_completion_callback){.callback = ended, .user_data = slot}, 0) < 0
               ? -1
               : 0;
}

/* Whole sectors; most of them whole blocks. */
static void choose(struct client *client, uint64_t *offset, uint64_t *length)
{
    uint64_t blocks = client->bytes / BLOCK_BYTES, count = 1, block;

    if (sim_random_below(&client->random, 4) == 0)
        count += sim_random_below(&client->random, WRITE_BLOCKS_MAX - 1);
    if (sim_random_below(&client->random, 2) == 0)
        block = sim_random_below(&client->random, HOT_BLOCKS) * (blocks / HOT_BLOCKS);
    else
        block = sim_random_below(&client->random, (uint32_t)blocks);
    if (count > blocks - block)
        count = blocks - block;
    *offset = block * BLOCK_BYTES;
    *length = count * BLOCK_BYTES;
    if (sim_random_below(&client->random, 10) == 0) {
        *offset += SECTOR_BYTES * (1 + sim_random_below(&client->random, 7));
        *length = SECTOR_BYTES;
    }
}

static int send_write(struct client *client, struct slot *slot)
{
    bool trim = sim_random_below(&client->random, 40) == 0;
    uint32_t fua = sim_random_below(&client->random, 20) == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
    uint32_t id = trim ? CONTENT_ZEROS : (uint32_t)client->next_id++;
    nbd_completion_callback callback = {.callback = ended, .user_data = slot};
    uint64_t offset, length;

    choose(client, &offset, &length);
    if (trim)
        offset -= offset % BLOCK_BYTES, length = (length + BLOCK_BYTES - 1) & ~(BLOCK_BYTES - 1u);
    slot->flush = false;
    client->writes++;
    slot->write = alone_write_begin(client->alone, clock_ns(), offset, length, id, fua != 0);
    if (trim)
        return nbd_aio_trim(client->nbd, length, offset, callback, fua) < 0 ? -1 : 0;
    for (uint64_t i = 0; i < length / SECTOR_BYTES; i++)
        content_fill(client->content, slot->data + i * SECTOR_BYTES, 0, offset / SECTOR_BYTES + i,
                     id);
    return nbd_aio_pwrite(client->nbd, slot->data, length, offset, callback, fua) < 0 ? -1 : 0;
}

static bool connected(const struct client *client)
{
    return !nbd_aio_is_dead(client->nbd) && !nbd_aio_is_closed(client->nbd);
}

static void write_until_gone(struct client *client)
{
    while (connected(client) && client->error == 0) {
        for (unsigned i = 0; i < DEPTH && connected(client); i++) {
            struct slot *slot = &client->slots[i];

            if (slot->busy)
                continue;
            slot->busy = true;
            client->in_flight++;
            if ((sim_random_below(&client->random, 16) == 0 ? send_flush(client, slot)
                                                            : send_write(client, slot)) < 0) {
                slot->busy = false;
                client->in_flight--;
            }
        }
        nbd_poll(client->nbd, 1000);
    }
}

/* ---- checking ------------------------------------------------------------------------------ */

static void load(const char *path, unsigned char *image, uint64_t bytes)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL || fread(image, 1, bytes, file) != bytes)
        die(path, "cannot be read");
    fclose(file);
}

static bool check(struct client *client, const char *path, uint64_t killed_ns)
{
    unsigned char *image = malloc(client->bytes);
    struct alone_age age;
    char why[300];
    bool good;

    if (image == NULL)
        die("memory", strerror(ENOMEM));
    load(path, image, client->bytes);
    good = alone_check(client->alone, client->content, 0, image, false, killed_ns, &age, why,
                       sizeof(why));
    if (good)
        printf("legal: %" PRIu64 " epochs and %.3f s old after %" PRIu64 " writes and %" PRIu64
               " flushes\n",
               age.boundaries, (double)age.ns / 1e9, client->writes, client->flushes);
    else
        printf("NOT LEGAL: %s\n", why);
    fflush(stdout);
    free(image);
    return good;
}

int main(int argc, char **argv)
{
    struct client client = {.next_id = 1};
    char path[4096];
    uint64_t killed_ns;
    bool good = true;

    if (argc != 4) {
        fprintf(stderr, "usage: order-client URI BYTES SEED\n");
        return 2;
    }
    client.bytes = strtoull(argv[2], NULL, 0);
    client.random.state = strtoull(argv[3], NULL, 0);
    client.content = content_create();
    client.alone = alone_create();
    alone_reset(client.alone, client.bytes);
    for (unsigned i = 0; i < DEPTH; i++) {
        client.slots[i].client = &client;
        client.slots[i].data = malloc((size_t)WRITE_BLOCKS_MAX * BLOCK_BYTES);
        if (client.slots[i].data == NULL)
            die("memory", strerror(ENOMEM));
    }
    client.nbd = nbd_create();
    if (client.nbd == NULL || nbd_connect_uri(client.nbd, argv[1]) < 0)
        die(argv[1], nbd_get_error());
    write_until_gone(&client);
    if (client.error != 0)
        die("a command failed", strerror(client.error));
    killed_ns = clock_ns();
    alone_crash(client.alone, killed_ns);
    while (fgets(path, sizeof(path), stdin) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        good &= check(&client, path, killed_ns);
    }
    fflush(stdout);
    _Exit(good ? 0 : 1); /* callbacks must not run now */
}
