/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests that change how a volume is served. */
#include "daemon/control-change.h"

#include <stdio.h>

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
