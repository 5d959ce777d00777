/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD server over a file that fails as it is told: backing store, or (through nbdfuse) flash of
 * the tests of failures.
 *
 *   nbd-fault-server [--volatile] [--rules PATH] FILE ADDRESS
 *
 * --volatile: writes reach FILE only by a FLUSH or with FUA; what was not flushed is lost when the
 * server is killed.  The rules are read again whenever the file at PATH was replaced, one a line:
 *
 *   error OPS ERRNO [FIRST END]    answer so
 *   delay OPS MILLISECONDS [FIRST END]
 *   hold  OPS [FIRST END]          do not answer before the rules change
 *
 * OPS is one or more of r (read), w (write), z (zero, trim) and f (flush); FIRST and END are bytes, an operation matches
 * when it touches one of [FIRST, END).  The first rule that matches counts.  Requests that are held
 * are looked at again under the new rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/list.h"
#include "common/log.h"
#include "io/extents.h"
#include "io/request.h"
#include "io/volume.h"
#include "tests/system/nbd-serve.h"

#define RULES_MAX 64u
#define WAIT_MAX  4096u
#define LOOK_NS   UINT64_C(10000000)

enum rule_kind {
    RULE_NONE,
    RULE_ERROR,
    RULE_DELAY,
    RULE_HOLD
};

struct rule {
    enum rule_kind kind;
    char ops[8];
    uint64_t value; /* errno, or milliseconds */
    uint64_t first, end;
};

struct waiting {
    struct request *request;
    uint64_t due_ns;
    bool held;
};

static struct volume volume = {.name = "fault", .nbd = true, .unnamed = true};
static int file = -1;
static unsigned char *memory;  /* of the file: shared, or private with --volatile */
static unsigned char *unsaved; /* by block, with --volatile */
static const char *rules_path;
static struct stat rules_seen;
static struct rule rules[RULES_MAX];
static unsigned rule_count;
static struct waiting waiting[WAIT_MAX];
static unsigned waiting_count;
static struct core_timer timer;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "nbd-fault-server: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- rules -------------------------------------------------------------------------------- */

static void rule_parse(const char *line)
{
    static const char *const words[] = {
        [RULE_ERROR] = "error", [RULE_DELAY] = "delay", [RULE_HOLD] = "hold"};
    struct rule rule = {.end = UINT64_MAX};
    uint64_t numbers[3] = {0};
    char word[8] = "";
    int got = sscanf(line, "%7s %7s %" SCNu64 " %" SCNu64 " %" SCNu64, word, rule.ops, &numbers[0],
                     &numbers[1], &numbers[2]);
    int range = 2; /* where it begins */

    for (unsigned i = RULE_ERROR; i <= RULE_HOLD; i++)
        if (strcmp(word, words[i]) == 0)
            rule.kind = (enum rule_kind)i;
    if (rule.kind == RULE_ERROR || rule.kind == RULE_DELAY) {
        rule.value = numbers[0];
        range = 3;
    }
    if (rule.kind == RULE_NONE || (got != range && got != range + 2) || rule_count == RULES_MAX) {
        fprintf(stderr, "nbd-fault-server: no rule: %s", line);
        exit(2);
    }
    if (got > range) {
        rule.first = numbers[range - 2];
        rule.end = numbers[range - 1];
    }
    rules[rule_count++] = rule;
}

/* True when they have changed. */
static bool rules_load(void)
{
    struct stat now;
    char line[128];
    FILE *stream;

    if (rules_path == NULL || stat(rules_path, &now) != 0)
        memset(&now, 0, sizeof(now));
    if (now.st_ino == rules_seen.st_ino && now.st_mtim.tv_sec == rules_seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == rules_seen.st_mtim.tv_nsec)
        return false;
    rules_seen = now;
    rule_count = 0;
    stream = now.st_ino != 0 ? fopen(rules_path, "re") : NULL;
    while (stream != NULL && fgets(line, sizeof(line), stream) != NULL)
        rule_parse(line);
    if (stream != NULL)
        fclose(stream);
    return true;
}

static const struct rule *rule_for(const struct request *request)
{
    static const char ops[] = {[REQUEST_READ] = 'r', [REQUEST_WRITE] = 'w', [REQUEST_ZERO] = 'z',
                               [REQUEST_TRIM] = 'z', [REQUEST_FLUSH] = 'f', [REQUEST_CACHE] = 'r'};

    for (unsigned i = 0; i < rule_count; i++) {
        const struct rule *rule = &rules[i];

        if (strchr(rule->ops, ops[request->op]) == NULL)
            continue;
        if (request->op == REQUEST_FLUSH ||
            (request->offset < rule->end && rule->first < request->offset + request->length))
            return rule;
    }
    return NULL;
}

/* ---- content ------------------------------------------------------------------------------ */

static void save(uint64_t offset, uint64_t length)
{
    if (unsaved == NULL || length == 0)
        return;
    for (uint64_t block = offset / BLOCK_BYTES; block <= (offset + length - 1) / BLOCK_BYTES;
         block++) {
        uint64_t at = block * BLOCK_BYTES;
        uint64_t bytes = volume.bytes - at < BLOCK_BYTES ? volume.bytes - at : BLOCK_BYTES;

        if (unsaved[block] && pwrite(file, memory + at, bytes, (off_t)at) != (ssize_t)bytes)
            die("writing the file");
        unsaved[block] = 0;
    }
}

