/* SPDX-License-Identifier: Apache-2.0 */
/* The core loop: messages between threads, timers, deferred work, and that sleepers wake. */
#include "io/core.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/io-cores.h"

/* ---- messages ----------------------------------------------------------------------------- */

#define ROUNDS 20000u

struct ball {
    struct core_message message;
    unsigned bounces; /* only the core that has it touches it */
};

static void bounce(struct core *core, struct core_message *message)
{
    struct ball *ball = container_of(message, struct ball, message);

    if (++ball->bounces == ROUNDS)
        io_cores_came();
    else
        core_message_send(core_at((core_index(core) + 1) % core_count()), &ball->message);
}

/* Both cores sleep again and again: a lost wake-up would hang this. */
START_TEST(messages_bounce_between_cores)
{
    struct ball balls[3] = {{.bounces = 0}};

    io_cores_start(2);
    io_cores_expect(3);
    for (unsigned i = 0; i < 3; i++) {
        balls[i].message.handle = bounce;
        core_message_send(core_at(i % 2), &balls[i].message);
    }
    io_cores_wait();
    cores_stop();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(balls[i].bounces, ROUNDS);
}
END_TEST

#define SENDERS  3u
#define MESSAGES 5000u

struct numbered {
    struct core_message message;
    unsigned sender, number;
};

static unsigned next_number[SENDERS]; /* of the receiving core */
static atomic_uint out_of_order;

static void take_number(struct core *core, struct core_message *message)
{
    struct numbered *numbered = container_of(message, struct numbered, message);

    (void)core;
    if (numbered->number != next_number[numbered->sender]++)
        atomic_fetch_add(&out_of_order, 1);
    io_cores_came();
}

static void *send_numbers(void *argument)
{
    struct numbered *all = argument;

    for (unsigned i = 0; i < MESSAGES; i++) {
        core_message_send(core_at(0), &all[i].message);
        if (i % 512 == 0)
            usleep(200); /* lets the core fall asleep now and then */
    }
    return NULL;
}

