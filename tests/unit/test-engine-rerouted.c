/* SPDX-License-Identifier: Apache-2.0 */
/* Writes whose batch failed on flash: appended again elsewhere, or brought to the backing store, in the
 * order that they were in. */
#include <errno.h>
#include <string.h>

#include "common/crc32c.h"
#include "tests/unit/engine-host.h"
#include "tests/unit/unit.h"

#define MS UINT64_C(1000000)

static struct action find_kind(const struct actions *out, unsigned kind)
{
    for (uint32_t i = 0; i < out->count; i++)
        if (out->list[i].kind == kind)
            return out->list[i];
    ck_abort_msg("action %u does not come", kind);
}

/* One step, after which the action of this kind is returned; the others are left undone. */
static struct action step_for(struct host *host, const struct event *event, unsigned kind)
{
    static struct actions out;

    shard_step(host->shard, host->now_ns, event, 1, &out);
    return find_kind(&out, kind);
}

static struct action append_blocks(struct host *host, struct piece *piece, uint64_t block,
                                   uint16_t count)
{
    static struct actions out;
    static unsigned char data[3 * BLOCK_BYTES];

    *piece = (struct piece){.op = PIECE_WRITE,
                            .volume = HOST_VOLUME,
                            .count = count,
                            .epoch = 1,
                            .block = block,
                            .data = data + BLOCK_BYTES};
    for (uint16_t i = 0; i < count; i++)
        piece->crc[i] = crc32c(0, piece->data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = piece}, 1,
               &out);
    return step_for(host, &(struct event){.kind = EVENT_SEAL, .core = UINT16_MAX},
                    ACTION_WRITE_FLASH);
}

static struct action append_write(struct host *host, struct piece *piece)
{
    return append_blocks(host, piece, 5, 1);
}

static unsigned count_kind(const struct actions *out, unsigned kind)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < out->count; i++)
        count += out->list[i].kind == kind;
    return count;
}

/* The same with a third that keeps the earlier one from starting, and not the later one. */
START_TEST(writes_under_a_failing_flash_do_not_overtake_who_waits)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 9);
    struct piece other, first, second;
    struct action writes[] = {append_blocks(host, &other, 4, 1), append_blocks(host, &first, 4, 2),
                              append_blocks(host, &second, 5, 1)};
    struct action store;
    struct actions out;

    shard_flash_lost(host->shard);
    for (unsigned i = 0; i < 3; i++)
        shard_step(host->shard, host->now_ns,
                   &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &writes[i]}, 1,
                   &out);
    shard_pass_through(host->shard, HOST_VOLUME);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_TICK}, 1, &out);
    ck_assert_uint_eq(count_kind(&out, ACTION_WRITE_BACKING), 1);
    store = find_kind(&out, ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &other);
    store = step_for(host, &(struct event){.kind = EVENT_IO_DONE, .action = &store},
                     ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &first);
    store = step_for(host, &(struct event){.kind = EVENT_IO_DONE, .action = &store},
                     ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &second);
    host_free(host);
}
END_TEST

/* Two writes of a block are on their way to flash when it fails, the later one's end comes first.
 * To the backing store they go in the order of the log: the earlier one may be the merge of a part
 * with what the later one replaced. */
START_TEST(writes_under_a_failing_flash_keep_their_order)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 9);
    struct piece first, second;
    struct action one = append_write(host, &first), two = append_write(host, &second);
    struct actions out;
    struct action store;

    shard_flash_lost(host->shard);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &two}, 1, &out);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &one}, 1, &out);
    ck_assert(shard_flash_settled(host->shard));
    shard_pass_through(host->shard, HOST_VOLUME);
    store = step_for(host, &(struct event){.kind = EVENT_TICK}, ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &first);
    store = step_for(host, &(struct event){.kind = EVENT_IO_DONE, .action = &store},
                     ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &second);
    host_free(host);
}
END_TEST

/* As the disk would: the data land, and nobody is told. */
static void land(struct host *host, const struct action *action)
{
    struct flash_write *write = action->owner;
    unsigned char *to = host->flash + action->offset;

    flash_write_seal(write);
    for (uint32_t i = 0; i < write->iov_count; i++) {
        memcpy(to, write->iov[i].iov_base, write->iov[i].iov_len);
        to += write->iov[i].iov_len;
    }
}

