/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/attach.h"

#include <string.h>

static bool same(const uint8_t one[16], const uint8_t other[16])
{
    return memcmp(one, other, 16) == 0;
}

/* Is every block that may be dirty on the flash of the file on the file's list? */
static bool is_listed(const struct attachment *file)
{
    return file->state == ATTACHMENT_STOPPED || file->state == ATTACHMENT_DETACHED;
}

static uint8_t decide_without(const struct attachment *file)
{
    if (file->state == ATTACHMENT_NONE)
        return ATTACH_STATE;
    return is_listed(file) ? ATTACH_WITHOUT : ATTACH_UNKNOWN;
}

/* Is the flash an earlier copy of what it was: a snapshot that was put back, a file that was copied
 * elsewhere and used there?  Nothing else tells, as both have the same UUID and epoch. */
static bool is_older(const struct attachment *file, const struct attach_flash *flash)
{
    return same(flash->uuid, file->flash) && flash->sequence < file->sequence;
}

/* The flash has nothing of the volume. */
static uint8_t decide_new(const struct attachment *file, const struct attach_flash *flash)
{
    static const uint8_t none[16];

    if (file->state == ATTACHMENT_NONE)
        return ATTACH_NEW;
    /* Whoever formatted it has given up what was there. */
    if (!same(flash->replaces, none) && same(flash->replaces, file->flash))
        return ATTACH_NEW;
    if (is_listed(file))
        return file->dirty_count == 0 ? ATTACH_NEW : ATTACH_BLOCKS;
    /* Its own: the file is written before the superblock. */
    return same(flash->uuid, file->flash) && !is_older(file, flash) ? ATTACH_NEW : ATTACH_UNKNOWN;
}

static uint8_t decide_known(const struct attachment *file, const struct attach_flash *flash)
{
    bool own = same(flash->uuid, file->flash);

    if (file->state == ATTACHMENT_NONE || file->epoch < flash->epoch)
        return ATTACH_STATE;
    if (file->epoch == flash->epoch && own)
        return is_older(file, flash) ? ATTACH_STALE : ATTACH_NORMAL;
    if (file->epoch == flash->epoch)
        return ATTACH_STATE;
    return own && file->state == ATTACHMENT_DETACHED ? ATTACH_RETURNS : ATTACH_STALE;
}

static uint64_t larger(uint64_t one, uint64_t other)
{
    return one > other ? one : other;
}

struct attach_plan attach_decide(const struct attachment *file, const struct attach_flash *flash,
                                 unsigned force)
{
    uint64_t flash_epoch = flash->here && flash->known ? flash->epoch : 0;
    struct attach_plan plan = {.epoch = larger(file->epoch, flash_epoch)};

    if (!flash->here)
        plan.verdict = decide_without(file);
    else if (flash->known)
        plan.verdict = decide_known(file, flash);
    else
        plan.verdict = decide_new(file, flash);
    if (attach_refuses(&plan) && flash->here && flash->known && force & ATTACH_TRUST) {
        plan.verdict = ATTACH_NORMAL;
    } else if (attach_refuses(&plan) && force & ATTACH_DISCARD) {
        plan.discards = true;
        plan.epoch++;
        plan.verdict = !flash->here ? ATTACH_WITHOUT : flash->known ? ATTACH_RETURNS : ATTACH_NEW;
        return plan;
    }
    /* Whatever else is left behind is recognised by its smaller epoch. */
    if (plan.verdict == ATTACH_NEW ||
        (plan.verdict == ATTACH_WITHOUT && file->state != ATTACHMENT_DETACHED))
        plan.epoch++;
    return plan;
}
