/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests through the whole of the cache: a file as flash, a file as backing store, two cores.
 *
 * Clients on both cores send random requests, each within an area of its own, and keep a model of
 * what must be there.  The cache is much smaller than the areas together.
 */
#include "io/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hash.h"
#include "common/uuid.h"
#include "io/request.h"
#include "tests/unit/io-cores.h"

#define CLIENTS      8u
#define AREA_BYTES   (12u << 20)
#define VOLUME_BYTES (CLIENTS * AREA_BYTES + 1536)
#define FLASH_BYTES  (48u << 20)
#define LENGTH_MAX   (1u << 20)

static char directory[64], flash[80], image[80];
static struct cache *cache;
static struct volume *volume;

/* ---- a cache ------------------------------------------------------------------------------ */

static void make_file(const char *path, uint64_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)bytes), 0);
    close(fd);
}

static void format(void)
{
    struct superblock_geometry geometry = {
        .device_bytes = FLASH_BYTES, .segment_bytes = 256 << 10, .cores = 1};
    struct superblock *block = calloc(1, sizeof(*block));
    struct uuid uuid;
    char why[256] = "";
    int fd = open(flash, O_RDWR);

    ck_assert_int_eq(uuid_generate(&uuid), 0);
    ck_assert_msg(superblock_init(block, &geometry, uuid.bytes, why, sizeof(why)) == 0, "%s", why);
    for (unsigned copy = 0; copy < 2; copy++) {
        superblock_seal(block);
        ck_assert_int_eq(pwrite(fd, block, sizeof(*block), (off_t)superblock_offset(block, copy)),
                         sizeof(*block));
    }
    close(fd);
    free(block);
}

