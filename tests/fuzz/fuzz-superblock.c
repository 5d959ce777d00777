/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock: two copies of a valid one, each with changes that the input says.  Most changed
 * copies get a right checksum.  What is accepted keeps all that its users rely on.
 */
#include <errno.h>

#include "common/crc32c.h"
#include "engine/superblock.h"
#include "tests/fuzz/fuzz.h"

#define WHY_BYTES 160

static struct superblock copies[2];

/* Anything that this accepts is believed by the daemon, without another look. */
static void accepted_check(const struct superblock *sb, uint64_t device_bytes)
{
    uint64_t segments = (uint64_t)sb->shard_count * sb->segments_per_shard;

    FUZZ_CHECK(sb->segment_bytes >= SEGMENT_BYTES_MIN && sb->segment_bytes <= SEGMENT_BYTES_MAX &&
                   (sb->segment_bytes & (sb->segment_bytes - 1)) == 0,
               "segments of %llu bytes", (unsigned long long)sb->segment_bytes);
    FUZZ_CHECK(sb->shard_count >= 1 && sb->shard_count <= SHARDS_MAX &&
                   (sb->shard_count & (sb->shard_count - 1)) == 0 && sb->segments_per_shard >= 16,
               "%u shards of %u segments", sb->shard_count, sb->segments_per_shard);
    FUZZ_CHECK(sb->device_bytes <= device_bytes && segments <= device_bytes / sb->segment_bytes &&
                   DATA_OFFSET + segments * sb->segment_bytes + SUPERBLOCK_BYTES <=
                       sb->device_bytes,
               "segments behind the end of the device");
    for (unsigned copy = 0; copy < 2; copy++)
        FUZZ_CHECK(superblock_offset(sb, copy) % BLOCK_BYTES == 0 &&
                       superblock_offset(sb, copy) <= device_bytes - SUPERBLOCK_BYTES,
                   "copy %u lies outside of the device", copy);
    FUZZ_CHECK(sb->retired_count <= RETIRED_MAX, "too many retired segments");
    for (uint32_t i = 0; i < sb->retired_count; i++)
        FUZZ_CHECK(sb->retired[i] < segments, "a retired segment that does not exist");
    FUZZ_CHECK(sb->next_volume_id <= VOLUME_ID_MAX + 1, "the next volume id is too large");
    for (uint32_t i = 0; i < VOLUMES_MAX; i++) {
        const struct superblock_volume *volume = &sb->volumes[i];

        if (volume->state == VOLUME_FREE)
            continue;
        FUZZ_CHECK(volume->state == VOLUME_ACTIVE && volume->id < sb->next_volume_id &&
                       volume->name[0] != '\0' &&
                       memchr(volume->name, 0, VOLUME_NAME_BYTES) != NULL,
                   "volume %u", i);
        for (uint32_t j = 0; j < i; j++)
            FUZZ_CHECK(sb->volumes[j].state != VOLUME_ACTIVE ||
                           (sb->volumes[j].id != volume->id &&
                            strcmp(sb->volumes[j].name, volume->name) != 0),
                       "two volumes with one id or name");
    }
}

static void change(struct fuzz_input *input, struct superblock *sb)
{
    static const uint16_t fields[] = {0,
                                      16,
                                      offsetof(struct superblock, sequence),
                                      offsetof(struct superblock, session),
                                      offsetof(struct superblock, device_bytes),
                                      offsetof(struct superblock, segment_bytes),
                                      offsetof(struct superblock, shard_count),
                                      offsetof(struct superblock, segments_per_shard),
                                      offsetof(struct superblock, flags),
                                      offsetof(struct superblock, retired_count),
                                      offsetof(struct superblock, next_volume_id),
                                      offsetof(struct superblock, shards),
                                      offsetof(struct superblock, retired),
                                      offsetof(struct superblock, volumes)};
    uint8_t what = fuzz_u8(input);
    uint64_t number;
    size_t at, bytes;
    const uint8_t *data;

    if (what < 128) { /* a number in a field */
        at = fields[what % (sizeof(fields) / sizeof(fields[0]))];
        number = fuzz_number(input);
        memcpy((char *)sb + at, &number, what & 64 ? 8 : 4);
        return;
    }
    at = fuzz_u16(input); /* bytes anywhere */
    bytes = (what & 31) + 1u;
    data = fuzz_bytes(input, &bytes);
    if (bytes > sizeof(*sb) - at)
        bytes = sizeof(*sb) - at;
    memcpy((char *)sb + at, data, bytes);
}

