/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_bulk — the same to many VEs, as one job. */
#include "api/request.h"

#include "api/schema.h"
#include "base/cleanup.h"

/* What the options of each operation look like: as those of its route for one VE. */
static const struct {
    const char *verb, *schema;
} verbs[] = {
    {"start", "NoOptions"},        {"stop", "StopOptions"},       {"restart", "StopOptions"},
    {"kill", "NoOptions"},         {"pause", "NoOptions"},        {"resume", "NoOptions"},
    {"squeeze", "SqueezeOptions"}, {"snapshot", "SnapshotSpec"},  {"update", "UpdateOptions"},
    {"set", "VeChanges"},          {"destroy", "DestroyOptions"}, {"exec", "ExecRequest"},
};

static int check_options(struct request *r, struct err *err)
{
    const char *verb = json_string_value(json_object_get(r->json, "verb"));
    json_t *options = json_object_get(r->json, "options");
    if (!options)
        json_object_set_new(r->json, "options", options = json_object());
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
        if (str_eq(verbs[i].verb, verb))
            return schema_check(r->api->schema, verbs[i].schema, options, err) < 0
                       ? err_wrap(err, "options")
                       : 0;
    return err_set(err, ERR_USAGE, "there is no operation \"%.40s\" on many VEs", verb);
}

int on_bulk(struct request *r, struct err *err)
{
    int64_t job;
    if (check_options(r, err) < 0)
        return -err->kind;
    const json_t *options = json_object_get(r->json, "options");
    if (json_is_true(json_object_get(options, "tty")))
        return err_set(err, ERR_USAGE, "a command in many VEs has no terminal");
    if (json_object_get(options, "name") &&
        str_eq(json_string_value(json_object_get(r->json, "verb")), "set"))
        return err_set(err, ERR_USAGE, "many VEs cannot have one name");
    const char *label = json_string_value(json_object_get(r->json, "label"));
    if ((label && request_check_label(label, err) < 0) ||
        ve_bulk(r->api->node, r->json, &job, err) < 0)
        return -err->kind;
    r->job_is_subject = true; /* that some failed is an answer, with which and why */
    return api_job_answer(r, job, err);
}
