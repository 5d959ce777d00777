/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that looks for holes. */
#include "io/backing-seek.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "common/log.h"
#include "io/extents.h"

/* Looks for what begins next at `from`; `to` when there is none before it. */
static uint64_t find(int fd, int whence, uint64_t from, uint64_t to)
{
    off_t found = lseek(fd, (off_t)from, whence);

    return found < 0 || (uint64_t)found > to ? to : (uint64_t)found;
}

static void look(int fd, struct backing_io *io)
{
    uint64_t at = io->offset, end = io->offset + io->end;

    /* A file system without holes, or what else is wrong: all of it is data. */
    if (lseek(fd, (off_t)at, SEEK_DATA) < 0 && errno != ENXIO) {
        extent_list_add(io->extents, io->end, 0);
        return;
    }
    while (at < end) {
        uint64_t data = find(fd, SEEK_DATA, at, end);
        uint64_t hole = find(fd, SEEK_HOLE, data, end);

        if (!extent_list_add(io->extents, data - at, EXTENT_HOLE | EXTENT_ZERO) ||
            !extent_list_add(io->extents, hole - data, 0))
            return;
        if (hole == at) { /* the file was changed under our eyes */
            extent_list_add(io->extents, end - at, 0);
            return;
        }
        at = hole;
    }
}

static void returned(struct core *core, struct core_message *message)
{
    struct backing_io *io = container_of(message, struct backing_io, message);

    io->done(core, io, 0);
}

static void *run(void *opaque)
{
    struct backing_seek *seek = opaque;

    pthread_setname_np(pthread_self(), "seek");
    pthread_mutex_lock(&seek->lock);
    while (!seek->ending) {
        struct backing_io *io = list_first_entry(&seek->waiting, struct backing_io, link);

        if (io == NULL) {
            pthread_cond_wait(&seek->changed, &seek->lock);
            continue;
        }
        list_remove(&io->link);
        pthread_mutex_unlock(&seek->lock);
        look(seek->fd, io);
        io->message.handle = returned;
        core_message_send(io->core, &io->message);
        pthread_mutex_lock(&seek->lock);
    }
    pthread_mutex_unlock(&seek->lock);
    return NULL;
}

void backing_seek_init(struct backing_seek *seek, int fd)
{
    seek->fd = fd;
    pthread_mutex_init(&seek->lock, NULL);
    pthread_cond_init(&seek->changed, NULL);
    list_init(&seek->waiting);
}

void backing_seek_end(struct backing_seek *seek)
{
    assert(list_empty(&seek->waiting));
    if (seek->started) {
        pthread_mutex_lock(&seek->lock);
        seek->ending = true;
        pthread_cond_signal(&seek->changed);
        pthread_mutex_unlock(&seek->lock);
        pthread_join(seek->thread, NULL);
    }
    pthread_cond_destroy(&seek->changed);
    pthread_mutex_destroy(&seek->lock);
}

void backing_seek_start(struct backing_seek *seek, struct backing_io *io)
{
    pthread_mutex_lock(&seek->lock);
    if (!seek->started)
        seek->started = pthread_create(&seek->thread, NULL, run, seek) == 0;
    if (seek->started) {
        list_add_tail(&seek->waiting, &io->link);
        pthread_cond_signal(&seek->changed);
    }
    pthread_mutex_unlock(&seek->lock);
    if (!seek->started)
        io->done(io->core, io, -EAGAIN);
}