static void set_up(void)
{
    snprintf(directory, sizeof(directory), "/tmp/io-cache-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(flash, sizeof(flash), "%s/flash", directory);
    snprintf(image, sizeof(image), "%s/image", directory);
    make_file(flash, FLASH_BYTES);
    make_file(image, VOLUME_BYTES);
    format();
}

static void tear_down(void)
{
    char command[100];

    cores_stop();
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static int try_open(uint8_t mode, char *why, size_t why_bytes)
{
    static const unsigned cores[] = {0, 0};
    struct cache_volume_config volumes[] = {
        {.name = "test", .backing = image, .mode = mode, .nbd = true, .ublk = -1}};
    struct cache_config config = {
        .flash = flash,
        .ram_bytes = 4 << 20,
        .state_dir = directory,
        .cores = cores,
        .core_count = 2,
        .volumes = volumes,
        .volume_count = 1,
        .buffer_bytes = 32 << 20,
    };
    int error = cache_open(&cache, &config, why, why_bytes);

    if (!error)
        error = cache_start(cache, why, why_bytes);
    return error;
}

static void open_cache(uint8_t mode)
{
    char why[512] = "";
    int error = try_open(mode, why, sizeof(why));

    ck_assert_msg(error == 0, "%s", why);
    volume = volume_find(cache, "test");
    ck_assert_ptr_eq(volume, volume_find(cache, ""));
    ck_assert_uint_eq(volume->bytes, VOLUME_BYTES);
}

static void close_cache(void)
{
    char why[512] = "";
    int error = cache_stop(cache, why, sizeof(why));

    ck_assert_msg(error == 0, "%s", why);
    cache_close(cache);
    cache = NULL;
}

/* Nothing is told to anyone: what a SIGKILL leaves. */
static void crash_cache(void)
{
    cores_stop();
    cache_close(cache);
    cache = NULL;
}

/* ---- clients ------------------------------------------------------------------------------ */

static struct client {
    struct call call;
    struct request request;
    struct core_buffer_waiter waiter;
    struct core *core;
    unsigned index, left;
    uint64_t random;
    bool only_read;
    unsigned char *model; /* of its area */
    unsigned char value;
    struct buffer given; /* memory of its own, of every third */
} clients[CLIENTS];

static uint64_t draw(struct client *client, uint64_t below)
{
    client->random = hash_mix64(client->random + UINT64_C(0x9e3779b97f4a7c15));
    return client->random % below;
}

static void next_request(struct client *client);

static void check_read(struct client *client)
{
    struct request *request = &client->request;
    static struct iovec vectors[2][REQUEST_VECTORS_MAX(LENGTH_MAX)];
    struct iovec *own = vectors[core_index(client->core)];
    const unsigned char *want =
        client->model + (request->offset - (uint64_t)client->index * AREA_BYTES);
    unsigned count = request_payload(request, own, REQUEST_VECTORS_MAX(request->length));
    uint64_t at = 0;

    for (unsigned i = 0; i < count; i++) {
        const unsigned char *got = own[i].iov_base;

        if (memcmp(got, want + at, own[i].iov_len) != 0) {
            uint64_t bad = 0;

            while (got[bad] == want[at + bad])
                bad++;
            ck_abort_msg("client %u: byte %" PRIu64 " (block %" PRIu64 ") is %02x, not %02x",
                         client->index, request->offset + at + bad,
                         (request->offset + at + bad) / BLOCK_BYTES, got[bad], want[at + bad]);
        }
        at += own[i].iov_len;
    }
    ck_assert_uint_eq(at, request->length);
}

static void done(struct request *request)
{
    struct client *client = container_of(request, struct client, request);

    ck_assert_msg(request->error == 0, "op %u: %s", request->op, strerror(-request->error));
    if (request->op == REQUEST_READ)
        check_read(client);
    request_release(request);
    if (request->given != NULL) /* nobody looks at it any more */
        memset(client->given.data - BLOCK_BYTES, 0xee, 2 * BLOCK_BYTES + request->length);
    if (--client->left == 0)
        io_cores_came();
    else
        next_request(client);
}

static void submit_write(struct client *client)
{
    struct request *request = &client->request;
    unsigned char *payload = request_buffer(request);
    uint64_t at = request->offset - (uint64_t)client->index * AREA_BYTES;

    if (payload == NULL) {
        core_buffer_wait(client->core, &client->waiter);
        return;
    }
    client->value = (unsigned char)(client->value % 255 + 1);
    memset(payload, client->value, request->length);
    for (uint64_t i = 0; i < request->length; i += 64)
        payload[i] = (unsigned char)draw(client, 256);
    memcpy(client->model + at, payload, request->length);
    request_submit(request);
}

static void buffer_ready(struct core *core, struct core_buffer_waiter *waiter)
{
    (void)core;
    submit_write(container_of(waiter, struct client, waiter));
}

/* A trim drops whole blocks, of which the last of the volume is one, too. */
static void model_zero(struct client *client, const struct request *request)
{
    uint64_t base = (uint64_t)client->index * AREA_BYTES;
    uint64_t start = request->offset - base, end = start + request->length;

    if (request->op == REQUEST_TRIM) {
        start = (start + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
        if (request->offset + request->length != VOLUME_BYTES)
            end = end / BLOCK_BYTES * BLOCK_BYTES;
    }
    if (start < end)
        memset(client->model + start, 0, end - start);
}

static void next_request(struct client *client)
{
    static const uint8_t ops[] = {REQUEST_READ,  REQUEST_READ,  REQUEST_READ, REQUEST_WRITE,
                                  REQUEST_WRITE, REQUEST_WRITE, REQUEST_ZERO, REQUEST_TRIM,
                                  REQUEST_CACHE, REQUEST_FLUSH};
    static const uint32_t units[] = {1, 512, 4096, 4096, 65536};
    struct request *request = &client->request;
    uint64_t bytes = AREA_BYTES + (client->index == CLIENTS - 1 ? 1536 : 0), unit, length, offset;

    unit = units[draw(client, sizeof(units) / sizeof(units[0]))];
    length = draw(client, 8) == 0 ? draw(client, LENGTH_MAX) + 1 : draw(client, 32768) + 1;
    length = (length + unit - 1) / unit * unit;
    length = length > LENGTH_MAX ? LENGTH_MAX : length;
    offset = draw(client, bytes - length + 1) / unit * unit;
    if (client->index == CLIENTS - 1 && draw(client, 20) == 0)
        offset = bytes - length; /* up to the end of the volume */
    request->volume = volume;
    request->core = client->core;
    request->op = client->only_read ? REQUEST_READ : ops[draw(client, sizeof(ops))];
    request->flags = 0;
    if (request->op >= REQUEST_WRITE && request->op <= REQUEST_TRIM && draw(client, 8) == 0)
        request->flags |= REQUEST_FUA;
    if (request->op == REQUEST_ZERO && draw(client, 2) == 0)
        request->flags |= REQUEST_NO_HOLE;
    request->offset = request->op == REQUEST_FLUSH ? 0 : client->index * AREA_BYTES + offset;
    request->length = request->op == REQUEST_FLUSH ? 0 : length;
    request->done = done;
    if (request->op == REQUEST_WRITE) {
        client->waiter.ready = buffer_ready;
        submit_write(client);
        return;
    }
    if (request->op == REQUEST_ZERO || request->op == REQUEST_TRIM)
        model_zero(client, request);
    request_submit(request);
}

static void begin(struct core *core, void *argument)
{
    struct client *client = argument;

    client->core = core;
    if (client->given.data != NULL) {
        unsigned char *memory = client->given.data - BLOCK_BYTES;

        client->request.given = &client->given;
        core_memory_forget(core, memory);
        core_memory_register(core, memory, client->given.bytes + BLOCK_BYTES);
    }
    next_request(client);
}

static void run_clients(unsigned requests)
{
    io_cores_expect(CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].left = requests;
        io_cores_call(i % 2, &clients[i].call, begin, &clients[i]);
    }
    io_cores_wait();
}

static void make_clients(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].index = i;
        clients[i].random = i + 1;
        clients[i].model = calloc(1, AREA_BYTES + 4096);
        if (i % 3 == 2) {
            clients[i].given.bytes = REQUEST_GIVEN_BYTES(LENGTH_MAX);
            clients[i].given.data =
                aligned_alloc(BLOCK_BYTES, BLOCK_BYTES + REQUEST_GIVEN_BYTES(LENGTH_MAX));
            clients[i].given.data += BLOCK_BYTES;
        }
    }
}

