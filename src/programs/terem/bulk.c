/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bulk.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "text.h"

#include <string.h>

#define LINES_MAX 20 /* more VEs have no line each where a line shows how far all are */

int bulk_is_meant(const struct args *a, size_t names, const char *label_option, struct err *err)
{
    bool all = args_has(a, "all"), label = args_has(a, label_option);
    if ((names > 0) + all + label > 1)
        return err_set(err, ERR_USAGE, "give names, or --all, or --%s: not more than one",
                       label_option);
    if (!names && !all && !label)
        return err_set(err, ERR_USAGE, "terem %s needs names of VEs, or --%s, or --all%s",
                       a->command->name, label_option,
                       args_has(a, "label") ? "; --label is what they get" : "");
    return names != 1;
}

struct showing {
    struct cli *cli;
    const struct bulk *bulk;
    json_t *told;     /* of whom: names */
    json_t *failures; /* cause: list of names, in the order in which they came */
    struct err err;
};

/* Hundreds may fail for one cause, which is said once, of all of them (tell_failures). */
static void note_failure(struct showing *s, const char *name, const char *text)
{
    size_t n = strlen(name);
    const char *cause = text;
    if (str_starts(text, name) && text[n] == ':')
        cause = text + n + 1 + (text[n + 1] == ' ');
    json_t *names = json_object_get(s->failures, cause);
    if (!names)
        json_object_set_new(s->failures, cause, names = json_array());
    json_array_append_new(names, json_string(name));
}

/* "web1, web2 and 3 more: it is running already". */
static void tell_failures(struct showing *s, const json_t *job)
{
    const char *cause;
    json_t *names;
    bool cut = false;
    json_object_foreach(s->failures, cause, names)
    {
        auto_str struct str list = str_init(TEXT_MAX);
        size_t n = 0, i, count = json_array_size(names);
        const json_t *name;
        json_array_foreach(names, i, name) str_add_name(&list, &n, json_string_value(name));
        str_end_names(&list, n);
        cut |= count > STR_NAMES;
        if (count == 1 && str_starts(cause, str_c(&list)) && cause[list.len] == ' ')
            cli_complain("%s", cause); /* it names the VE */
        else
            cli_complain("%s: %s", str_c(&list), cause);
    }
    if (cut && cli_int(job, "id") > 0)
        cli_complain("terem jobs show %" JSON_INTEGER_FORMAT " --json names each of them",
                     cli_int(job, "id"));
}

/* "web1: started"; why not is told at the end. */
static void show_item(struct showing *s, const json_t *job, const json_t *item)
{
    const json_t *error = json_object_get(item, "error");
    const char *name = cli_text(item, "ve"), *text = cli_text(error, "message");
    const struct work_words *words = &s->bulk->words;
    bool many = cli_int(json_object_get(job, "result"), "total") > LINES_MAX;
    if (json_object_get(s->told, name))
        return;
    json_object_set_new(s->told, name, json_true());
    if (!json_is_object(error) && !s->bulk->silent && (!many || !s->cli->err_live)) {
        const char *done = words->done;
        if (words->current &&
            json_is_true(json_object_get(json_object_get(item, "result"), "current")))
            done = words->current;
        cli_say(s->cli, "%s: %s", name, done ? done : cli_text_or(item, "text", "done"));
    }
    if (s->bulk->item && s->err.kind == ERR_NONE && !s->cli->json)
        s->bulk->item(s->cli, item, &s->err);
    if (json_is_object(error))
        note_failure(s, name, text);
}

static void on_item(void *ctx, const json_t *job)
{
    show_item(ctx, job, json_object_get(job, "item"));
}

/* Events that a slow reader missed: at its end the job tells of all. */
static void show_missed(struct showing *s, const json_t *job)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(json_object_get(job, "result"), "items"), i, item)
    {
        if (!str_eq(cli_text(item, "state"), "cancelled") || !cli_is_null(item, "error"))
            show_item(s, job, item);
    }
}

static size_t count(const json_t *result, const char *key)
{
    return (size_t)cli_int(result, key);
}

/* Nobody to start may be because they are paused, which start does not end. */
static void tell_none(struct cli *cli, const char *verb, const char *label)
{
    auto_json json_t *ves = NULL;
    size_t i, paused = 0;
    json_t *ve;
    if (str_eq(verb, "start") && !cli->quiet &&
        cli_list_ves(cli, label, "state", &ves, &(struct err){0}) == 0)
        json_array_foreach(ves, i, ve) paused += str_eq(cli_text(ve, "state"), "paused");
    if (paused)
        cli_say(cli, "no VE to start; %zu %s paused: terem resume %s%s lets %s go on", paused,
                paused == 1 ? "is" : "are", label ? "--label " : "--all", label ? label : "",
                paused == 1 ? "it" : "them");
    else
        cli_say(cli, "no VE to %s", verb);
}

