/* SPDX-License-Identifier: Apache-2.0 */
/* I/O buffers of a core: sizes, alignment, headroom, the bound, and who gets the next one. */
#include <string.h>

#include "engine/format.h"
#include "io/core.h"
#include "tests/unit/io-cores.h"

#define MANY 20000u

static struct buffer *taken[MANY];

static void run_on_core(void (*run)(struct core *core, void *argument))
{
    struct call call;

    io_cores_start(1);
    io_cores_expect(1);
    io_cores_call(0, &call, run, NULL);
    io_cores_wait();
    cores_stop();
}

static void check_shapes(struct core *core, void *argument)
{
    static const uint32_t sizes[] = {
        1,      512,     4096,    4097,    16384,    65536,           100000,
        262144, 1048576, 1048577, 8 << 20, 33 << 20, BUFFER_BYTES_MAX};

    (void)argument;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buffer *buffer = core_buffer_take(core, sizes[i]);

        ck_assert_ptr_nonnull(buffer);
        ck_assert_uint_ge(buffer->bytes, sizes[i]);
        ck_assert_uint_eq((uintptr_t)buffer->data % BLOCK_BYTES, 0);
        memset(buffer->data - BLOCK_BYTES, 0x5a, BLOCK_BYTES); /* headroom is ours */
        memset(buffer->data, 0xa5, sizes[i]);
        ck_assert_int_eq(
            buffer->registered >= 0,
            core_buffer_index(core, buffer->data - BLOCK_BYTES, buffer->bytes + BLOCK_BYTES) >= 0);
        core_buffer_give(core, buffer);
    }
    io_cores_came();
}

START_TEST(every_size_is_aligned_and_has_headroom)
{
    run_on_core(check_shapes);
}
END_TEST

/* Takes until there is none; no two overlap, headroom included. */
static unsigned take_all(struct core *core, uint32_t bytes)
{
    unsigned count = 0;

    while (count < MANY && (taken[count] = core_buffer_take(core, bytes)) != NULL) {
        memset(taken[count]->data - BLOCK_BYTES, (int)count, BLOCK_BYTES + 512);
        count++;
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned b = 0; b < BLOCK_BYTES + 512; b += 512)
            ck_assert_uint_eq((taken[i]->data - BLOCK_BYTES)[b], (unsigned char)i);
    }
    return count;
}

/* Every third first, then the rest: not in the order they were taken. */
static void give_all(struct core *core, unsigned count)
{
    for (unsigned start = 0; start < 3; start++) {
        for (unsigned i = start; i < count; i += 3)
            core_buffer_give(core, taken[i]);
    }
}

static void check_bound(struct core *core, void *argument)
{
    static const uint32_t sizes[] = {4096, 1048576, 65536, 4096, 8 << 20};

    (void)argument;
    /* Each class in turn gets all of the memory, whatever had it before. */
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned count = take_all(core, sizes[i]);

        ck_assert_uint_gt(count, 0);
        ck_assert_uint_lt((uint64_t)count * sizes[i], 128u << 20);
        if (sizes[i] <= 1048576)
            ck_assert_uint_ge((uint64_t)count * sizes[i], 6u << 20);
        give_all(core, count);
    }
    io_cores_came();
}

START_TEST(the_bound_holds_and_classes_share_memory)
{
    run_on_core(check_bound);
}
END_TEST

/* ---- waiting ------------------------------------------------------------------------------ */

#define WAITERS 5u

static struct waiter {
    struct core_buffer_waiter waiter;
    uint32_t bytes;
    struct buffer *buffer;
    unsigned place;
} waiters[WAITERS];

static unsigned served, all_count;

static void ready(struct core *core, struct core_buffer_waiter *waiting)
{
    struct waiter *waiter = container_of(waiting, struct waiter, waiter);

    waiter->buffer = core_buffer_take(core, waiter->bytes);
    if (waiter->buffer == NULL) {
        core_buffer_wait(core, waiting);
        return;
    }
    waiter->place = served++;
    if (served < WAITERS)
        return;
    for (unsigned i = 0; i < WAITERS; i++) {
        ck_assert_uint_eq(waiters[i].place, i);
        core_buffer_give(core, waiters[i].buffer);
    }
    io_cores_came();
}

static void queue_waiters(struct core *core, void *argument)
{
    (void)argument;
    all_count = take_all(core, 1048576);
    for (unsigned i = 0; i < WAITERS; i++) {
        waiters[i].waiter.ready = ready;
        waiters[i].bytes = i % 2 ? 4096 : 1048576;
        core_buffer_wait(core, &waiters[i].waiter);
    }
    /* One that is free is for the first waiter, not for whoever asks now. */
    core_buffer_give(core, taken[--all_count]);
    ck_assert_ptr_null(core_buffer_take(core, 4096));
    while (all_count > 0)
        core_buffer_give(core, taken[--all_count]);
}

START_TEST(waiters_are_served_in_their_order)
{
    run_on_core(queue_waiters);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-buffer");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, every_size_is_aligned_and_has_headroom);
    tcase_add_test(cases, the_bound_holds_and_classes_share_memory);
    tcase_add_test(cases, waiters_are_served_in_their_order);
    return unit_run("io-buffer", cases);
}