/* Carries out the flash writes of a step, and those that follow, in their order. */
static void carry_out_writes(struct host *host, struct actions *out)
{
    static struct action list[256];
    uint32_t count = 0;

    for (uint32_t done = 0;; done++) {
        for (uint32_t i = 0; i < out->count; i++)
            if (out->list[i].kind == ACTION_WRITE_FLASH)
                list[count++] = out->list[i];
        if (done == count)
            return;
        ck_assert_uint_lt(count, 128);
        land(host, &list[done]);
        shard_step(host->shard, host->now_ns,
                   &(struct event){.kind = EVENT_IO_DONE, .action = &list[done]}, 1, out);
    }
}

/* Two writes of a block are in batches that fail, the earlier one first.  When both are appended
 * again, the later one still counts as the later one. */
START_TEST(batches_that_failed_keep_their_order)
{
    static unsigned char data[BLOCK_BYTES];
    struct host *host = host_new(MODE_WRITE_BACK, false, 13);
    struct piece first, second;
    struct action one = append_write(host, &first), two;
    struct actions out;

    memset(data, 2, sizeof(data));
    second = first;
    second.data = data;
    second.crc[0] = crc32c(0, data, BLOCK_BYTES);
    second.state = second.resumed = 0;
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = &second},
               1, &out);
    two =
        step_for(host, &(struct event){.kind = EVENT_SEAL, .core = UINT16_MAX}, ACTION_WRITE_FLASH);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &one}, 1, &out);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &two}, 1, &out);
    carry_out_writes(host, &out);
    host_idle(host, 2000 * MS);
    memcpy(host->model + 5 * BLOCK_BYTES, data, BLOCK_BYTES);
    ck_assert_int_eq(host_read(host, 5, 1, 0), 0);
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_int_eq(host_read(host, 5, 1, 0), 0);
    host_free(host);
}
END_TEST

struct writes { /* of flash, under way */
    struct action list[64];
    bool ended[64];
    uint32_t count;
};

static void writes_step(struct host *host, struct writes *writes, const struct event *event)
{
    struct actions out;

    shard_step(host->shard, host->now_ns, event, 1, &out);
    for (uint32_t i = 0; i < out.count; i++)
        if (out.list[i].kind == ACTION_WRITE_FLASH)
            writes->list[writes->count++] = out.list[i];
    ck_assert_uint_lt(writes->count, 48);
}

static void writes_end(struct host *host, struct writes *writes, uint32_t i, int result)
{
    writes->ended[i] = true;
    if (result == 0)
        land(host, &writes->list[i]);
    writes_step(
        host, writes,
        &(struct event){.kind = EVENT_IO_DONE, .result = result, .action = &writes->list[i]});
}

/* Batches fail in as many segments as can be closing at once.  Each segment waits for its batch, and that
 * for a segment with a buffer for its footer. */
START_TEST(batches_that_failed_in_all_closing_segments_are_appended_again)
{
    static unsigned char data[56 * BLOCK_BYTES];
    static struct piece pieces[16];
    struct host *host = host_new(MODE_WRITE_BACK, false, 14);
    struct writes writes = {.count = 0};
    uint32_t sent = 0, failed = 0;

    for (; sent < 16; sent++) {
        pieces[sent] = (struct piece){.op = PIECE_WRITE,
                                      .volume = HOST_VOLUME,
                                      .count = 56,
                                      .epoch = 1,
                                      .block = sent * REGION_BLOCKS,
                                      .data = data};
        for (uint32_t i = 0; i < 56; i++)
            pieces[sent].crc[i] = crc32c(0, data, BLOCK_BYTES);
        memset(host->model + pieces[sent].block * BLOCK_BYTES, 0, sizeof(data));
        writes_step(host, &writes, &(struct event){.kind = EVENT_REQUEST, .piece = &pieces[sent]});
        writes_step(host, &writes, &(struct event){.kind = EVENT_SEAL, .core = UINT16_MAX});
    }
    for (uint32_t i = 0; i < writes.count; i++) /* one in each, what is appended again, too */
        if (writes.list[i].length > HOST_SEGMENT / 2) {
            writes_end(host, &writes, i, -EIO);
            failed++;
        }
    writes_end(host, &writes, 1, -EIO); /* the first one's segment still has another */
    ck_assert_uint_eq(failed, 4);
    for (uint32_t i = 0; i < writes.count; i++)
        if (!writes.ended[i])
            writes_end(host, &writes, i, 0);
    host_idle(host, 5000 * MS);
    for (uint32_t i = 0; i < sent; i++)
        ck_assert_int_eq(host_read(host, i * REGION_BLOCKS, REGION_BLOCKS, 0), 0);
    ck_assert_int_eq(host_write(host, 0, 1, 0, 0, 0), 0);
    ck_assert_int_eq(host_boot(host), 1);
    for (uint32_t i = 0; i < sent; i++)
        ck_assert_int_eq(host_read(host, i * REGION_BLOCKS, REGION_BLOCKS, 0), 0);
    host_free(host);
}
END_TEST

