/* SPDX-License-Identifier: Apache-2.0 */
/* The event log. */
#include "daemon/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

#define TEXT_BYTES_MAX 1000u

struct event {
    uint64_t number;
    char time[CLOCK_TEXT_BYTES];
    enum log_level level;
    char text[TEXT_BYTES_MAX];
};

/* One for the process, as the log that it listens to. */
static struct {
    char path[PATH_MAX], old_path[PATH_MAX];
    int fd;
    size_t file_bytes;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running, ending;
    uint64_t last;      /* number of the newest event; they begin with 1 */
    uint64_t written;   /* number of the newest that is in the file */
    struct event *ring; /* by number % EVENTS_MAX */
} events = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- taking --------------------------------------------------------------------------------- */

static void event_add(enum log_level level, const char *text, size_t bytes)
{
    struct event *event;

    pthread_mutex_lock(&events.lock);
    event = &events.ring[++events.last % EVENTS_MAX];
    event->number = events.last;
    event->level = level;
    clock_print(event->time);
    if (bytes >= sizeof(event->text))
        bytes = sizeof(event->text) - 1;
    memcpy(event->text, text, bytes);
    event->text[bytes] = '\0';
    pthread_cond_signal(&events.changed);
    pthread_mutex_unlock(&events.lock);
}

/* ---- telling -------------------------------------------------------------------------------- */

static json_t *event_json(const struct event *event)
{
    return json_pack("{s:I, s:s, s:s, s:s}", "number", (json_int_t)event->number, "time",
                     event->time, "level", log_level_name(event->level), "text", event->text);
}

/* The oldest that is still in memory. */
static uint64_t first_kept(void)
{
    return events.last >= EVENTS_MAX ? events.last - EVENTS_MAX + 1 : 1;
}

json_t *events_json(uint64_t after, unsigned most)
{
    json_t *array = json_array();
    uint64_t number, last;

    pthread_mutex_lock(&events.lock);
    last = events.ring != NULL ? events.last : 0;
    number = after + 1 > first_kept() ? after + 1 : first_kept();
    if (last >= most && number < last - most + 1)
        number = last - most + 1;
    for (; number <= last; number++) {
        const struct event *event = &events.ring[number % EVENTS_MAX];

        if (event->number == number) /* not one that an unreadable line left out */
            json_array_append_new(array, event_json(event));
    }
    pthread_mutex_unlock(&events.lock);
    return json_pack("{s:I, s:o}", "last", (json_int_t)last, "events", array);
}

/* ---- the files ------------------------------------------------------------------------------ */

/* Events of an earlier run.  A line that is not one was cut off by a crash. */
static void file_read(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t bytes = 0;

    while (file != NULL && getline(&line, &bytes, file) > 0) {
        const char *time = "", *level = "", *text = "";
        json_t *json = json_loads(line, 0, NULL);
        enum log_level number_of_level;
        json_int_t number = 0;

        if (json_unpack(json, "{s:I, s:s, s:s, s:s}", "number", &number, "time", &time, "level",
                        &level, "text", &text) == 0 &&
            number > (json_int_t)events.last && log_level_parse(level, &number_of_level) == 0) {
            struct event *event = &events.ring[number % EVENTS_MAX];

            events.last = (uint64_t)number;
            event->number = events.last;
            event->level = number_of_level;
            snprintf(event->time, sizeof(event->time), "%s", time);
            snprintf(event->text, sizeof(event->text), "%s", text);
        }
        json_decref(json);
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

static void file_replace(void)
{
    int fd;

    if (events.file_bytes < EVENTS_FILE_BYTES_MAX || rename(events.path, events.old_path) != 0)
        return;
    fd = open(events.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        return;
    close(events.fd);
    events.fd = fd;
    events.file_bytes = 0;
}

/* What cannot be written is in the daemon's log all the same. */
static void file_write(const struct event *event)
{
    json_t *json = event_json(event);
    char *text = json_dumps(json, JSON_COMPACT);
    size_t bytes = text != NULL ? strlen(text) : 0;

    json_decref(json);
    if (text == NULL)
        return;
    text[bytes] = '\n'; /* instead of the NUL */
    if (write(events.fd, text, bytes + 1) > 0)
        events.file_bytes += bytes + 1;
    free(text);
    file_replace();
}

static void *events_thread(void *opaque)
{
    (void)opaque;
    pthread_setname_np(pthread_self(), "events");
    pthread_mutex_lock(&events.lock);
    for (;;) {
        struct event event;

        while (events.written == events.last && !events.ending)
            pthread_cond_wait(&events.changed, &events.lock);
        if (events.written == events.last)
            break;
        if (events.written + 1 < first_kept())
            events.written = first_kept() - 1;
        event = events.ring[++events.written % EVENTS_MAX];
        pthread_mutex_unlock(&events.lock);
        file_write(&event);
        pthread_mutex_lock(&events.lock);
    }
    pthread_mutex_unlock(&events.lock);
    return NULL;
}

/* ---- life ----------------------------------------------------------------------------------- */

static int file_open(const char *state_dir)
{
    struct stat status;

    if (mkdir(state_dir, 0750) != 0 && errno != EEXIST)
        return -errno;
    snprintf(events.path, sizeof(events.path), "%s/events", state_dir);
    snprintf(events.old_path, sizeof(events.old_path), "%s/events.old", state_dir);
    file_read(events.old_path);
    file_read(events.path);
    events.written = events.last;
    events.fd = open(events.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (events.fd < 0)
        return -errno;
    events.file_bytes = fstat(events.fd, &status) == 0 ? (size_t)status.st_size : 0;
    return 0;
}

int events_begin(const char *state_dir, char *why, size_t why_bytes)
{
    int error;

    events.ring = calloc(EVENTS_MAX, sizeof(*events.ring));
    error = events.ring == NULL ? -ENOMEM : file_open(state_dir);
    if (!error)
        error = -pthread_create(&events.thread, NULL, events_thread, NULL);
    if (error) {
        snprintf(why, why_bytes, "daemon.state_dir %s: the event log cannot be written: %s",
                 state_dir, strerror(-error));
        if (events.fd >= 0)
            close(events.fd);
        free(events.ring);
        events.ring = NULL;
        return error;
    }
    events.running = true;
    log_listen(event_add, LOG_LEVEL_NOTICE);
    return 0;
}

void events_end(void)
{
    if (!events.running)
        return;
    log_listen(NULL, LOG_LEVEL_ERROR);
    pthread_mutex_lock(&events.lock);
    events.ending = true;
    pthread_cond_signal(&events.changed);
    pthread_mutex_unlock(&events.lock);
    pthread_join(events.thread, NULL);
    close(events.fd);
    free(events.ring);
    events.ring = NULL;
    events.running = false;
}
