/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock, without I/O.
 *
 * A copy is believed only after superblock_check(): magic, then CRC, then version, then each field
 * against its range and against the others.  The CRC comes before the version so that a flipped
 * bit is never reported as a newer format; magic, version, CRC and the 64 KiB that the CRC covers
 * keep their places in every version.
 */
#include "engine/superblock.h"

#include <errno.h>
#include <string.h>

#include "common/crc32c.h"
#include "engine/mutants.h"

#define SEGMENT_BYTES_DEFAULT  (8u << 20)
#define SEGMENTS_PER_SHARD     256u /* where the device allows it */
#define SEGMENTS_PER_SHARD_MIN 64u
#define SESSION_MAX            ((UINT64_C(1) << (64 - LSN_SESSION_SHIFT)) - 1)
#define SEQUENCE_MAX           (UINT64_MAX / 2) /* there are newer ones */

/* ---- sentences, without the C library's stdio (I9) ------------------------------------------ */

struct sentence {
    char *text;
    size_t bytes, used;
};

static struct sentence sentence_begin(char *text, size_t bytes)
{
    if (bytes > 0)
        text[0] = '\0';
    return (struct sentence){text, bytes, 0};
}

/* Cuts what does not fit. */
static void say(struct sentence *to, const char *words)
{
    for (; *words != '\0' && to->used + 1 < to->bytes; words++)
        to->text[to->used++] = *words;
    if (to->bytes > 0)
        to->text[to->used] = '\0';
}

static void say_number(struct sentence *to, uint64_t number)
{
    char digits[21];
    char *at = digits + sizeof(digits) - 1;

    *at = '\0';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    say(to, at);
}