/* Every byte of the volume. */
static void next_scan(struct client *client)
{
    struct request *request = &client->request;

    request->volume = volume;
    request->core = client->core;
    request->op = REQUEST_READ;
    request->flags = 0;
    request->done = done;
    request->length = LENGTH_MAX;
    request->offset = client->index * AREA_BYTES + AREA_BYTES - client->left * LENGTH_MAX;
    request_submit(request);
}

static void scanned(struct request *request)
{
    struct client *client = container_of(request, struct client, request);

    ck_assert_int_eq(request->error, 0);
    check_read(client);
    request_release(request);
    if (--client->left == 0) {
        io_cores_came();
        return;
    }
    next_scan(client);
    client->request.done = scanned;
}

static void begin_scan(struct core *core, void *argument)
{
    struct client *client = argument;

    client->core = core;
    next_scan(client);
    client->request.done = scanned;
}

static void scan(void)
{
    io_cores_expect(CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].left = AREA_BYTES / LENGTH_MAX;
        io_cores_call((i + 1) % 2, &clients[i].call, begin_scan, &clients[i]);
    }
    io_cores_wait();
}

static void flushed(struct request *request)
{
    ck_assert_int_eq(request->error, 0);
    io_cores_came();
}

static void begin_flush(struct core *core, void *argument)
{
    struct request *request = argument;

    *request =
        (struct request){.volume = volume, .op = REQUEST_FLUSH, .done = flushed, .core = core};
    request_submit(request);
}

static void flush(void)
{
    static struct request request;
    struct call call;

    io_cores_expect(1);
    io_cores_call(0, &call, begin_flush, &request);
    io_cores_wait();
}

static void compare_backing(void)
{
    unsigned char *all = malloc(AREA_BYTES);
    int fd = open(image, O_RDONLY);

    for (unsigned i = 0; i < CLIENTS; i++) {
        ck_assert_int_eq(pread(fd, all, AREA_BYTES, (off_t)i * AREA_BYTES), AREA_BYTES);
        ck_assert(memcmp(all, clients[i].model, AREA_BYTES) == 0);
    }
    close(fd);
    free(all);
}

static void destage_all(void)
{
    for (unsigned i = 0; i < 20000 && cache_dirty_blocks(cache, VOLUME_ALL) > 0; i++) {
        cache_destage_all(cache, VOLUME_ALL);
        usleep(10000);
    }
    ck_assert_uint_eq(cache_dirty_blocks(cache, VOLUME_ALL), 0);
}

/* ---- tests -------------------------------------------------------------------------------- */

START_TEST(contents_are_right_in_every_mode)
{
    make_clients();
    open_cache((uint8_t)_i);
    run_clients(400);
    scan();
    flush();
    close_cache();
    /* Clean stop, and again with what it left. */
    open_cache((uint8_t)_i);
    scan();
    run_clients(200);
    flush();
    destage_all();
    scan();
    close_cache();
    compare_backing();
}
END_TEST

START_TEST(flushed_data_survive_a_crash)
{
    struct cache_facts facts;

    make_clients();
    for (unsigned round = 0; round < 4; round++) {
        open_cache(MODE_WRITE_BACK);
        cache_facts(cache, &facts);
        ck_assert_int_eq(facts.started_clean, round == 0);
        scan();
        run_clients(150);
        flush();
        crash_cache();
    }
    open_cache(MODE_WRITE_BACK);
    scan();
    destage_all();
    close_cache();
    compare_backing();
}
END_TEST

static int last_error;

static void answered(struct request *request)
{
    last_error = request->error;
    request_release(request);
    io_cores_came();
}

static void submit_bad(struct core *core, void *argument)
{
    struct request *request = argument;

    request->core = core;
    request->volume = volume;
    request->done = answered;
    request_submit(request);
}