/* A write is in two batches when the flash fails, and the end of the first is known.  Until the other
 * ends, nobody may merge with what the write replaces: it would go over it. */
START_TEST(a_write_that_lost_one_of_its_batches_is_not_overtaken)
{
    static unsigned char data[BATCH_ENTRIES_MAX * BLOCK_BYTES], merge[2 * BLOCK_BYTES];
    struct host *host = host_new(MODE_WRITE_BACK, false, 11);
    struct piece filler = {.op = PIECE_WRITE,
                           .volume = HOST_VOLUME,
                           .count = BATCH_ENTRIES_MAX - 1,
                           .epoch = 1,
                           .block = REGION_BLOCKS,
                           .data = data};
    struct piece whole = {
        .op = PIECE_WRITE, .volume = HOST_VOLUME, .count = 2, .epoch = 1, .block = 5, .data = data};
    struct piece part = {.op = PIECE_WRITE,
                         .volume = HOST_VOLUME,
                         .count = 1,
                         .head_bytes = 512,
                         .epoch = 1,
                         .block = 5,
                         .data = data,
                         .merge = merge};
    struct action one, two, store;
    struct actions out;

    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = &filler},
               1, &out);
    one =
        step_for(host, &(struct event){.kind = EVENT_REQUEST, .piece = &whole}, ACTION_WRITE_FLASH);
    two =
        step_for(host, &(struct event){.kind = EVENT_SEAL, .core = UINT16_MAX}, ACTION_WRITE_FLASH);
    shard_flash_lost(host->shard);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &one}, 1, &out);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = &part}, 1,
               &out);
    ck_assert_uint_eq(out.count, 0);
    step_for(host, &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &two},
             ACTION_RESUME);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = &part}, 1,
               &out);
    ck_assert_uint_eq(out.count, 0);
    ck_assert(shard_flash_settled(host->shard));
    shard_pass_through(host->shard, HOST_VOLUME);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_TICK}, 1, &out);
    ck_assert_uint_eq(out.count, 2);
    ck_assert_ptr_eq(out.list[0].owner, &filler);
    ck_assert_ptr_eq(out.list[1].owner, &whole);
    store = out.list[1];
    step_for(host, &(struct event){.kind = EVENT_IO_DONE, .action = &store}, ACTION_RESUME);
    host_free(host);
}
END_TEST

/* A dirty block that cannot be read any more, which stays dirty. */
static void lose_block(struct host *host, uint64_t block)
{
    const unsigned char *content = host->model + block * BLOCK_BYTES;

    ck_assert_int_eq(host_write(host, block, 1, 0, 0, 0), 0);
    for (size_t at = DATA_OFFSET; at < host->flash_bytes - SUPERBLOCK_BYTES; at += BLOCK_BYTES)
        if (memcmp(host->flash + at, content, BLOCK_BYTES) == 0)
            host->flash[at] ^= 1;
    ck_assert_int_eq(host_read(host, block, 1, 0), -EIO);
}

/* The log has gone round, and about every other segment holds a lost block. */
static struct host *host_with_lost_blocks(unsigned rounds)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 12);

    for (unsigned i = 0; i < rounds; i++) {
        lose_block(host, i);
        for (unsigned k = 0; k < 2; k++)
            ck_assert_int_eq(host_write(host, (4 + (2 * i + k) % 100) * REGION_BLOCKS, 56, 0, 0, 0),
                             0);
        shard_destage_all(host->shard, VOLUME_ALL);
        host_idle(host, 500 * MS);
    }
    return host;
}