START_TEST(messages_of_a_thread_keep_their_order)
{
    static struct numbered all[SENDERS][MESSAGES];
    pthread_t threads[SENDERS];

    io_cores_start(1);
    io_cores_expect(SENDERS * MESSAGES);
    for (unsigned s = 0; s < SENDERS; s++) {
        for (unsigned i = 0; i < MESSAGES; i++)
            all[s][i] = (struct numbered){{.handle = take_number}, s, i};
        pthread_create(&threads[s], NULL, send_numbers, all[s]);
    }
    io_cores_wait();
    for (unsigned s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
    cores_stop();
    ck_assert_uint_eq(atomic_load(&out_of_order), 0);
}
END_TEST

/* ---- timers ------------------------------------------------------------------------------- */

#define TIMERS 50u

struct timed {
    struct core_timer timer;
    unsigned place;
    uint64_t late_ns;
};

static unsigned expired_count;

static void expired(struct core *core, struct core_timer *timer)
{
    struct timed *timed = container_of(timer, struct timed, timer);

    timed->place = expired_count++;
    timed->late_ns = core_now(core) - timer->due_ns;
    ck_assert(core_now(core) >= timer->due_ns);
    io_cores_came();
}

static void arm_timers(struct core *core, void *argument)
{
    struct timed *all = argument;

    /* In a scrambled order, and each moved once. */
    for (unsigned i = 0; i < TIMERS; i++) {
        unsigned pick = i * 37 % TIMERS;

        all[pick].timer.expired = expired;
        core_timer_arm(core, &all[pick].timer, core_now(core) + 3600000000000u);
        core_timer_arm(core, &all[pick].timer, core_now(core) + (pick + 1) * 2000000u);
    }
    /* One of them not at all. */
    core_timer_disarm(core, &all[7].timer);
    core_timer_disarm(core, &all[7].timer);
}

START_TEST(timers_expire_in_order_and_not_early)
{
    static struct timed all[TIMERS];
    struct call call;

    io_cores_start(1);
    io_cores_expect(TIMERS - 1);
    io_cores_call(0, &call, arm_timers, all);
    io_cores_wait();
    cores_stop();
    for (unsigned i = 0; i < TIMERS; i++) {
        if (i != 7)
            ck_assert_uint_eq(all[i].place, i < 7 ? i : i - 1);
    }
    ck_assert(!all[7].timer.armed);
}
END_TEST

struct periodic {
    struct core_timer timer;
    unsigned runs;
};

static void run_again(struct core *core, struct core_timer *timer)
{
    struct periodic *periodic = container_of(timer, struct periodic, timer);

    if (++periodic->runs == 20)
        io_cores_came();
    else
        core_timer_arm(core, timer, core_now(core)); /* at once: must not hang the turn */
}

static void start_periodic(struct core *core, void *argument)
{
    struct periodic *periodic = argument;

    periodic->timer.expired = run_again;
    core_timer_arm(core, &periodic->timer, core_now(core));
}

START_TEST(a_timer_that_arms_itself_lets_others_run)
{
    struct periodic periodic = {.runs = 0};
    struct call call;

    io_cores_start(1);
    io_cores_expect(1);
    io_cores_call(0, &call, start_periodic, &periodic);
    io_cores_wait();
    cores_stop();
    ck_assert_uint_eq(periodic.runs, 20);
}
END_TEST

/* ---- deferred work and completions -------------------------------------------------------- */

struct work {
    struct core_deferred deferred;
    struct core_op op;
    unsigned runs, completions;
};

static void completed(struct core *core, struct core_op *op, int32_t result, uint32_t flags)
{
    struct work *work = container_of(op, struct work, op);

    (void)core, (void)flags;
    ck_assert_int_eq(result, 0);
    if (++work->completions == 3000)
        io_cores_came();
}

static void run_work(struct core *core, struct core_deferred *deferred)
{
    struct work *work = container_of(deferred, struct work, deferred);

    work->runs++;
    /* More than the submission ring holds. */
    for (unsigned i = 0; i < 3000; i++) {
        struct io_uring_sqe *sqe = core_sqe(core);

        io_uring_prep_nop(sqe);
        core_sqe_to(sqe, &work->op);
    }
}

static void defer_twice(struct core *core, void *argument)
{
    struct work *work = argument;

    work->deferred.run = run_work;
    work->op.done = completed;
    core_defer(core, &work->deferred);
    core_defer(core, &work->deferred);
    ck_assert_uint_eq(work->runs, 0);
}

START_TEST(deferred_work_runs_once_and_a_full_ring_is_submitted)
{
    struct work work = {.runs = 0};
    struct call call;

    io_cores_start(1);
    io_cores_expect(1);
    io_cores_call(0, &call, defer_twice, &work);
    io_cores_wait();
    cores_stop();
    ck_assert_uint_eq(work.runs, 1);
    ck_assert_uint_eq(work.completions, 3000);
}
END_TEST

static void check_files(struct core *core, void *argument)
{
    int fds[2], slot;

    (void)argument;
    ck_assert_int_eq(pipe(fds), 0);
    slot = core_file_take(core, fds[0]);
    ck_assert_int_ge(slot, 0);
    core_file_give(core, slot);
    ck_assert_int_eq(core_file_take(core, fds[1]), slot);
    core_file_give(core, slot);
    close(fds[0]);
    close(fds[1]);
    io_cores_came();
}

START_TEST(files_are_registered_and_given_back)
{
    struct call call;

    io_cores_start(1);
    io_cores_expect(1);
    io_cores_call(0, &call, check_files, NULL);
    io_cores_wait();
    cores_stop();
}
END_TEST

START_TEST(a_core_on_no_processor_is_refused)
{
    unsigned processor = 100000;
    struct cores_config config = {.count = 1, .processors = &processor};
    char why[256] = "";

    ck_assert_int_lt(cores_start(&config, why, sizeof(why)), 0);
    ck_assert_ptr_nonnull(strstr(why, "processor 100000"));
    ck_assert_uint_eq(core_count(), 0);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-core");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, messages_bounce_between_cores);
    tcase_add_test(cases, messages_of_a_thread_keep_their_order);
    tcase_add_test(cases, timers_expire_in_order_and_not_early);
    tcase_add_test(cases, a_timer_that_arms_itself_lets_others_run);
    tcase_add_test(cases, deferred_work_runs_once_and_a_full_ring_is_submitted);
    tcase_add_test(cases, files_are_registered_and_given_back);
    tcase_add_test(cases, a_core_on_no_processor_is_refused);
    return unit_run("io-core", cases);
}