static int answer(struct request *request)
{
    struct call call;

    io_cores_expect(1);
    io_cores_call(0, &call, submit_bad, request);
    io_cores_wait();
    return last_error;
}

START_TEST(bad_requests_are_answered)
{
    static struct request request;
    static const struct {
        uint8_t op;
        uint64_t offset, length;
        int error;
    } cases[] = {
        {REQUEST_READ, 0, 0, -EINVAL},
        {REQUEST_READ, VOLUME_BYTES, 1, -EINVAL},
        {REQUEST_READ, VOLUME_BYTES - 1, 2, -EINVAL},
        {REQUEST_READ, UINT64_MAX - 10, 11, -EINVAL},
        {REQUEST_READ, 0, REQUEST_BYTES_MAX + 1, -EINVAL},
        {REQUEST_WRITE, VOLUME_BYTES - 1, 2, -ENOSPC},
        {REQUEST_ZERO, VOLUME_BYTES - 1, 2, -ENOSPC},
        {REQUEST_TRIM, VOLUME_BYTES, 1, -EINVAL},
        {REQUEST_CACHE, 0, VOLUME_BYTES + 1, -EINVAL},
        {REQUEST_INVALIDATE, 0, VOLUME_BYTES + 1, -EINVAL},
        {REQUEST_INVALIDATE, 1, 100, 0},
        {17, 0, 1, -EINVAL},
        {REQUEST_TRIM, 1, 100, 0},
        {REQUEST_TRIM, 0, VOLUME_BYTES, 0},
        {REQUEST_ZERO, 0, VOLUME_BYTES, 0},
        {REQUEST_CACHE, 1, VOLUME_BYTES - 1, 0},
        {REQUEST_FLUSH, 0, 0, 0},
    };

    open_cache(MODE_WRITE_BACK);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&request, 0, sizeof(request));
        request.op = cases[i].op;
        request.offset = cases[i].offset;
        request.length = cases[i].length;
        ck_assert_msg(answer(&request) == cases[i].error, "case %u: %d", i, last_error);
    }
    volume->read_only = true;
    memset(&request, 0, sizeof(request));
    request.op = REQUEST_TRIM;
    request.length = 4096;
    ck_assert_int_eq(answer(&request), -EPERM);
    close_cache();
}
END_TEST

START_TEST(flash_that_is_not_a_cache_is_refused)
{
    char why[512] = "";

    make_file(flash, FLASH_BYTES);
    ck_assert_int_eq(try_open(MODE_WRITE_BACK, why, sizeof(why)), -ENODATA);
    ck_assert_ptr_nonnull(strstr(why, "blkcachectl format"));
    ck_assert_ptr_nonnull(strstr(why, flash));

    make_file(flash, 1000);
    ck_assert_int_eq(try_open(MODE_WRITE_BACK, why, sizeof(why)), -ENODATA);
}
END_TEST

START_TEST(a_shrunk_backing_store_is_refused)
{
    char why[512] = "";

    open_cache(MODE_WRITE_BACK);
    close_cache();
    ck_assert_int_eq(truncate(image, VOLUME_BYTES - 4096), 0);
    ck_assert_int_eq(try_open(MODE_WRITE_BACK, why, sizeof(why)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "shrank"));
}
END_TEST

/* The volume gets another flash: the one that was left behind is stale. */
START_TEST(a_flash_that_was_left_behind_is_refused)
{
    char why[512] = "", old[100];

    open_cache(MODE_WRITE_BACK);
    close_cache();
    snprintf(old, sizeof(old), "%s/old", directory);
    ck_assert_int_eq(rename(flash, old), 0);
    make_file(flash, FLASH_BYTES);
    format();
    open_cache(MODE_WRITE_BACK);
    close_cache();
    open_cache(MODE_WRITE_BACK);
    close_cache();
    ck_assert_int_eq(rename(old, flash), 0);
    ck_assert_int_eq(try_open(MODE_WRITE_BACK, why, sizeof(why)), -ESTALE);
    ck_assert_ptr_nonnull(strstr(why, "\"test\""));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-cache");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 300);
    tcase_add_loop_test(cases, contents_are_right_in_every_mode, MODE_WRITE_BACK,
                        MODE_PASS_THROUGH + 1);
    tcase_add_test(cases, flushed_data_survive_a_crash);
    tcase_add_test(cases, bad_requests_are_answered);
    tcase_add_test(cases, flash_that_is_not_a_cache_is_refused);
    tcase_add_test(cases, a_shrunk_backing_store_is_refused);
    tcase_add_test(cases, a_flash_that_was_left_behind_is_refused);
    return unit_run("io-cache", cases);
}
