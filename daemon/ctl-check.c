/* SPDX-License-Identifier: Apache-2.0 */
/* blkcachectl check: verifies a flash image. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"
#include "common/uuid.h"
#include "daemon/ctl.h"
#include "daemon/image-check.h"
#include "daemon/progress.h"

/* More are counted, not listed. */
#define PROBLEMS_LISTED_MAX 1000

struct listing {
    const char *path;
    struct progress progress;
    json_t *problems; /* NULL: print them */
    unsigned listed;
};

/* ---- problems ------------------------------------------------------------------------------- */

static json_t *problem_json(const struct image_problem *problem)
{
    json_t *object =
        json_pack("{s:s, s:I}", "what", problem->what, "offset", (json_int_t)problem->offset);

    if (problem->segment != IMAGE_NOWHERE)
        json_object_set_new(object, "segment", json_integer(problem->segment));
    if (problem->slot != IMAGE_NOWHERE)
        json_object_set_new(object, "slot", json_integer(problem->slot));
    return object;
}

static void problem_print(const char *path, const struct image_problem *problem)
{
    printf("%s: ", path);
    if (problem->segment == IMAGE_NOWHERE)
        printf("superblock");
    else if (problem->slot == IMAGE_NOWHERE)
        printf("segment %" PRIu32, problem->segment);
    else
        printf("segment %" PRIu32 ", slot %" PRIu32, problem->segment, problem->slot);
    printf(" at byte %" PRIu64 ": %s\n", problem->offset, problem->what);
}

static void problem_list(struct image_check *check, const struct image_problem *problem)
{
    struct listing *listing = check->opaque;

    if (listing->listed++ >= PROBLEMS_LISTED_MAX)
        return;
    progress_end(&listing->progress);
    if (listing->problems != NULL)
        json_array_append_new(listing->problems, problem_json(problem));
    else
        problem_print(listing->path, problem);
}

static void progress_show(struct image_check *check, uint32_t segments_done)
{
    struct listing *listing = check->opaque;
    uint64_t segment_bytes = check->image->sb->segment_bytes;

    progress_bytes(&listing->progress, segments_done * segment_bytes,
                   image_segments(check->image) * segment_bytes);
}

/* ---- the result ------------------------------------------------------------------------------ */

static enum ctl_exit tell_json(const struct image_check *check, const char *uuid)
{
    const struct superblock *sb = check->image->sb;
    const struct image_counts *counts = &check->counts;
    struct listing *listing = check->opaque;
    json_t *root = json_pack(
        "{s:s, s:s, s:b, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
        "path", listing->path, "uuid", uuid, "stopped_cleanly",
        (int)((sb->flags & SUPERBLOCK_CLEAN) != 0), "session", (json_int_t)sb->session, "bytes",
        (json_int_t)sb->device_bytes, "segments", "total", (json_int_t)counts->segments, "closed",
        (json_int_t)counts->closed, "open", (json_int_t)counts->open, "empty",
        (json_int_t)counts->empty, "retired", (json_int_t)counts->retired, "batches",
        (json_int_t)counts->batches, "entries", (json_int_t)counts->entries, "data_blocks",
        (json_int_t)counts->data_blocks, "unfinished", (json_int_t)counts->unfinished, "poisoned",
        (json_int_t)counts->poisoned, "problem_count", (json_int_t)counts->problems, "problems",
        listing->problems);
    enum ctl_exit printed = ctl_print_json(root);

    return printed != CTL_DONE ? printed : counts->problems ? CTL_FAILED : CTL_DONE;
}

static enum ctl_exit tell_person(const struct image_check *check, const char *uuid)
{
    const struct superblock *sb = check->image->sb;
    const struct image_counts *counts = &check->counts;
    const struct listing *listing = check->opaque;
    char size[SIZE_TEXT_BYTES], data[SIZE_TEXT_BYTES];

    if (listing->listed > PROBLEMS_LISTED_MAX)
        printf("%s: and %u more\n", listing->path, listing->listed - PROBLEMS_LISTED_MAX);
    printf("%s: cache %s, %s, %s\n", listing->path, uuid, size_print_human(size, sb->device_bytes),
           sb->flags & SUPERBLOCK_CLEAN ? "stopped cleanly" : "not stopped cleanly");
    printf("  segments   %" PRIu64 ": %" PRIu64 " closed, %" PRIu64 " open, %" PRIu64
           " empty, %" PRIu64 " retired\n",
           counts->segments, counts->closed, counts->open, counts->empty, counts->retired);
    printf("  records    %" PRIu64 " in %" PRIu64 " batches, %s of data verified\n",
           counts->entries, counts->batches,
           size_print_human(data, counts->data_blocks * BLOCK_BYTES));
    if (counts->unfinished > 0)
        printf("  unfinished %" PRIu64 " writes that a crash cut off: harmless\n",
               counts->unfinished);
    if (counts->poisoned > 0)
        printf("  poisoned   %" PRIu64 " blocks that the cache knows to be lost\n",
               counts->poisoned);
    if (counts->problems > 0)
        printf("  problems   %" PRIu64 "\n", counts->problems);
    else
        printf("  problems   none\n");
    return counts->problems ? CTL_FAILED : CTL_DONE;
}

static enum ctl_exit check_image(struct ctl *ctl, struct image *image, const char *path,
                                 const char *what)
{
    struct listing listing = {.path = path, .problems = ctl->json ? json_array() : NULL};
    struct image_check check = {
        .image = image, .problem = problem_list, .progress = progress_show, .opaque = &listing};
    char uuid[UUID_TEXT_BYTES];
    struct uuid id;
    int error;

    memcpy(id.bytes, image->sb->uuid, sizeof(id.bytes));
    uuid_print(uuid, &id);
    progress_begin(&listing.progress, "checking", ctl->terminal);
    error = image_check(&check);
    progress_end(&listing.progress);
    if (error) {
        json_decref(listing.problems);
        return ctl_fail(what, "%s", strerror(-error));
    }
    return ctl->json ? tell_json(&check, uuid) : tell_person(&check, uuid);
}

enum ctl_exit ctl_check_run(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    char why[IMAGE_WHY_BYTES], what[PATH_MAX + 16];
    struct image image;
    enum ctl_exit result;
    const char *path;

    if (ctl_option(ctl, verb, argc, argv, NULL) != -1 || !ctl_arguments(verb, argc, 1, 1))
        return CTL_USAGE;
    path = argv[optind];
    snprintf(what, sizeof(what), "check %s", path);
    if (image_open(&image, path, false, why) != 0)
        return ctl_fail(what, "%s", why);
    result =
        image.sb != NULL ? check_image(ctl, &image, path, what) : ctl_fail(what, "%s", image.why);
    image_close(&image);
    return result;
}