static void build(struct fuzz_input *input, struct superblock *sb,
                  const struct superblock_geometry *geometry)
{
    static const uint8_t uuid[16] = "0123456789abcde";
    char why[WHY_BYTES];
    uint8_t options = fuzz_u8(input);
    uint32_t crc = 0;

    if (superblock_init(sb, geometry, uuid, why, sizeof(why)) != 0) {
        FUZZ_CHECK(why[0] != '\0', "a geometry is refused without a reason");
        memset(sb, 0, sizeof(*sb));
    }
    for (unsigned i = 0; i < (options & 3); i++) {
        char name[8] = {'v', (char)('a' + i)};

        superblock_volume_add(sb, name, uuid);
    }
    superblock_seal(sb);
    for (unsigned i = 0; i < (options >> 2 & 15); i++)
        change(input, sb);
    if (options < 192) {
        sb->crc = 0;
        crc = crc32c(0, sb, sizeof(*sb));
        sb->crc = crc;
    }
}

/* What the daemon writes next must be accepted again, and be newer than what was there. */
static void update_check(struct superblock *current, struct superblock *other,
                         uint64_t device_bytes)
{
    if (current->sequence >= UINT64_MAX / 2)
        return; /* the last one that is possible */
    *other = *current;
    if (superblock_volume_find(other, "new") == NULL)
        superblock_volume_add(other, "new", (const uint8_t *)"0123456789abcde");
    superblock_seal(other);
    FUZZ_CHECK(superblock_check(other, device_bytes, NULL, 0) == 0, "an update is not accepted");
    FUZZ_CHECK(superblock_pick(copies, device_bytes, NULL, 0) == (other == &copies[1]),
               "an update is not taken for newer");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, data + bytes};
    uint8_t form = fuzz_u8(&input);
    struct superblock_geometry geometry = {.device_bytes = form & 1 ? fuzz_number(&input)
                                                                    : (64u + fuzz_u8(&input)) << 20,
                                           .segment_bytes = form & 2 ? fuzz_number(&input) : 0,
                                           .shards = form & 4 ? (uint32_t)fuzz_number(&input) : 0,
                                           .cores = form >> 4};
    uint64_t device_bytes =
        form & 8 ? fuzz_number(&input) : geometry.device_bytes; /* it may have shrunk or grown */
    char why[WHY_BYTES];
    int errors[2], picked;

    build(&input, &copies[0], &geometry);
    copies[1] = copies[0];
    if (!fuzz_ended(&input))
        build(&input, &copies[1], &geometry);
    for (unsigned copy = 0; copy < 2; copy++) {
        memset(why, 'x', sizeof(why));
        errors[copy] = superblock_check(&copies[copy], device_bytes, why, sizeof(why));
        FUZZ_CHECK(memchr(why, 0, sizeof(why)) != NULL, "an endless sentence");
        if (errors[copy] == 0)
            accepted_check(&copies[copy], device_bytes);
        else
            FUZZ_CHECK(why[0] != '\0', "refused without a reason");
    }
    picked = superblock_pick(copies, device_bytes, why, sizeof(why));
    if (picked < 0) {
        FUZZ_CHECK((errors[0] && errors[1]) || memcmp(copies[0].uuid, copies[1].uuid, 16) != 0,
                   "no copy was picked of %d and %d", errors[0], errors[1]);
        return 0;
    }
    FUZZ_CHECK(picked <= 1 && errors[picked] == 0, "copy %d was picked of %d and %d", picked,
               errors[0], errors[1]);
    update_check(&copies[picked], &copies[!picked], device_bytes);
    return 0;
}
