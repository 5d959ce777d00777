/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl format: prepares a flash device or file. */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/size.h"
#include "common/uuid.h"
#include "daemon/ctl.h"
#include "daemon/target.h"
#include "engine/superblock.h"

struct format {
    const char *path;
    bool force, quick;
    uint64_t segment_bytes, bytes;
    uint32_t shards;
};

/* ---- the command line ------------------------------------------------------------------------ */

static bool size_option(const struct ctl_verb *verb, const char *option, uint64_t *bytes)
{
    if (size_parse(optarg, bytes) == 0 && *bytes > 0)
        return true;
    ctl_misused(verb, "%s: \"%s\" is not a size such as 8M or 100G", option, optarg);
    return false;
}

static bool shards_option(const struct ctl_verb *verb, uint32_t *shards)
{
    char *end;
    unsigned long value = strtoul(optarg, &end, 10);

    if (*optarg >= '0' && *optarg <= '9' && *end == '\0' && value > 0 && value <= SHARDS_MAX) {
        *shards = (uint32_t)value;
        return true;
    }
    ctl_misused(verb, "--shards: \"%s\" is not a number from 1 to %u", optarg, SHARDS_MAX);
    return false;
}

static bool parse(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv,
                  struct format *format)
{
    enum {
        FORCE = 1,
        QUICK,
        SEGMENT_SIZE,
        SHARDS,
        SIZE
    };
    static const struct option options[] = {
        {"force", no_argument, NULL, FORCE},
        {"quick", no_argument, NULL, QUICK},
        {"segment-size", required_argument, NULL, SEGMENT_SIZE},
        {"shards", required_argument, NULL, SHARDS},
        {"size", required_argument, NULL, SIZE},
        {NULL, 0, NULL, 0},
    };
    bool right = true;
    int option;

    while (right && (option = ctl_option(ctl, verb, argc, argv, options)) != -1) {
        switch (option) {
        case FORCE: format->force = true; break;
        case QUICK: format->quick = true; break;
        case SEGMENT_SIZE:
            right = size_option(verb, "--segment-size", &format->segment_bytes);
            break;
        case SHARDS: right = shards_option(verb, &format->shards); break;
        case SIZE: right = size_option(verb, "--size", &format->bytes); break;
        default: right = false; break;
        }
    }
    if (!right || !ctl_arguments(verb, argc, 1, 1))
        return false;
    format->path = argv[optind];
    return true;
}

/* ---- the work ------------------------------------------------------------------------------- */

static uint32_t usable_cores(void)
{
    cpu_set_t usable;

    return sched_getaffinity(0, sizeof(usable), &usable) == 0 ? (uint32_t)CPU_COUNT(&usable) : 1;
}

/* The superblock to be, before anything is touched: an impossible geometry costs no data. */
static int plan(const struct format *format, uint64_t bytes, struct superblock *sb, char *why)
{
    struct superblock_geometry geometry = {
        .device_bytes = bytes,
        .segment_bytes = format->segment_bytes,
        .shards = format->shards,
        .cores = usable_cores(),
    };
    struct uuid uuid;
    int error = uuid_generate(&uuid);

    if (error) {
        snprintf(why, TARGET_WHY_BYTES, "no random numbers: %s", strerror(-error));
        return error;
    }
    return superblock_init(sb, &geometry, uuid.bytes, why, TARGET_WHY_BYTES);
}

static int refuse_overwriting(const struct target *target, char *why)
{
    char what[TARGET_WHY_BYTES];
    int holds = target_holds(target, what);

    if (holds < 0) {
        snprintf(why, TARGET_WHY_BYTES, "cannot find out what it holds: %s", strerror(-holds));
        return holds;
    }
    if (holds > 0) {
        snprintf(why, TARGET_WHY_BYTES, "it holds %.300s; --force destroys that", what);
        return -EEXIST;
    }
    return 0;
}

/* The cache that is there now: its dirty data are given up here and now, and the next start is told
 * so (docs/attachment.md). */
static void note_replaced(const struct target *target, struct superblock *sb)
{
    struct superblock *old = malloc(sizeof(*old));

    if (old != NULL && pread(target->fd, old, sizeof(*old), 0) == (ssize_t)sizeof(*old) &&
        superblock_check(old, target->bytes, NULL, 0) == 0)
        memcpy(sb->replaces, old->uuid, sizeof(sb->replaces));
    free(old);
}

static int work(const struct ctl *ctl, const struct format *format, struct target *target,
                struct superblock *sb, char *why)
{
    uint64_t wanted = format->bytes - format->bytes % BLOCK_BYTES;
    uint64_t bytes = wanted ? wanted : target->bytes;
    struct progress progress;
    int error = 0;

    if (!format->force && !target->created)
        error = refuse_overwriting(target, why);
    if (!error)
        error = plan(format, bytes, sb, why);
    if (error)
        return error;
    note_replaced(target, sb);
    progress_begin(&progress, "writing zeros", ctl->terminal);
    error = target_allocate(target, bytes, format->quick, &progress, why);
    return error ? error : target_write_superblocks(target, sb, why);
}

/* ---- the result ------------------------------------------------------------------------------ */

static enum ctl_exit tell(const struct ctl *ctl, const char *path, const struct superblock *sb)
{
    char uuid[UUID_TEXT_BYTES], size[SIZE_TEXT_BYTES], segment[SIZE_TEXT_BYTES];
    struct uuid id;

    memcpy(id.bytes, sb->uuid, sizeof(id.bytes));
    uuid_print(uuid, &id);
    if (ctl->json)
        return ctl_print_json(
            json_pack("{s:s, s:s, s:I, s:I, s:i, s:i}", "path", path, "uuid", uuid, "bytes",
                      (json_int_t)sb->device_bytes, "segment_bytes", (json_int_t)sb->segment_bytes,
                      "shards", sb->shard_count, "segments_per_shard", sb->segments_per_shard));
    printf("%s: formatted, %s, %u shards of %u segments of %s, UUID %s\n", path,
           size_print_human(size, sb->device_bytes), sb->shard_count, sb->segments_per_shard,
           size_print_human(segment, sb->segment_bytes), uuid);
    return CTL_DONE;
}

enum ctl_exit ctl_format_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    struct format format = {0};
    struct superblock *sb;
    struct target target;
    char why[TARGET_WHY_BYTES], what[PATH_MAX + 16];
    enum ctl_exit result;
    int error;

    if (!parse(ctl, verb, argc, argv, &format))
        return CTL_USAGE;
    snprintf(what, sizeof(what), "format %s", format.path);
    sb = malloc(sizeof(*sb));
    if (sb == NULL)
        return ctl_fail(what, "not enough memory");
    error = target_open(&target, format.path, format.bytes, why);
    if (!error) {
        error = work(ctl, &format, &target, sb, why);
        target_close(&target, error != 0);
    }
    result = error ? ctl_fail(what, "%s", why) : tell(ctl, format.path, sb);
    free(sb);
    return result;
}
