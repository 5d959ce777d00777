/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments whose header is lost: neither copy can be believed, or both are older than what the
 * segment holds.  Nobody can tell then whether the segment was reclaimed since, nor, of one that was
 * kept, which of its records still counted.
 *
 * What is known is which blocks had records here, and, from footer and batches of the largest
 * generation, where in the ring: no older record of these blocks counts.  The newest version of
 * each is one of these:
 *
 *   a record behind this segment in the ring           it wins, as ever
 *   this one, at or below the watermark, or clean      the backing store has it, too
 *   this one, dirty, or a later one that is gone       nobody knows: poison, and the operator is
 *                                                      told (NOTICE_RECORDS_LOST)
 *
 * Only the newest segment of the ring cannot have been reclaimed or kept since: it is believed.
 *
 * The verdicts are in the segment's new footer, and its new header says that nothing else counts
 * (MAP_VERDICT): when that footer is lost, too, they are made again.
 */
#include "engine/shard-private.h"

/* Of this cache, whatever happened to it since: all structures have the UUID in the same place. */
bool recovery_is_trace(const struct shard *shard, const void *block)
{
    const struct segment_header *header = block;

    return memcmp(header->uuid, shard->config.uuid, sizeof(header->uuid)) == 0;
}

/* What was found in the segment is of a later generation than what was known. */
void recovery_generation_found(struct shard *shard, uint32_t index, uint64_t generation,
                               uint64_t ring_sequence)
{
    struct segment *segment = &shard->segments[index];

    segment->generation = generation;
    segment->ring_sequence = ring_sequence;
    segment->map_sequence = 0;
    segment->found &= (uint8_t) ~(FOUND_FOOTER | FOUND_MAP | FOUND_REPLAY);
    segment->found |= FOUND_LOST | FOUND_REPAIR;
}

/* The backing store has its block. */
void recovery_entry_forget(struct entry *entry)
{
    entry->kind = ENTRY_ABSENT;
    entry->flags = 0;
    entry->slot = ENTRY_SLOT_NONE;
    entry->count = 1;
}

/* An entry of such a segment becomes what is known of its blocks. */
void recovery_lost_entry(struct shard *shard, uint32_t index, struct entry *entry)
{
    struct shard_volume *volume = shard_volume(shard, entry->volume);

    if ((entry->kind == ENTRY_DIRTY || entry->kind == ENTRY_ZERO) &&
        entry->lsn > shard->recovery.watermark) {
        entry->kind = ENTRY_DIRTY;
        entry->flags = ENTRY_POISON;
        if (volume && volume->records_lost++ == 0)
            volume->records_lost_at = segment_offset(shard, index);
        return;
    }
    if (entry->kind != ENTRY_ABSENT)
        recovery_entry_forget(entry);
}

/* Records that nothing is known of. */
void recovery_lost_note(struct shard *shard, uint32_t index)
{
    if (shard->recovery.unknown_lost++ == 0)
        shard->recovery.unknown_lost_at = segment_offset(shard, index);
}

void recovery_lost_tell(struct shard *shard, struct actions *out)
{
    for (uint32_t i = 0; i < shard->volume_count; i++) {
        struct shard_volume *volume = &shard->volumes[i];

        if (volume->policy.present && volume->records_lost > 0)
            action_notice(out, NOTICE_RECORDS_LOST, volume->id, volume->records_lost_at);
        volume->records_lost = 0;
    }
    if (shard->recovery.unknown_lost > 0)
        action_notice(out, NOTICE_RECORDS_LOST, 0, shard->recovery.unknown_lost_at);
}