/* Flash takes no writes for a while, which uses up the segments that are ready.  What failed is
 * appended again when it takes writes, although a lost block pins the segment that is next. */
START_TEST(a_failed_batch_finds_room_behind_a_lost_block)
{
    static unsigned char data[BLOCK_BYTES];
    struct host *host = host_with_lost_blocks(36 + (unsigned)_i);
    struct piece piece = {.op = PIECE_WRITE,
                          .volume = HOST_VOLUME,
                          .count = 1,
                          .epoch = 1,
                          .block = 4 * REGION_BLOCKS,
                          .data = data};
    uint64_t replies = host->replies;
    struct actions out;

    piece.crc[0] = crc32c(0, data, BLOCK_BYTES);
    host->flash_write_error = -EIO;
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_REQUEST, .piece = &piece},
               1, &out);
    ck_assert_uint_eq(out.count, 0);
    host_idle(host, 2000 * MS);
    ck_assert_uint_eq(host->replies, replies);
    host->flash_write_error = 0;
    host_idle(host, 5000 * MS);
    ck_assert_uint_eq(host->replies, replies + 1);
    ck_assert_int_eq(host->last_error, 0);
    memcpy(host->model + piece.block * BLOCK_BYTES, data, BLOCK_BYTES);
    ck_assert_int_eq(host_boot(host), 1);
    for (uint64_t block = REGION_BLOCKS; block < HOST_BLOCKS; block += REGION_BLOCKS)
        ck_assert_int_eq(host_read(host, block, REGION_BLOCKS, 0), 0);
    host_free(host);
}
END_TEST

/* The write that was under way when the flash failed was answered with an error.  When the flash is
 * back, the list in the state directory names the block as it was before. */
START_TEST(a_failed_write_that_landed_does_not_hide_what_is_listed)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 10);
    struct dirty_block listed;
    struct piece piece;
    struct actions out;
    struct action write;
    uint32_t cursor = 0;

    ck_assert_int_eq(host_write(host, 5, 1, 0, 0, 0), 0);
    write = append_write(host, &piece);
    land(host, &write);
    shard_flash_lost(host->shard);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &write}, 1, &out);
    ck_assert(shard_flash_settled(host->shard));
    ck_assert_uint_eq(shard_dirty_list(host->shard, &cursor, &listed, 1), 1);

    host->config.held = host->policy.returns = true;
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert(shard_attach_keep(host->shard, &listed));
    shard_attach_drop(host->shard, HOST_VOLUME);
    ck_assert_uint_eq(shard_dirty_blocks(host->shard, HOST_VOLUME), 1);
    shard_attach_drain(host->shard);
    host_destage_all(host);
    shard_release(host->shard);
    ck_assert_int_eq(host_read(host, 5, 1, 0), 0);
    host_free(host);
}
END_TEST

/* Failed writes wait for room, room waits for destaging, and that goes by epochs: nobody was answered,
 * so they are of the present epoch, whenever they came. */
START_TEST(a_failed_write_holds_up_no_earlier_epoch)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 15);
    struct piece piece;
    struct action write;
    struct actions out;

    host->config.ordered_volumes = 1;
    host->policy.destage = DESTAGE_ORDERED;
    ck_assert_int_eq(host_boot(host), 1);
    shard_epoch_begin(host->shard, HOST_VOLUME, 1, host->now_ns);
    shard_epoch_open(host->shard, HOST_VOLUME, 1, false, host->now_ns);
    write = append_write(host, &piece);
    ck_assert_uint_eq(shard_epoch_begin(host->shard, HOST_VOLUME, 2, host->now_ns), 1);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &write}, 1, &out);
    ck_assert_uint_eq(shard_epoch_begin(host->shard, HOST_VOLUME, 2, host->now_ns), 2);
    carry_out_writes(host, &out);
    memset(host->model + 5 * BLOCK_BYTES, 0, BLOCK_BYTES);
    ck_assert_int_eq(host_read(host, 5, 1, 0), 0);
    shard_epoch_open(host->shard, HOST_VOLUME, 2, false, host->now_ns);
    host_destage_all(host);
    host_free(host);
}
END_TEST

/* A write was answered with an error because its batch failed; the batch landed all the same. Everything
 * that was dirty is destaged, so the watermark is past it: it must not pass for what the backing store
 * has. */