/* Exactly, with the largest binary unit that divides it. */
static void say_bytes(struct sentence *to, uint64_t bytes)
{
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
    unsigned unit = 0;

    while (bytes > 0 && bytes % 1024 == 0 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    say_number(to, bytes);
    say(to, units[unit]);
}

/* ---- geometry ------------------------------------------------------------------------------ */

static bool is_power_of_two(uint64_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

/* Bytes between the superblock areas. */
static uint64_t data_bytes(uint64_t device_bytes)
{
    uint64_t around = DATA_OFFSET + SUPERBLOCK_BYTES;

    return device_bytes > around ? device_bytes - around : 0;
}

static bool geometry_fits(uint64_t device_bytes, uint64_t segment_bytes, uint32_t shards,
                          uint32_t segments)
{
    return data_bytes(device_bytes) / segment_bytes / shards >= segments;
}

/* The largest power of two that is no more than `limit`. */
static uint32_t power_of_two_below(uint32_t limit)
{
    uint32_t power = 1;

    while (power <= limit / 2)
        power *= 2;
    return power;
}

/* The first choice with so many segments for each shard. */
static bool geometry_try(const struct superblock_geometry *wanted, uint32_t segments,
                         const uint64_t bytes_range[2], const uint32_t shards_range[2],
                         uint64_t *segment_bytes, uint32_t *shards)
{
    for (uint32_t count = shards_range[1]; count >= shards_range[0] && count > 0; count /= 2) {
        for (uint64_t bytes = bytes_range[1]; bytes >= bytes_range[0]; bytes /= 2) {
            if (geometry_fits(wanted->device_bytes, bytes, count, segments)) {
                *segment_bytes = bytes;
                *shards = count;
                return true;
            }
        }
    }
    return false;
}

/*
 * Many shards keep cores from waiting for each other, so a small device gets smaller segments first
 * and fewer shards after that.  With few segments reclaim chooses badly what stays in the cache; a
 * device too small for SEGMENTS_PER_SHARD gets as many as it can.  What the caller fixed stays.
 */
static bool geometry_choose(const struct superblock_geometry *wanted, uint64_t *segment_bytes,
                            uint32_t *shards)
{
    uint64_t largest = wanted->segment_bytes ? wanted->segment_bytes : SEGMENT_BYTES_DEFAULT;
    uint64_t smallest = wanted->segment_bytes ? wanted->segment_bytes : SEGMENT_BYTES_MIN;
    uint32_t cores = wanted->cores < SHARDS_MAX / 2 ? wanted->cores : SHARDS_MAX / 2;
    uint32_t most = wanted->shards ? wanted->shards : power_of_two_below(cores ? cores * 2 : 1);
    uint32_t fewest = wanted->shards ? wanted->shards : 1;

    if (geometry_try(wanted, SEGMENTS_PER_SHARD, (uint64_t[]){smallest, largest},
                     (uint32_t[]){fewest, most}, segment_bytes, shards))
        return true;
    *segment_bytes = smallest;
    *shards = fewest;
    return geometry_fits(wanted->device_bytes, smallest, fewest, SEGMENTS_PER_SHARD_MIN);
}

static int geometry_refuse_small(const struct superblock_geometry *wanted, uint64_t segment_bytes,
                                 uint32_t shards, struct sentence *why)
{
    uint64_t needed =
        segment_bytes * SEGMENTS_PER_SHARD_MIN * shards + DATA_OFFSET + SUPERBLOCK_BYTES;

    say(why, "the device has ");
    say_bytes(why, wanted->device_bytes);
    say(why, ", but ");
    say_number(why, SEGMENTS_PER_SHARD_MIN);
    say(why, " segments of ");
    say_bytes(why, segment_bytes);
    if (shards > 1) {
        say(why, " for each of ");
        say_number(why, shards);
        say(why, " shards");
    }
    say(why, " need ");
    say_bytes(why, needed);
    say(why, "; use a larger device");
    if (wanted->segment_bytes > SEGMENT_BYTES_MIN)
        say(why, ", or smaller segments");
    if (wanted->shards > 1)
        say(why, ", or fewer shards");
    return -ENOSPC;
}

static int geometry_refuse_wrong(const struct superblock_geometry *wanted, struct sentence *why)
{
    uint64_t segment_bytes = wanted->segment_bytes;

    if (segment_bytes != 0 &&
        (!is_power_of_two(segment_bytes) || segment_bytes < SEGMENT_BYTES_MIN ||
         segment_bytes > SEGMENT_BYTES_MAX)) {
        say(why, "a segment size of ");
        say_bytes(why, segment_bytes);
        say(why, " is not possible; use a power of two from ");
        say_bytes(why, SEGMENT_BYTES_MIN);
        say(why, " to ");
        say_bytes(why, SEGMENT_BYTES_MAX);
        return -EINVAL;
    }
    if (wanted->shards != 0 && (!is_power_of_two(wanted->shards) || wanted->shards > SHARDS_MAX)) {
        say_number(why, wanted->shards);
        say(why, " shards are not possible; use a power of two from 1 to ");
        say_number(why, SHARDS_MAX);
        return -EINVAL;
    }
    return 0;
}

int superblock_init(struct superblock *sb, const struct superblock_geometry *geometry,
                    const uint8_t uuid[16], char *why, size_t why_bytes)
{
    struct sentence sentence = sentence_begin(why, why_bytes);
    struct superblock_geometry wanted = *geometry;
    uint64_t segment_bytes;
    uint32_t shards;
    int error;

    error = geometry_refuse_wrong(&wanted, &sentence);
    if (error)
        return error;
    /* The second copy stays aligned for O_DIRECT on a device of any size. */
    wanted.device_bytes -= wanted.device_bytes % BLOCK_BYTES;
    if (!geometry_choose(&wanted, &segment_bytes, &shards))
        return geometry_refuse_small(&wanted, segment_bytes, shards, &sentence);

    memset(sb, 0, sizeof(*sb));
    memcpy(sb->magic, SUPERBLOCK_MAGIC, sizeof(sb->magic));
    sb->version = FORMAT_VERSION;
    memcpy(sb->uuid, uuid, sizeof(sb->uuid));
    sb->device_bytes = wanted.device_bytes;
    sb->segment_bytes = segment_bytes;
    sb->shard_count = shards;
    sb->segments_per_shard = (uint32_t)(data_bytes(wanted.device_bytes) / segment_bytes / shards);
    /* Nothing is in flight in an empty cache.  Volume 0 is never given: zeroed memory names none.
     */
    sb->flags = SUPERBLOCK_CLEAN;
    sb->next_volume_id = 1;
    return 0;
}

/* ---- checking ------------------------------------------------------------------------------- */

static bool all_zeros(const void *data, size_t bytes)
{
    const unsigned char *at = data;

    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

static uint32_t superblock_crc(const struct superblock *sb)
{
    static const uint32_t zero;
    size_t before = offsetof(struct superblock, crc);
    size_t after = before + sizeof(sb->crc);
    uint32_t crc = crc32c(0, sb, before);

    crc = crc32c(crc, &zero, sizeof(zero));
    return crc32c(crc, (const unsigned char *)sb + after, sizeof(*sb) - after);
}

static int refuse_field(struct sentence *why, const char *field)
{
    say(why, "the superblock's field ");
    say(why, field);
    say(why, " has an impossible value");
    return -EBADMSG;
}

static int check_geometry(const struct superblock *sb, struct sentence *why)
{
    if (sb->device_bytes % BLOCK_BYTES != 0)
        return refuse_field(why, "device_bytes");
    if (!is_power_of_two(sb->segment_bytes) || sb->segment_bytes < SEGMENT_BYTES_MIN ||
        sb->segment_bytes > SEGMENT_BYTES_MAX)
        return refuse_field(why, "segment_bytes");
    if (!is_power_of_two(sb->shard_count) || sb->shard_count > SHARDS_MAX)
        return refuse_field(why, "shard_count");
    if (sb->segments_per_shard < SEGMENTS_PER_SHARD_MIN ||
        sb->segments_per_shard > data_bytes(sb->device_bytes) / sb->segment_bytes / sb->shard_count)
        return refuse_field(why, "segments_per_shard");
    if (sb->flags & ~(uint32_t)SUPERBLOCK_CLEAN)
        return refuse_field(why, "flags");
    if (sb->session > SESSION_MAX)
        return refuse_field(why, "session");
    if (sb->sequence > SEQUENCE_MAX)
        return refuse_field(why, "sequence");
    return 0;
}

/* Marks are LSNs, which carry the session that gave them out. */
static int check_shards(const struct superblock *sb, struct sentence *why)
{
    for (uint32_t i = 0; i < sb->shard_count; i++) {
        if (sb->shards[i].watermark >> LSN_SESSION_SHIFT > sb->session)
            return refuse_field(why, "shards[].watermark");
        if (sb->shards[i].durable_lsn >> LSN_SESSION_SHIFT > sb->session)
            return refuse_field(why, "shards[].durable_lsn");
    }
    return 0;
}

static int check_retired(const struct superblock *sb, struct sentence *why)
{
    uint64_t segments = (uint64_t)sb->shard_count * sb->segments_per_shard;

    if (sb->retired_count > RETIRED_MAX)
        return refuse_field(why, "retired_count");
    for (uint32_t i = 0; i < sb->retired_count; i++) {
        if (sb->retired[i] >= segments)
            return refuse_field(why, "retired");
    }
    return 0;
}

static int check_volume(const struct superblock *sb, const struct superblock_volume *volume,
                        struct sentence *why)
{
    if (volume->state == VOLUME_FREE)
        return 0;
    if (volume->state != VOLUME_ACTIVE)
        return refuse_field(why, "volumes[].state");
    if (volume->name[0] == '\0' || memchr(volume->name, '\0', sizeof(volume->name)) == NULL)
        return refuse_field(why, "volumes[].name");
    if (volume->id == 0 || volume->id > VOLUME_ID_MAX || volume->id >= sb->next_volume_id)
        return refuse_field(why, "volumes[].id");
    if (volume->bytes > VOLUME_BLOCKS_MAX << BLOCK_SHIFT)
        return refuse_field(why, "volumes[].bytes");
    for (const struct superblock_volume *other = sb->volumes; other < volume; other++) {
        if (other->state != VOLUME_ACTIVE)
            continue;
        if (other->id == volume->id)
            return refuse_field(why, "volumes[].id");
        if (strcmp(other->name, volume->name) == 0)
            return refuse_field(why, "volumes[].name");
    }
    return 0;
}

static int check_volumes(const struct superblock *sb, struct sentence *why)
{
    if (sb->next_volume_id == 0 || sb->next_volume_id > VOLUME_ID_MAX + 1)
        return refuse_field(why, "next_volume_id");
    for (uint32_t i = 0; i < VOLUMES_MAX; i++) {
        int error = check_volume(sb, &sb->volumes[i], why);

        if (error)
            return error;
    }
    return 0;
}

static int check_copy(const struct superblock *sb, uint64_t device_bytes, struct sentence *why)
{
    int error;

    if (memcmp(sb->magic, SUPERBLOCK_MAGIC, sizeof(sb->magic)) != 0) {
        if (all_zeros(sb, sizeof(*sb))) {
            say(why, "it is not formatted; run blkcachectl format");
            return -ENODATA;
        }
        say(why, "it is not a blkcached cache");
        return -EMEDIUMTYPE;
    }
    if (superblock_crc(sb) != sb->crc) {
        say(why, "the superblock's checksum is wrong");
        return -EBADMSG;
    }
    if (sb->version != FORMAT_VERSION) {
        say(why, "its format version is ");
        say_number(why, sb->version);
        say(why, ", and this program knows only ");
        say_number(why, FORMAT_VERSION);
        say(why, "; use the blkcached that wrote it");
        return -EPROTONOSUPPORT;
    }
    error = check_geometry(sb, why);
    if (!error)
        error = check_shards(sb, why);
    if (!error)
        error = check_retired(sb, why);
    if (!error)
        error = check_volumes(sb, why);
    if (error)
        return error;
    if (sb->device_bytes > device_bytes) {
        say(why, "the cache was formatted with ");
        say_bytes(why, sb->device_bytes);
        say(why, ", but the device has only ");
        say_bytes(why, device_bytes);
        say(why, "; give it its full size again");
        return -ENXIO;
    }
    return 0;
}

int superblock_check(const struct superblock *sb, uint64_t device_bytes, char *why,
                     size_t why_bytes)
{
    struct sentence sentence = sentence_begin(why, why_bytes);

    return check_copy(sb, device_bytes, &sentence);
}

/* How much an error tells: the copy that came furthest through the checks says what is wrong. */
static unsigned telling(int error)
{
    switch (error) {
    case -ENXIO: return 5;
    case -EPROTONOSUPPORT: return 4;
    case -EBADMSG: return 3;
    case -EMEDIUMTYPE: return 2;
    default: return 1;
    }
}

int superblock_pick(const struct superblock copies[2], uint64_t device_bytes, char *why,
                    size_t why_bytes)
{
    int errors[2];

    for (unsigned copy = 0; copy < 2; copy++)
        errors[copy] = superblock_check(&copies[copy], device_bytes, why, why_bytes);

    if (errors[0] == 0 && errors[1] == 0) {
        /* Formatting wipes both copies before it writes one, so this is no interrupted format. */
        if (memcmp(copies[0].uuid, copies[1].uuid, sizeof(copies[0].uuid)) != 0) {
            struct sentence sentence = sentence_begin(why, why_bytes);

            say(&sentence, "its two superblocks belong to different caches; was part of it "
                           "overwritten with a copy of another?");
            return -EBADMSG;
        }
        return copies[1].sequence > copies[0].sequence ? 1 : 0;
    }
    if (errors[0] == 0)
        return 0;
    if (errors[1] == 0)
        return 1;
    if (telling(errors[0]) >= telling(errors[1]))
        return superblock_check(&copies[0], device_bytes, why, why_bytes);
    return superblock_check(&copies[1], device_bytes, why, why_bytes);
}

/* ---- writing -------------------------------------------------------------------------------- */

void superblock_seal(struct superblock *sb)
{
    sb->sequence++;
    sb->crc = superblock_crc(sb);
}

bool superblock_holds(const struct superblock *copy, uint64_t sequence, uint64_t device_bytes)
{
    return copy->sequence == sequence && superblock_check(copy, device_bytes, NULL, 0) == 0;
}

uint64_t superblock_offset(const struct superblock *sb, unsigned copy)
{
    return copy == 0 ? 0 : sb->device_bytes - SUPERBLOCK_BYTES;
}

/* ---- volumes -------------------------------------------------------------------------------- */

struct superblock_volume *superblock_volume_find(struct superblock *sb, const char *name)
{
    for (uint32_t i = 0; i < VOLUMES_MAX; i++) {
        struct superblock_volume *volume = &sb->volumes[i];

        if (volume->state == VOLUME_ACTIVE && strcmp(volume->name, name) == 0)
            return volume;
    }
    return NULL;
}

/* Ids are never given again (hazard 9): a table with free places may still be used up. */
struct superblock_volume *superblock_volume_add(struct superblock *sb, const char *name,
                                                const uint8_t uuid[16])
{
    size_t name_bytes = strlen(name) + 1;

    if (name_bytes > VOLUME_NAME_BYTES || name_bytes == 1 || sb->next_volume_id > VOLUME_ID_MAX)
        return NULL;
    for (uint32_t i = 0; i < VOLUMES_MAX; i++) {
        struct superblock_volume *volume = &sb->volumes[i];

        if (volume->state != VOLUME_FREE)
            continue;
        memset(volume, 0, sizeof(*volume));
        memcpy(volume->name, name, name_bytes);
        memcpy(volume->uuid, uuid, sizeof(volume->uuid));
        volume->id = (uint16_t)(MUTANT(9) ? i + 1 : sb->next_volume_id);
        sb->next_volume_id++;
        volume->state = VOLUME_ACTIVE;
        return volume;
    }
    return NULL;
}
