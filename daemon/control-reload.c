/* SPDX-License-Identifier: Apache-2.0 */
/* Control requests that change what is in service. */
#include <stdio.h>
#include <string.h>

#include "daemon/change.h"
#include "daemon/control-change.h"

static json_t *answer(struct control_verbs *verbs, const char *verb, uint64_t id)
{
    json_t *change = changes_json(verbs->service->changes, id);

    return json_is_null(change) ? control_refusal(verb, "there is no such change")
                                : control_success(json_pack("{s:o}", "change", change));
}

static json_t *ask(struct control_verbs *verbs, const char *verb,
                   const struct change_request *request)
{
    uint64_t id = changes_ask(verbs->service->changes, request);

    return id != 0 ? answer(verbs, verb, id)
                   : control_refusal(verb, "too many changes wait; wait for one to end");
}

/* False: *refusal says why. */
static bool take_name(const json_t *request, const char *verb, struct change_request *change,
                      json_t **refusal)
{
    const char *name = json_string_value(json_object_get(request, "volume"));

    if (name == NULL || *name == '\0' || strlen(name) >= sizeof(change->volume)) {
        *refusal = control_refusal(verb, "it names no volume");
        return false;
    }
    snprintf(change->volume, sizeof(change->volume), "%s", name);
    return true;
}

json_t *control_attach(struct control_verbs *verbs, const json_t *request)
{
    struct change_request change = {.kind = CHANGE_ATTACH};
    json_t *refusal;

    if (!take_name(request, "attach", &change, &refusal))
        return refusal;
    return ask(verbs, "attach", &change);
}

json_t *control_detach(struct control_verbs *verbs, const json_t *request)
{
    struct change_request change = {.kind = CHANGE_DETACH,
                                    .flush = json_is_true(json_object_get(request, "flush")),
                                    .force = json_is_true(json_object_get(request, "force"))};
    json_t *refusal;

    if (!take_name(request, "detach", &change, &refusal))
        return refusal;
    if (!json_is_true(json_object_get(request, "cancel")))
        return ask(verbs, "detach", &change);
    if (!changes_cancel(verbs->service->changes, change.volume))
        return control_refusal("detach", "the volume is not being detached");
    return control_success(json_pack("{s:b}", "cancelled", 1));
}

json_t *control_reload(struct control_verbs *verbs, const json_t *request)
{
    (void)request;
    return ask(verbs, "reload", &(struct change_request){.kind = CHANGE_RELOAD});
}

json_t *control_change(struct control_verbs *verbs, const json_t *request)
{
    json_int_t id = json_integer_value(json_object_get(request, "id"));

    return answer(verbs, "change", id > 0 ? (uint64_t)id : 0);
}