START_TEST(a_failed_write_that_landed_is_not_clean)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 16);
    struct shard_status status;
    struct piece piece;
    struct action write;
    struct writes writes = {.count = 0};

    host->policy.stall_timeout_ns = 100 * MS;
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_int_eq(host_write(host, 5, 1, 0, 0, 0), 0);
    host_destage_all(host);
    host->backing_error = -EIO; /* so that there is something to destage afterwards */
    ck_assert_int_eq(host_write(host, 100, 1, 0, 0, 0), 0);
    shard_destage_all(host->shard, VOLUME_ALL);
    host_idle(host, 10 * MS);
    write = append_write(host, &piece);
    land(host, &write);
    writes_step(host, &writes,
                &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &write});
    for (uint32_t i = 0; i < writes.count; i++)
        writes_end(host, &writes, i, -EIO);
    host->flash_write_error = -EIO;
    while (host->notices[NOTICE_FLASH_FAILED] == 0)
        host_idle(host, MS);
    host->flash_write_error = 0;
    host->backing_error = 0;
    host_idle(host, 1000 * MS);
    host_destage_all(host);
    host_idle(host, 1000 * MS);

    shard_status(host->shard, &status);
    ck_assert_uint_ge(status.watermark, status.next_lsn - 1);
    ck_assert_uint_lt(status.durable_lsn, status.watermark);
    host->retired_count = 0; /* it is not worn out */
    host->config.watermark = status.watermark;
    host->config.durable_lsn = status.durable_lsn;
    ck_assert_int_eq(host_boot(host), 1);
    ck_assert_int_eq(host_read(host, 5, 1, 0), 0);
    host_free(host);
}
END_TEST

/* A later write of one of its blocks got to flash before that failed: only the other block goes to the
 * backing store. */
START_TEST(a_rerouted_write_does_not_undo_a_later_one)
{
    struct host *host = host_new(MODE_WRITE_BACK, false, 17);
    struct piece both, later;
    struct action one = append_blocks(host, &both, 4, 2), two = append_blocks(host, &later, 5, 1);
    struct action store;
    struct actions out;

    land(host, &two);
    shard_step(host->shard, host->now_ns, &(struct event){.kind = EVENT_IO_DONE, .action = &two}, 1,
               &out);
    ck_assert_ptr_eq(find_kind(&out, ACTION_REPLY).owner, &later);
    shard_flash_lost(host->shard);
    shard_step(host->shard, host->now_ns,
               &(struct event){.kind = EVENT_IO_DONE, .result = -EIO, .action = &one}, 1, &out);
    ck_assert(shard_flash_settled(host->shard));
    shard_pass_through(host->shard, HOST_VOLUME);
    store = step_for(host, &(struct event){.kind = EVENT_TICK}, ACTION_WRITE_BACKING);
    ck_assert_ptr_eq(store.owner, &both);
    ck_assert_uint_eq(store.offset, 4 * BLOCK_BYTES);
    ck_assert_uint_eq(store.length, BLOCK_BYTES);
    store = step_for(host, &(struct event){.kind = EVENT_IO_DONE, .action = &store}, ACTION_REPLY);
    ck_assert_ptr_eq(store.owner, &both);
    ck_assert_int_eq(both.error, 0);
    host_free(host);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("engine-rerouted");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, writes_under_a_failing_flash_keep_their_order);
    tcase_add_test(cases, writes_under_a_failing_flash_do_not_overtake_who_waits);
    tcase_add_test(cases, batches_that_failed_keep_their_order);
    tcase_add_test(cases, batches_that_failed_in_all_closing_segments_are_appended_again);
    tcase_add_test(cases, a_write_that_lost_one_of_its_batches_is_not_overtaken);
    tcase_add_loop_test(cases, a_failed_batch_finds_room_behind_a_lost_block, 0, 2);
    tcase_add_test(cases, a_failed_write_that_landed_does_not_hide_what_is_listed);
    tcase_add_test(cases, a_failed_write_holds_up_no_earlier_epoch);
    tcase_add_test(cases, a_failed_write_that_landed_is_not_clean);
    tcase_add_test(cases, a_rerouted_write_does_not_undo_a_later_one);
    return unit_run("engine-rerouted", cases);
}
