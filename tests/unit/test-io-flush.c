/* SPDX-License-Identifier: Apache-2.0 */
/* Flush coordinators: who joins which flush, on one core and on several. */
#include "io/flush.h"

#include <stdatomic.h>
#include <string.h>

#include "tests/unit/io-cores.h"

#define FLUSH_NS 3000000u

/* A device: a write counts when it is done, a flush makes durable what was done when it started. */
static struct device {
    struct flush_coordinator flush;
    struct core_timer timer;
    atomic_uint written, durable;
    unsigned starts, covers;
    int result;
} device;

static void flushed(struct core *core, struct core_timer *timer)
{
    (void)timer;
    flush_ended(core, &device.flush, device.result);
}

static void start(struct core *core, struct flush_coordinator *coordinator)
{
    ck_assert_ptr_eq(coordinator, &device.flush);
    device.starts++;
    device.covers = atomic_load(&device.written);
    device.timer.expired = flushed;
    core_timer_arm(core, &device.timer, core_now(core) + FLUSH_NS);
}

static void end(struct core *core, struct flush_coordinator *coordinator, int result)
{
    (void)core, (void)coordinator;
    if (result == 0)
        atomic_store(&device.durable, device.covers);
}

static const struct flush_ops ops = {.start = start, .end = end};

static void set_up(int result)
{
    memset(&device, 0, sizeof(device));
    device.result = result;
    flush_init(&device.flush, &ops);
}

struct client {
    struct call call;
    struct flush_waiter waiter;
    struct core *core;
    unsigned needs, left;
    int result;
};

static void done(struct core *core, struct flush_waiter *waiter, int result)
{
    struct client *client = container_of(waiter, struct client, waiter);

    ck_assert_ptr_eq(core, client->core);
    client->result = result;
    io_cores_came();
}

static void join(struct core *core, void *argument)
{
    struct client *clients = argument;

    for (unsigned i = 0; i < 3; i++) {
        clients[i].core = core;
        clients[i].waiter.done = done;
        flush_join(core, &device.flush, &clients[i].waiter);
    }
    ck_assert_uint_eq(device.starts, 0);
}

START_TEST(those_of_one_turn_share_one)
{
    struct client clients[3] = {{.needs = 0}};

    set_up(0);
    io_cores_start(1);
    io_cores_expect(3);
    io_cores_call(0, &clients[0].call, join, clients);
    io_cores_wait();
    cores_stop();
    ck_assert_uint_eq(device.starts, 1);
}
END_TEST

START_TEST(a_failure_reaches_all)
{
    struct client clients[3] = {{.needs = 0}};

    set_up(-5);
    io_cores_start(1);
    io_cores_expect(3);
    io_cores_call(0, &clients[0].call, join, clients);
    io_cores_wait();
    cores_stop();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(clients[i].result, -5);
}
END_TEST

/* The device tells of a failure once; the next flush succeeds. */
static struct client parties[4];
static unsigned party_step;

static void party_next(struct core *core, void *argument);

static void party_told(struct core *core, struct flush_waiter *waiter, int result)
{
    struct client *client = container_of(waiter, struct client, waiter);

    client->result = result;
    device.result = 0;
    if (++party_step < 4)
        party_next(core, NULL);
    else
        io_cores_came();
}

static void party_next(struct core *core, void *argument)
{
    struct client *client = &parties[party_step];

    (void)argument;
    client->waiter.done = party_told;
    flush_join(core, &device.flush, &client->waiter);
}

START_TEST(every_party_is_told_of_a_failure_once)
{
    struct flush_party one = {0}, other = {0};
    struct call call = {0};

    set_up(-5);
    memset(parties, 0, sizeof(parties));
    party_step = 0;
    parties[0].waiter.party = &one;
    parties[1].waiter.party = &one;
    parties[2].waiter.party = &other;
    parties[3].waiter.party = &other;
    io_cores_start(1);
    io_cores_expect(1);
    io_cores_call(0, &call, party_next, NULL);
    io_cores_wait();
    cores_stop();
    ck_assert_int_eq(parties[0].result, -5);
    ck_assert_int_eq(parties[1].result, 0);
    ck_assert_int_eq(parties[2].result, -5);
    ck_assert_int_eq(parties[3].result, 0);
}
END_TEST

/* Each client writes, flushes, and must find its write durable, many times on both cores. */
#define CLIENTS 6u
#define ROUNDS  100u

static void go_on(struct core *core, struct client *client);

static void check(struct core *core, struct flush_waiter *waiter, int result)
{
    struct client *client = container_of(waiter, struct client, waiter);

    ck_assert_int_eq(result, 0);
    ck_assert_ptr_eq(core, client->core);
    ck_assert_uint_ge(atomic_load(&device.durable), client->needs);
    if (--client->left == 0)
        io_cores_came();
    else
        go_on(core, client);
}

static void go_on(struct core *core, struct client *client)
{
    client->needs = atomic_fetch_add(&device.written, 1) + 1;
    flush_join(core, &device.flush, &client->waiter);
}

static void begin(struct core *core, void *argument)
{
    struct client *client = argument;

    client->core = core;
    client->left = ROUNDS;
    client->waiter.done = check;
    go_on(core, client);
}

START_TEST(a_flush_covers_what_was_before_it)
{
    struct client clients[CLIENTS] = {{.needs = 0}};

    set_up(0);
    io_cores_start(2);
    io_cores_expect(CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        io_cores_call(i % 2, &clients[i].call, begin, &clients[i]);
    io_cores_wait();
    cores_stop();
    ck_assert_uint_ge(device.starts, ROUNDS);
    /* Those of a core that ask again at once keep two flushes busy, not three, though the other core stands still meanwhile. */
    ck_assert_uint_le(device.starts, 4 * ROUNDS + CLIENTS);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("io-flush");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, those_of_one_turn_share_one);
    tcase_add_test(cases, a_failure_reaches_all);
    tcase_add_test(cases, every_party_is_told_of_a_failure_once);
    tcase_add_test(cases, a_flush_covers_what_was_before_it);
    return unit_run("io-flush", cases);
}