/* What became of all, where the lines have not told it. */
static void tell_all(struct cli *cli, const struct bulk *bulk, const char *label, const json_t *job)
{
    const json_t *result = json_object_get(job, "result");
    const char *why = cli_text(json_object_get(job, "error"), "message");
    size_t total = count(result, "total"), failed = count(result, "failed"), left;
    size_t cancelled = count(result, "cancelled");
    if (total == 0 && label && count(result, "matched") == 0) {
        if (!cli->quiet) /* not a failure, as with kubectl; but perhaps a mistake */
            cli_complain("no VE has the label %s", label);
        return;
    }
    const char *to = cli_text(bulk->options, "to");
    if ((left = count(result, "left")))
        cli_say(cli, "%zu VE%s and %s left as %s; terem update --restart%s%s moves %s, too", left,
                left == 1 ? " runs" : "s run", left == 1 ? "is" : "are",
                left == 1 ? "it is" : "they are", *to ? " --to " : "", to,
                left == 1 ? "it" : "them");
    if (total == 0)
        tell_none(cli, bulk->verb, label);
    else if (str_eq(cli_text(job, "state"), "cancelled") && *why)
        cli_complain("%s", why); /* how many were done, and how many not begun */
    else if (failed && cancelled)
        cli_complain("%zu of %zu failed, and %zu were cancelled", failed, total, cancelled);
    else if (failed)
        cli_complain("%zu of %zu failed", failed, total);
    else if (cancelled)
        cli_complain("%zu of %zu were cancelled", cancelled, total);
    else if (total > LINES_MAX && !bulk->silent)
        cli_say(cli, "%zu VEs: %s", total, bulk->words.done ? bulk->words.done : "done");
}

static int put_names(json_t *request, const struct bulk *bulk, struct err *err)
{
    json_t *list = json_array();
    json_object_set_new(request, "ves", list);
    for (size_t i = 0; i < bulk->n; i++) {
        if (name_check_ve(bulk->names[i], err) < 0)
            return -err->kind;
        json_array_append_new(list, json_string(bulk->names[i]));
    }
    return 0;
}

static int put_which(json_t *request, const struct args *a, const char *label, struct err *err)
{
    if (args_has(a, "all"))
        json_object_set_new(request, "all", json_true());
    if (!label)
        return 0;
    auto_str struct str unused = str_init(4096);
    json_object_set_new(request, "label", json_string(label));
    return cli_label_query(&unused, label, err);
}

/* request: NULL for a job that was begun before. */
static int watch(struct showing *s, const char *path, json_t *request, const char *label,
                 bool no_wait, struct err *err)
{
    struct cli *cli = s->cli;
    struct work *w = work_new(1);
    if (!w || !(w->path = strdup(path))) {
        work_free(w, 1);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    w->subject = s->bulk->verb;
    w->method = request ? "POST" : "GET";
    w->body = json_incref(request);
    w->item = on_item;
    w->ctx = s;
    int r = work_run(cli, w, 1, &s->bulk->words, false, no_wait, err);
    bool told = w->ended && !no_wait && json_object_get(json_object_get(w->doc, "result"), "items");
    if (told)
        show_missed(s, w->doc);
    tell_failures(s, w->doc);
    if (told) {
        if (!cli->json)
            tell_all(cli, s->bulk, label, w->doc);
        if (r < 0) /* each was told */
            r = -ERR_SYSTEM;
        err_clear(err);
    }
    if (r == 0 && s->err.kind) {
        *err = s->err;
        r = -err->kind;
    }
    work_free(w, 1);
    return r;
}

int bulk_run(struct cli *cli, const struct args *a, const struct bulk *bulk, struct err *err)
{
    auto_json json_t *request = json_pack("{s:s}", "verb", bulk->verb);
    auto_json json_t *told = json_object(), *failures = json_object();
    struct showing s = {.cli = cli, .bulk = bulk, .told = told, .failures = failures};
    const char *label = bulk->names ? NULL : args_get(a, bulk->label_option);
    int r = bulk->names ? put_names(request, bulk, err) : put_which(request, a, label, err);
    if (r < 0)
        return r;
    json_object_set(request, "options", (json_t *)bulk->options);
    if (args_has(a, "stop-on-failure"))
        json_object_set_new(request, "stop_on_failure", json_true());
    return watch(&s, "/v1/bulk", request, label, args_has(a, "no-wait"), err);
}

int bulk_wait(struct cli *cli, const char *path, const struct bulk *bulk, struct err *err)
{
    auto_json json_t *told = json_object(), *failures = json_object();
    struct showing s = {.cli = cli, .bulk = bulk, .told = told, .failures = failures};
    return watch(&s, path, NULL, NULL, false, err);
}
