/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is behind "blkcachectl check" and "blkcachectl dump", on an image that the input describes
 * (fuzz-image.h), with changes in its superblocks.  Every part is looked at, and problems are told
 * only of places that are on the device.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "daemon/ctl.h"
#include "daemon/image-check.h"
#include "engine/superblock.h"
#include "tests/fuzz/fuzz-image.h"

#define SEGMENTS 64u

static struct fuzz_image image;
static struct superblock pristine;
static char path[64];
static int file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct superblock_geometry geometry = {.segment_bytes = FUZZ_SEGMENT_BYTES, .shards = 1};
    char why[160];

    (void)argc;
    (void)argv;
    fuzz_image_init(&image, SEGMENTS);
    geometry.device_bytes = image.bytes;
    FUZZ_CHECK(superblock_init(&pristine, &geometry, image.uuid, why, sizeof(why)) == 0, "%s", why);
    superblock_volume_add(&pristine, "one", image.uuid);
    superblock_volume_add(&pristine, "two", image.uuid);
    pristine.session = FUZZ_SESSION;
    superblock_seal(&pristine);
    /* First: what prints must not get the number of a standard stream that is closed. */
    FUZZ_CHECK(freopen("/dev/null", "we", stdout) != NULL, "no /dev/null");
    file = memfd_create("fuzz-image", 0);
    FUZZ_CHECK(file > STDERR_FILENO, "no memory file");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return 0;
}

static void superblock_place(uint64_t offset, struct fuzz_input *input)
{
    struct superblock *sb = (void *)(image.data + offset);
    uint8_t options = fuzz_u8(input);
    uint32_t crc;

    fuzz_image_touch(&image, offset, sizeof(*sb));
    *sb = pristine;
    for (unsigned i = 0; i < (options & 3); i++) {
        uint16_t at = fuzz_u16(input);
        size_t bytes = fuzz_u8(input) % 17;
        const uint8_t *data = fuzz_bytes(input, &bytes);

        memcpy((char *)sb + at, data, bytes > sizeof(*sb) - at ? sizeof(*sb) - at : bytes);
    }
    if (options & 4)
        sb->flags |= SUPERBLOCK_CLEAN;
    if (options & 128)
        return;
    sb->crc = 0;
    crc = crc32c(0, sb, sizeof(*sb));
    sb->crc = crc;
}

/* Only what was touched: the rest of the file is a hole. */
static void file_write(void)
{
    FUZZ_CHECK(ftruncate(file, 0) == 0 && ftruncate(file, (off_t)image.bytes) == 0,
               "the memory file cannot be sized");
    for (uint32_t i = 0; i < image.touched_count; i++) {
        uint64_t offset = (uint64_t)image.touched[i] * BLOCK_BYTES;

        FUZZ_CHECK(pwrite(file, image.data + offset, BLOCK_BYTES, (off_t)offset) == BLOCK_BYTES,
                   "the memory file cannot be written");
    }
}

static uint64_t problems;

static void problem(struct image_check *check, const struct image_problem *found)
{
    (void)check;
    problems++;
    FUZZ_CHECK(found->what != NULL && found->what[0] != '\0', "a problem without a sentence");
    FUZZ_CHECK(found->offset < image.bytes, "a problem outside of the device");
    FUZZ_CHECK(found->segment == IMAGE_NOWHERE || found->segment < SEGMENTS, "segment %u",
               found->segment);
    FUZZ_CHECK(found->slot == IMAGE_NOWHERE || found->slot < FUZZ_SLOTS, "slot %u", found->slot);
}

static void verbs_run(void)
{
    static const struct ctl_verb verb = {.name = "verb", .usage = "PATH", .offline = true};
    char *arguments[] = {(char[]){"verb"}, path, NULL};
    struct ctl ctl = {.json = false};

    optind = 0;
    ctl_dump_run(&ctl, &verb, 2, arguments);
    optind = 0;
    FUZZ_CHECK(ctl_check_run(&ctl, &verb, 2, arguments) == (problems ? CTL_FAILED : CTL_DONE),
               "check does not say what was found");
    ctl.json = true;
    optind = 0;
    FUZZ_CHECK(ctl_check_run(&ctl, &verb, 2, arguments) == (problems ? CTL_FAILED : CTL_DONE),
               "check --json does not say what was found");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, data + bytes};
    struct image_check check = {.problem = problem};
    char why[IMAGE_WHY_BYTES];
    struct image reader;

    fuzz_image_reset(&image);
    superblock_place(0, &input);
    superblock_place(image.bytes - SUPERBLOCK_BYTES, &input);
    fuzz_image_build(&image, &input);
    file_write();
    problems = 0;
    FUZZ_CHECK(image_open(&reader, path, true, why) == 0, "the image cannot be opened: %s", why);
    check.image = &reader;
    if (reader.sb == NULL)
        FUZZ_CHECK(reader.why[0] != '\0', "refused without a reason");
    /* Another geometry is right where it has a right checksum; what it says is in other places. */
    else if (reader.sb->segment_bytes == FUZZ_SEGMENT_BYTES &&
             image_segments(&reader) == SEGMENTS) {
        FUZZ_CHECK(image_check(&check) == 0, "no memory");
        FUZZ_CHECK(check.counts.problems == problems, "problems are not counted");
        if (data[0] & 64)
            verbs_run();
    }
    image_close(&reader);
    return 0;
}
