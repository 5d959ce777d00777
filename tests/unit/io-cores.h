/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the I/O layer: running a function on a core and waiting for what it started. */
#ifndef TESTS_UNIT_IO_CORES_H
#define TESTS_UNIT_IO_CORES_H

#include <pthread.h>
#include <stdio.h>

#include "io/core.h"
#include "tests/unit/unit.h"

/* A call on a core.  `left` counts what must end before io_cores_wait returns. */
struct call {
    struct core_message message;
    void (*run)(struct core *core, void *argument);
    void *argument;
};

static pthread_mutex_t io_cores_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t io_cores_changed = PTHREAD_COND_INITIALIZER;
static unsigned io_cores_left;

static inline void io_cores_expect(unsigned count)
{
    pthread_mutex_lock(&io_cores_lock);
    io_cores_left += count;
    pthread_mutex_unlock(&io_cores_lock);
}

/* One of what was expected came. */
static inline void io_cores_came(void)
{
    pthread_mutex_lock(&io_cores_lock);
    io_cores_left--;
    pthread_cond_broadcast(&io_cores_changed);
    pthread_mutex_unlock(&io_cores_lock);
}

static inline void io_cores_wait(void)
{
    pthread_mutex_lock(&io_cores_lock);
    while (io_cores_left > 0)
        pthread_cond_wait(&io_cores_changed, &io_cores_lock);
    pthread_mutex_unlock(&io_cores_lock);
}

static inline void io_cores_handle(struct core *core, struct core_message *message)
{
    struct call *call = container_of(message, struct call, message);

    call->run(core, call->argument);
}

/* Starts `run` there; `call` must live until it ran. */
static inline void io_cores_call(unsigned core, struct call *call,
                                 void (*run)(struct core *core, void *argument), void *argument)
{
    call->message.handle = io_cores_handle;
    call->run = run;
    call->argument = argument;
    core_message_send(core_at(core), &call->message);
}

static inline void io_cores_start(unsigned count)
{
    struct cores_config config = {.count = count, .buffer_bytes = 16u << 20};
    char why[256] = "";
    int error = cores_start(&config, why, sizeof(why));

    ck_assert_msg(error == 0, "%s", why);
}

#endif
