/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests that change how a volume is served. */
#include "daemon/control-change.h"

#include <stdio.h>

#include "daemon/control-status.h"
#include "daemon/fill-pause.h"
#include "daemon/upkeep.h"

/* The volume that must be named; NULL and *refusal when it is not. */
static struct volume *one_volume(struct control_verbs *verbs, const json_t *request,
                                 const char *verb, json_t **refusal)
{
    struct volume *volume;

    if (control_volume_of(verbs, request, verb, &volume, refusal) && volume == NULL)
        *refusal = control_refusal(verb, "it names no volume");
    return volume;
}

/* ---- pauses of filling ---------------------------------------------------------------------- */

static json_t *answer_fill(const struct volume *volume, bool was_paused)
{
    json_t *result = json_pack("{s:s, s:b}", "volume", volume->name, "was_paused", (int)was_paused);

    fill_pause_json(volume, result);
    return control_success(result);
}

json_t *control_pause_fill(struct control_verbs *verbs, const json_t *request)
{
    const json_t *wanted = json_object_get(request, "seconds");
    json_int_t seconds = wanted != NULL ? json_integer_value(wanted) : FILL_PAUSE_SECONDS;
    json_t *refusal;
    struct volume *volume = one_volume(verbs, request, "pause-fill", &refusal);
    char why[80];

    if (volume == NULL)
        return refusal;
    if (seconds < 1 || seconds > FILL_PAUSE_SECONDS_MAX) {
        snprintf(why, sizeof(why), "a pause takes 1 to %u seconds", FILL_PAUSE_SECONDS_MAX);
        return control_refusal("pause-fill", why);
    }
    fill_pause_begin(volume, (uint64_t)seconds);
    upkeep_kick(verbs->service->upkeep);
    return answer_fill(volume, true);
}

json_t *control_resume_fill(struct control_verbs *verbs, const json_t *request)
{
    json_t *refusal;
    struct volume *volume = one_volume(verbs, request, "resume-fill", &refusal);

    return volume == NULL ? refusal : answer_fill(volume, fill_pause_end(volume));
}

/* ---- jobs ----------------------------------------------------------------------------------- */

const char *control_range_of(const json_t *request, uint64_t bytes, uint64_t *range_offset,
                             uint64_t *range_length)
{
    const json_t *offset = json_object_get(request, "offset");
    const json_t *length = json_object_get(request, "length");

    *range_offset = 0;
    *range_length = bytes;
    if (offset == NULL && length == NULL)
        return NULL;
    if (!json_is_integer(offset) || !json_is_integer(length) || json_integer_value(offset) < 0 ||
        json_integer_value(length) <= 0)
        return "a range is an offset and a length in bytes";
    *range_offset = (uint64_t)json_integer_value(offset);
    *range_length = (uint64_t)json_integer_value(length);
    if (*range_offset > bytes || *range_length > bytes - *range_offset)
        return "the range is not within the volume";
    return NULL;
}

static const char *range_of(const json_t *request, struct job_config *config)
{
    uint64_t bytes = config->volume->bytes, end;
    const char *wrong = control_range_of(request, bytes, &config->offset, &config->length);

    if (wrong != NULL)
        return wrong;
    end = config->offset + config->length;
    if (config->discard &&
        (config->offset % BLOCK_BYTES != 0 || (end % BLOCK_BYTES != 0 && end != bytes)))
        return "a range of which dirty data is discarded begins and ends at multiples of 4096";
    return NULL;
}

static json_t *answer_job(struct control_verbs *verbs, const char *verb, uint64_t id)
{
    struct job_facts facts;

    if (!jobs_facts(verbs->service->jobs, id, &facts))
        return control_refusal(verb, "there is no such job");
    return control_success(json_pack("{s:o}", "job", control_job_facts(&facts)));
}

static json_t *begin_job(struct control_verbs *verbs, const json_t *request, const char *verb,
                         struct job_config *config)
{
    const char *wrong = range_of(request, config);
    uint64_t id;

    if (wrong != NULL)
        return control_refusal(verb, wrong);
    id = jobs_begin(verbs->service->jobs, config);
    return id != 0 ? answer_job(verbs, verb, id)
                   : control_refusal(verb, "too many jobs are running; wait for one to end");
}

static json_t *cancel_jobs(struct control_verbs *verbs, const struct volume *volume)
{
    struct job_facts list[JOBS_MAX];
    unsigned count = jobs_list(verbs->service->jobs, list), cancelled = 0;

    for (unsigned i = 0; i < count; i++) {
        if (list[i].config.volume == volume && list[i].config.kind == JOB_PREFETCH &&
            list[i].state <= JOB_WAITING)
            cancelled += jobs_cancel(verbs->service->jobs, list[i].id);
    }
    return control_success(json_pack("{s:i}", "cancelled", (int)cancelled));
}

json_t *control_prefetch(struct control_verbs *verbs, const json_t *request)
{
    json_t *refusal;
    struct job_config config = {.kind = JOB_PREFETCH,
                                .volume = one_volume(verbs, request, "prefetch", &refusal)};

    if (config.volume == NULL)
        return refusal;
    if (json_is_true(json_object_get(request, "cancel")))
        return cancel_jobs(verbs, config.volume);
    if (config.volume->mode == MODE_PASS_THROUGH || atomic_load(&config.volume->detached))
        return control_refusal("prefetch", "the volume is in pass-through: nothing is cached");
    return begin_job(verbs, request, "prefetch", &config);
}

json_t *control_invalidate(struct control_verbs *verbs, const json_t *request)
{
    json_t *refusal;
    struct job_config config = {.kind = JOB_INVALIDATE,
                                .volume = one_volume(verbs, request, "invalidate", &refusal),
                                .discard = json_is_true(json_object_get(request, "discard_dirty"))};

    if (config.volume == NULL)
        return refusal;
    if (config.discard && config.volume->destage == DESTAGE_ORDERED)
        return control_refusal("invalidate",
                               "dirty data of a volume with ordered destaging cannot be discarded: "
                               "its backing store would be left with a gap; flush it instead");
    return begin_job(verbs, request, "invalidate", &config);
}

json_t *control_job(struct control_verbs *verbs, const json_t *request)
{
    json_int_t id = json_integer_value(json_object_get(request, "id"));

    return answer_job(verbs, "job", id > 0 ? (uint64_t)id : 0);
}