static void change(const struct request *request)
{
    unsigned char *place = memory + request->offset;

    if (request->op == REQUEST_WRITE)
        memcpy(place, request->buffer->data + request->offset % BLOCK_BYTES, request->length);
    else
        memset(place, 0, request->length);
    if (unsaved != NULL)
        memset(unsaved + request->offset / BLOCK_BYTES, 1,
               (request->offset + request->length - 1) / BLOCK_BYTES -
                   request->offset / BLOCK_BYTES + 1);
    if (request->flags & REQUEST_FUA)
        save(request->offset, request->length);
}

static void finish(struct request *request, int error)
{
    request->error = error;
    request->error_offset = request->offset;
    if (error == 0 && request->op == REQUEST_FLUSH)
        save(0, volume.bytes);
    else if (error == 0 && request->op != REQUEST_READ && request->op != REQUEST_CACHE)
        change(request);
    request->done(request);
}

static void wait_for(struct request *request, uint64_t due_ns, bool held)
{
    if (waiting_count == WAIT_MAX)
        abort();
    waiting[waiting_count++] = (struct waiting){request, due_ns, held};
    if (!timer.armed)
        core_timer_arm(request->core, &timer, core_now(request->core) + LOOK_NS);
}

static void apply(struct request *request)
{
    const struct rule *rule = rule_for(request);

    if (rule == NULL)
        finish(request, 0);
    else if (rule->kind == RULE_ERROR)
        finish(request, -(int)rule->value);
    else
        wait_for(request, core_now(request->core) + rule->value * 1000000, rule->kind == RULE_HOLD);
}

static void expired(struct core *core, struct core_timer *own)
{
    bool changed = rules_load();
    unsigned count = waiting_count, kept = 0;
    struct waiting *old = malloc(count * sizeof(*old));

    (void)own;
    if (old == NULL)
        abort();
    memcpy(old, waiting, count * sizeof(*old));
    waiting_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (old[i].held ? changed : core_now(core) >= old[i].due_ns)
            continue;
        waiting[waiting_count++] = old[i];
        old[i].request = NULL;
        kept++;
    }
    if (kept > 0)
        core_timer_arm(core, &timer, core_now(core) + LOOK_NS);
    for (unsigned i = 0; i < count; i++) {
        if (old[i].request == NULL)
            continue;
        if (old[i].held)
            apply(old[i].request);
        else
            finish(old[i].request, 0);
    }
    free(old);
}

/* ---- what io/ does otherwise -------------------------------------------------------------- */

unsigned volume_count(struct cache *cache)
{
    (void)cache;
    return 1;
}

struct volume *volume_at(struct cache *cache, unsigned index)
{
    (void)cache;
    return index == 0 ? &volume : NULL;
}

void request_submit(struct request *request)
{
    rules_load();
    apply(request);
}

unsigned request_payload(struct request *request, struct iovec *vectors, unsigned max)
{
    if (max == 0)
        abort();
    vectors[0] = (struct iovec){.iov_base = memory + request->offset, .iov_len = request->length};
    return 1;
}

unsigned request_runs(const struct request *request, struct request_run *runs, unsigned max)
{
    (void)request, (void)runs, (void)max;
    return 0; /* no zeros are known */
}

static void gather(struct core *core, struct core_message *message)
{
    struct extents *extents = container_of(message, struct extents, message);

    (void)core;
    extents->allocation = (struct extent_list){.extents = extents->lists[0], .max = 1};
    extents->state = (struct extent_list){.extents = extents->lists[1], .max = 1};
    extent_list_add(&extents->allocation, extents->length, 0);
    extent_list_add(&extents->state, extents->length, 0);
    extents->done(extents);
}

void extents_start(struct extents *extents)
{
    extents->message.handle = gather;
    core_message_send(extents->core, &extents->message);
}

/* ---- the program -------------------------------------------------------------------------- */

static void open_file(const char *path, bool is_volatile)
{
    struct stat status;

    file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0 || status.st_size == 0)
        die(path);
    volume.bytes = (uint64_t)status.st_size;
    memory = mmap(NULL, volume.bytes, PROT_READ | PROT_WRITE,
                  is_volatile ? MAP_PRIVATE : MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        die(path);
    if (is_volatile)
        unsaved = calloc(volume.bytes / BLOCK_BYTES + 1, 1);
}

static int serve(const char *address)
{
    struct cores_config cores = {.count = 1};
    struct nbd_server_config config = {.listen = &address, .listen_count = 1};

    if (nbd_serve(&cores, &config, NULL) != 0)
        return 1;
    save(0, volume.bytes);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"volatile", no_argument, NULL, 'v'},
                                            {"rules", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    bool is_volatile = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'v': is_volatile = true; break;
        case 'r': rules_path = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != 2) {
        fputs("Usage: nbd-fault-server [--volatile] [--rules PATH] FILE ADDRESS\n", stderr);
        return 2;
    }
    log_init();
    timer.expired = expired;
    open_file(argv[optind], is_volatile);
    return serve(argv[optind + 1]);
}
